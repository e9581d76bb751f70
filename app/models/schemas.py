"""What the models routes answer."""

from __future__ import annotations

from typing import Any, Literal

from app.adapt.source import Source
from app.kit.schema import Schema
from app.models.tables import Model


class ModelOut(Schema):
    """A finished model. `created` is in unix seconds; metrics are named `<set>/<metric>`.

    `lineage` is what it descends from, the oldest first; `tasks` the kinds of a multi-task model's tasks by
    the names that predict calls have for them.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    base: str
    task: str
    metrics: dict[str, float]
    job_id: str | None
    bytes: int
    lineage: list[dict[str, Any]]
    tasks: dict[str, str] | None

    @classmethod
    def of(cls, model: Model) -> ModelOut:
        """Build the answer from a row."""
        facts: dict[str, Any] = model.manifest.get("facts", {})
        tasks: dict[str, Any] = facts.get("tasks") or {}
        return cls.model_construct(
            id=model.id,
            created=int(model.created_at),
            owned_by=model.tenant_id,
            base=model.base,
            task=model.task,
            metrics=model.metrics,
            job_id=model.job_id,
            bytes=model.bytes,
            lineage=facts.get("lineage", []),
            tasks={name: each["task"]["kind"] for name, each in tasks.items()} or None,
        )


class BaseModelOut(Schema):
    """A base model on this server: what `model` may name in a job, without any download."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "base"
    kind: str
    architecture: str | None
    revision: str | None
    sha256: str | None

    @classmethod
    def of(cls, source: Source) -> BaseModelOut:
        """Build the answer from a source."""
        return cls(
            id=source.id,
            kind=source.kind,
            architecture=source.config.get("model_type"),
            revision=source.revision,
            sha256=source.sha256,
        )


class DeletedOut(Schema):
    """The thing is gone."""

    id: str
    object: Literal["model"] = "model"
    deleted: bool = True


class FileOut(Schema):
    """One file of a model's folder; `name` is what `/files/{name}` takes."""

    name: str
    object: Literal["model.file"] = "model.file"
    bytes: int
    sha256: str


class ListOut(Schema):
    """One page of a list; continue with `after=<last_id>` while `has_more`."""

    object: Literal["list"] = "list"
    data: list[Any]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False
