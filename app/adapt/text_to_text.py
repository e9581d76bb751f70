"""What tasks share that turn one text into another: rows, tokens, figures, answers. Torch-free."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from pydantic import Field

from app.adapt.generation import GenerationParameters
from app.adapt.language_metrics import row_loss
from app.adapt.lengths import was_cut
from app.adapt.outputs import Encoded, Teaching
from app.adapt.reader import Problem, Problems, Row
from app.adapt.soft_prompt import prompt_ids
from app.adapt.task import Architecture, DataReport, Example, Parameters, Task
from app.errors import InvalidData, InvalidRequest
from app.kit.counting import counted, in_rows, plural

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from app.adapt.task import Scores

ROWS_DURING = 128  # answered in each evaluation of a run: the same ones, so that steps compare
ROWS_FINAL = 2_000
MANY, FEW_KINDS = 10, 5  # so many targets that are so few different ones are labels


class TextToText(Task, ABC):
    """Write a text for a text, with an encoder-decoder."""

    source_prefix: str = Field(
        default="", max_length=1_000,
        description='Put before each input: "summarize: " for T5, ">>deu<< " for Marian.',
    )  # fmt: skip
    decoding: GenerationParameters = Field(
        default=GenerationParameters(num_beams=4),
        description="How the finished model answers, where a predict call says nothing else.",
    )

    architecture: ClassVar[Architecture] = "encoder_decoder"
    adds_head: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    teaching: ClassVar[Teaching | None] = "tokens"
    parameters: ClassVar[type[Parameters]] = GenerationParameters
    answer_key: ClassVar[str]  # of the answer, as the Hub's inference API names it

    @property
    def languages(self) -> tuple[str | None, str | None]:
        """The codes that a many-language tokenizer is told, of source and target."""
        return None, None

    @property
    def roles_of_sides(self) -> tuple[str, str]:
        """The names of the source's and the target's role."""
        source, target = (role.name for role in self.roles)
        return source, target

    def parse(
        self, rows: Iterable[Row], columns: Mapping[str, str], problems: Problems
    ) -> list[Example]:
        """Read texts; a list of strings as source is joined, as target it is several references."""
        source, target = self.roles_of_sides
        examples: list[Example] = []
        for row in rows:
            given = self.sides(row, columns)
            faults = [
                Problem(*fault, row.number, columns[role])
                for role, value in zip((source, target), given, strict=True)
                if (fault := _fault(role, value)) is not None
            ]
            if faults:
                problems.add(faults[0])
            else:
                text, references = _joined(given[0]), _references(given[1])
                examples.append(Example(row.number, {source: text}, references))
        return examples

    def sides(self, row: Row, columns: Mapping[str, str]) -> tuple[Any, Any]:
        """Return a row's source and target as they are."""
        source, target = self.roles_of_sides
        return row.values.get(columns[source]), row.values.get(columns[target])

    def fit(self, examples: Sequence[Example], filename: str) -> Self:
        """Refuse data that has nothing to learn.

        Raises:
            InvalidData: no usable row, one target for all, or targets that are their sources.
        """
        source, target = self.roles_of_sides

        def refuse(code: str, message: str) -> None:
            raise InvalidData(f"{filename} {message}", param="data.train", code=code,
                              details={"file": filename})  # fmt: skip

        if not examples:
            refuse("no_usable_rows", "has no usable row")
        if all(example.inputs[source] == example.target[0] for example in examples):
            refuse("copies", f"has a {target} that is the {source} unchanged in every row")
        if len(examples) > 1 and len({example.target for example in examples}) == 1:
            refuse("one_target", f"has the same {target} in every row: there is nothing to learn")
        return self

    def check(self, examples: Sequence[Example], problems: Problems) -> list[Example]:
        """Keep everything: any text can be written."""
        del problems
        return list(examples)

    def report(self, rows: int, examples: Sequence[Example]) -> DataReport:
        """Count lengths, and say what is copied, odd or doubled."""
        source, target = self.roles_of_sides
        texts = [example.inputs[source] for example in examples]
        targets = [example.target[0] for example in examples]
        warnings: list[str] = []
        copied = [e.row for e, text in zip(examples, texts, strict=True) if text == e.target[0]]
        doubled = len(texts) - len(set(zip(texts, targets, strict=True)))
        if copied:
            count = counted(
                len(copied),
                f"{target} is its {source}",
                f"{plural(target)} are their {plural(source)}",
            )
            warnings.append(f"{count} unchanged ({in_rows(copied)})")
        if doubled:
            count = counted(doubled, "row repeats", "rows repeat")
            warnings.append(f"{count} another one word for word")
        kinds = len(set(targets))
        if len(targets) >= MANY and kinds <= FEW_KINDS:
            warnings.append(
                f"the {len(targets)} {plural(target)} are only {kinds} different ones: "
                "text-classification learns such data better"
            )
        statistics: dict[str, Any] = {
            "source_characters": _spread(texts),
            "target_characters": _spread(targets),
            "references": max((len(example.target) for example in examples), default=0),
        }
        return DataReport(rows, len(examples), warnings, statistics)

    def stratum(self, example: Example) -> str | None:
        """Split at random."""
        del example
        return None

    def texts(self, example: Example) -> list[str]:
        """Return the source with its prefix, and the target that is learned."""
        source, _ = self.roles_of_sides
        return [self.source_prefix + example.inputs[source], *(example.target or ())[:1]]

    def sequences(self, example: Example) -> list[list[str]]:
        """Return source and target: each is read by itself."""
        return [[text] for text in self.texts(example)]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
    ) -> list[Encoded]:
        """Tokenize sources and targets, each cut to `max_length`; the first reference is learned."""
        if not examples:
            return []
        source, _ = self.roles_of_sides
        set_languages(tokenizer, self.languages)
        made = cast("Any", tokenizer)
        options = {"truncation": True, "max_length": max_length, "return_attention_mask": False}
        inputs = made([self.source_prefix + e.inputs[source] for e in examples], **options)
        targets = None if examples[0].target is None else _targets(made, examples, max_length)
        rows: list[Encoded] = []
        for index, example in enumerate(examples):
            ids = inputs["input_ids"][index]
            target, is_cut = None, was_cut(inputs, index, max_length)
            if targets is not None:
                target = targets[index][0]
                is_cut = is_cut or targets[index][1]
            rows.append(
                Encoded(
                    input_ids=ids,
                    target=target,
                    row=example.row,
                    example=index,
                    others=() if target is None else (target,),
                    units=1 if target is None else len(target),
                    extra={"references": example.target, "truncated": is_cut},
                )
            )
        return rows

    def default_losses(self) -> list[dict[str, Any]]:
        """Cross-entropy of the target's tokens."""
        return [{"kind": "cross_entropy"}]

    def generation(self, *, final: bool) -> tuple[int, Any]:
        """Answer greedily during a run, and in the end as the finished model will."""
        if final:
            return ROWS_FINAL, self.decoding
        greedy = GenerationParameters(max_new_tokens=self.decoding.max_new_tokens)
        return ROWS_DURING, greedy

    def default_parameters(self) -> dict[str, Any]:
        """Return `decoding`."""
        return self.decoding.model_dump(exclude_defaults=True)

    def parse_input(self, value: Any, index: int) -> Example:
        """Take a text, or an object that names it."""
        source, _ = self.roles_of_sides
        where = f"inputs.{index}"
        if isinstance(value, dict):
            entry = cast("dict[str, Any]", value)
            keys = {source, "text"} & entry.keys()
            if len(entry) != 1 or not keys:
                message = f'{where}: send a text, or {{"{source}": "..."}}'
                raise InvalidRequest(message, param=where)
            value = entry[keys.pop()]
        if not isinstance(value, str) or not value.strip():
            message = f"{where}: a non-empty text is needed"
            raise InvalidRequest(message, param=where)
        return Example(index, {source: value})

    def decode(self, scores: Any, encoded: Encoded, parameters: Any) -> Any:
        """Return the text, or a list of them where several were asked for."""
        del encoded, parameters
        answers = [
            {self.answer_key: found.text, "finish_reason": found.finish_reason} for found in scores
        ]
        return answers[0] if len(answers) == 1 else answers

    def answered(self, example: Example, text: str) -> Example:
        """Take the text as the one reference."""
        return replace(example, target=(text,))

    def input_value(self, given: Mapping[str, Any]) -> Any:
        """Return the source; a list of strings is joined, as in rows that are learned from."""
        value = super().input_value(given)
        is_list = isinstance(value, list) and value and _fault("source", value) is None
        return _joined(value) if is_list else value

    def row_loss(self, scores: Scores, encoded: Encoded) -> float:
        """Return the mean negative log-likelihood of the target's tokens."""
        del encoded
        return row_loss(scores)

    def expected(self, example: Example) -> Any:
        """Return the target, or a list where there are several."""
        return example.target[0] if len(example.target) == 1 else list(example.target)

    def cautions(self) -> list[str]:
        """Say that what is written may be wrong."""
        return ["What it writes can be fluent and wrong: names and numbers need a second look."]


