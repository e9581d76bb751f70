"""The task's config."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from pydantic import Field

from app.adapt.reader import Problem, Problems
from app.adapt.task import Example, Role
from app.adapt.tasks.translation.metrics import (
    TranslationMetrics,
    segmentation_for,
    sentence_chrf,
)
from app.adapt.text_to_text import TextToText
from app.errors import InvalidData

if TYPE_CHECKING:
    from app.adapt.outputs import Encoded, Generated
    from app.adapt.reader import Row
    from app.adapt.task import Metrics, Network

CODE = re.compile(r"[a-z]{2}|[a-z]{2,3}[_-]\w{2,8}")  # of a language: en, en_XX, zho_Hans
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
            is_target=True,
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
        is_nested = NESTED in found and {*roles.values()} <= {NESTED}
        if is_nested:
            return {"source": NESTED, "target": NESTED}
        try:
            return super().resolve_columns(found, roles, filename)
        except InvalidData as error:
            codes = [name for name in found if CODE.fullmatch(name) and name != "id"]
            if error.error_code != "column_not_found" or given or len(codes) < 2:  # noqa: PLR2004
                raise
            message = (
                f"{error.message}; where columns are named by language, say which: "
                f'{{"kind": "translation", "source_language": "{codes[0]}", '
                f'"target_language": "{codes[1]}"}}'
            )
            raise InvalidData(
                message, param=error.param, code=error.error_code, details=error.details
            ) from None

    def parse(
        self, rows: Iterable[Row], columns: Mapping[str, str], problems: Problems
    ) -> list[Example]:
        """Read texts; of the nested form the languages that the first row has, in its order."""
        if columns["source"] != columns["target"] or None not in self.languages:
            return super().parse(rows, columns, problems)
        rows = list(rows)
        first = next((found for row in rows if (found := _nested(row, columns))), {})
        if not first:
            return super().parse(rows, columns, problems)
        source, target = self.languages
        others = [code for code in first if code not in {source, target}]
        if len(others) != self.languages.count(None):
            message = (
                f"the column {columns['source']!r} has the languages {list(first)}; say which with "
                "task.source_language and task.target_language"
            )
            problems.add(Problem("which_languages", message, rows[0].number, columns["source"]))
            return []
        source = source or others.pop(0)
        target = target or others.pop(0)
        whole: list[Row] = []
        for row in rows:
            missing = [code for code in (source, target) if code not in _nested(row, columns)]
            if missing:
                message = f"there is no {missing[0]!r} in it"
                problems.add(Problem("missing_side", message, row.number, columns["source"]))
            else:
                whole.append(row)
        named = self.model_copy(update={"source_language": source, "target_language": target})
        return super(Translation, named).parse(whole, columns, problems)

    def sides(self, row: Row, columns: Mapping[str, str]) -> tuple[Any, Any]:
        """Return source and target; of the nested form by language."""
        if columns["source"] != columns["target"]:
            return super().sides(row, columns)
        nested = _nested(row, columns)
        return nested.get(str(self.source_language)), nested.get(str(self.target_language))

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

    def input_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Find the source as `resolve_columns` does: by role, by language, or nested."""
        roles = {role: column for role, column in given.items() if role == "source"}
        by_lower = {name.lower(): name for name in reversed(found)}
        code = (self.source_language or "").lower()
        named = [by_lower[name] for name in (code, code.partition("_")[0]) if name in by_lower]
        if not roles and (named or NESTED in found):
            roles = {"source": named[0] if named else NESTED}
        return super().input_columns(found, roles, filename)

    def input_value(self, given: Mapping[str, Any]) -> Any:
        """Return the source; of the nested form its own language, else the first."""
        value = given.get("source")
        if not isinstance(value, dict) or not value:
            return super().input_value(given)
        nested = cast("dict[str, Any]", value)
        return nested.get(self.source_language or next(iter(nested)))

    def sentence_score(self, answer: Generated, encoded: Encoded) -> tuple[str, float]:
        """Return chrF."""
        return "chrf", sentence_chrf(answer.text, encoded.extra["references"])

    def primary_metric(self) -> tuple[str, bool]:
        """Return chrF, which is finer than BLEU on few rows."""
        return "chrf", True

    def example_input(self) -> Any:
        """Return a text."""
        return "Two men are standing at the bridge."


def _nested(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the texts by language, none of a row that has something else there."""
    value = row.values.get(columns["source"])
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
