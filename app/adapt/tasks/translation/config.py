"""The task's config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from pydantic import Field

from app.adapt.task import Example, Role
from app.adapt.tasks.translation.metrics import TranslationMetrics, segmentation_for
from app.adapt.text_to_text import TextToText

if TYPE_CHECKING:
    from app.adapt.reader import Row
    from app.adapt.task import Metrics, Network

NESTED = "translation"  # the column of the Hub's data sets: {"en": ..., "de": ...}


class Translation(TextToText):
    """Say the same in another language."""

    kind: Literal["translation"] = "translation"
    source_language: str | None = Field(
        default=None, max_length=32,
        description="The code that the data's columns, or the model's tokenizer, have for it.",
    )  # fmt: skip
    target_language: str | None = Field(default=None, max_length=32)
    segmentation: Literal["auto", "13a", "zh", "char", "intl", "none"] = Field(
        default="auto",
        description="sacreBLEU's tokenizer; auto: by the script of the targets, 13a for most.",
    )

    answer_key: ClassVar[str] = "translation_text"
    roles: ClassVar[tuple[Role, ...]] = (
        Role("source", ("src", "source_text", "text", "input"), description="What is translated."),
        Role(
            "target",
            ("tgt", "target_text", "reference", "output", "label"),
            description="Its translation, or a list of several.",
        ),
    )

    @property
    def languages(self) -> tuple[str | None, str | None]:
        """The codes of source and target."""
        return self.source_language, self.target_language

    def resolve_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Take the Hub's nested column, and columns that are named by the languages' codes."""
        roles = dict(given)
        by_lower = {name.lower(): name for name in reversed(found)}
        for role, code in zip(("source", "target"), self.languages, strict=True):
            names = [code.lower(), code.lower().partition("_")[0]] if code else []
            match = next((by_lower[name] for name in names if name in by_lower), None)
            if role not in roles and match is not None:
                roles[role] = match
        if NESTED in found and not roles:
            return {"source": NESTED, "target": NESTED}
        return super().resolve_columns(found, roles, filename)

    def sides(self, row: Row, columns: Mapping[str, str]) -> tuple[Any, Any]:
        """Return source and target; of the nested form by language, or in the order they have there."""
        if columns["source"] != columns["target"]:
            return super().sides(row, columns)
        nested = row.values.get(columns["source"])
        if not isinstance(nested, dict):
            return None, None
        by_language = cast("dict[str, Any]", nested)
        source, target = ([*by_language, None, None])[:2]
        source, target = self.source_language or source, self.target_language or target
        return by_language.get(str(source)), by_language.get(str(target))

    def fit(self, examples: Sequence[Example], filename: str) -> Self:
        """Decide how BLEU cuts texts into words."""
        fitted = super().fit(examples, filename)
        if fitted.segmentation != "auto":
            return fitted
        found = segmentation_for(example.target[0] for example in examples)
        return fitted.model_copy(update={"segmentation": found})

    def network(self) -> Network:
        """Return the torch half."""
        from app.adapt.tasks.translation.model import TranslationNetwork

        return TranslationNetwork()

    def metrics(self) -> Metrics:
        """Return BLEU and chrF."""
        return TranslationMetrics("13a" if self.segmentation == "auto" else self.segmentation)

    def primary_metric(self) -> tuple[str, bool]:
        """Return chrF, which is finer than BLEU on few rows."""
        return "chrf", True

    def example_input(self) -> Any:
        """Return a text."""
        return "Two men are standing at the bridge."
