"""What the predict route takes and answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from app.errors import InvalidRequest
from app.kit.schema import Frozen, Schema


class PredictIn(Frozen):
    """One prediction request."""

    inputs: Any = Field(
        description="One input, or a list of inputs: a list is never one input by itself. "
        'For models of pairs an input is `{"text": ..., "text_pair": ...}` or `[first, second]`.'
    )
    parameters: dict[str, Any] = Field(
        default={}, description="Options of the model's task, such as `top_k`."
    )
    task: str | None = Field(
        default=None,
        description="Which task, of a model that does several (`GET /v1/models/{id}`).",
    )
    stream: bool = Field(
        default=False,
        description="Tasks that write text: send it as server-sent events while it is written, `delta` by "
        "`delta`, then `done` with the whole answer.",
    )

    @property
    def as_list(self) -> list[Any]:
        """The inputs, also when there is only one."""
        return self.inputs if isinstance(self.inputs, list) else [self.inputs]


class Usage(Schema):
    """What the request cost."""

    tokens: int


class PredictOut(Schema):
    """One answer for each input, in their order. `truncated: true` marks a text that was cut."""

    object: Literal["list"] = "list"
    model: str
    task: str
    data: list[Any]
    usage: Usage


def parse_predict(body: bytes) -> PredictIn:
    """Read a request body.

    Raises:
        InvalidRequest: not JSON, or not the fields of `PredictIn`; `param` names the first.
    """
    try:
        return PredictIn.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidRequest(f"{param}: {first['msg']}", param=param) from None