def set_languages(tokenizer: Any, languages: tuple[str | None, str | None]) -> None:
    """Tell a many-language tokenizer (mBART, NLLB, M2M-100) what it reads; others need no telling."""
    for attribute, code in zip(("src_lang", "tgt_lang"), languages, strict=True):
        if code is not None and hasattr(tokenizer, attribute):
            setattr(tokenizer, attribute, code)


def _targets(
    tokenizer: Any, examples: Sequence[Example], max_length: int
) -> list[tuple[list[int], bool]]:
    """Return what is to be written, and whether it was cut; a soft prompt stands before sources only."""
    prompt = set(prompt_ids(tokenizer))
    size = max_length + len(prompt)
    batch = tokenizer(
        text_target=[example.target[0] for example in examples], truncation=True,
        max_length=size, return_attention_mask=False,
    )  # fmt: skip
    return [
        ([token for token in ids if token not in prompt], was_cut(batch, index, size))
        for index, ids in enumerate(batch["input_ids"])
    ]


def _fault(role: str, value: Any) -> tuple[str, str] | None:
    """Say what is wrong with a side: a text, or a list of texts, none of them empty."""
    parts = cast("list[Any]", value) if isinstance(value, list) else [value]
    for number, part in enumerate(parts, 1):
        which = f"text {number} of the {role}" if isinstance(value, list) else f"the {role}"
        if part is not None and not isinstance(part, str):
            return "wrong_type", f"{which} must be a text, not {type(part).__name__}"
        if part is None or not part.strip():
            return "empty_text", f"{which} is empty"
    return None if parts else ("empty_text", f"the {role} is empty")


def _joined(value: Any) -> str:
    return " ".join(cast("list[str]", value)) if isinstance(value, list) else value


def _references(value: Any) -> tuple[str, ...]:
    return tuple(cast("list[str]", value)) if isinstance(value, list) else (value,)


def _spread(texts: Sequence[str]) -> dict[str, int]:
    lengths = sorted(map(len, texts))
    if not lengths:
        return {}
    return {
        "p50": lengths[len(lengths) // 2],
        "p95": lengths[len(lengths) * 95 // 100],
        "max": lengths[-1],
    }
