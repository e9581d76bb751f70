"""The task's config: what the data decides (`fit`), and what the rest of the folder reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from app.adapt.language_metrics import row_loss
from app.adapt.outputs import Teaching
from app.adapt.reader import Problem, Problems, Row
from app.adapt.task import Architecture, DataReport, Example, Network, Parameters, Role, Task
from app.adapt.tasks.text_generation import data, encoding, predict
from app.adapt.tasks.text_generation.metrics import GenerationMetrics, PreferenceMetrics
from app.errors import InvalidData, InvalidSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from app.adapt.outputs import Encoded
    from app.adapt.task import Metrics, Scores

SAMPLES = 8  # answers to held-out rows that the report shows


class TextGeneration(Task):
    """Write what comes next, with a decoder."""

    kind: Literal["text-generation"] = "text-generation"
    form: data.Form | Literal["auto"] = Field(
        default="auto",
        description="messages: chats, learned by their answers; completion: prompts with answers; text: "
        "all of it is learned; preference: chosen and rejected answers (DPO). auto: by the columns.",
    )
    chat_template: str | None = Field(
        default=None, max_length=100_000,
        description="Jinja, as transformers' tokenizers have it; null: the model's own, or a plain one.",
    )  # fmt: skip
    decoding: predict.ChatParameters = Field(
        default=predict.ChatParameters(),
        description="How the finished model answers, where a predict call says nothing else.",
    )

    architecture: ClassVar[Architecture] = "decoder"
    adds_head: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    teaching: ClassVar[Teaching | None] = "tokens"
    pipeline: ClassVar[str | None] = "text-generation"
    parameters: ClassVar[type[Parameters]] = predict.ChatParameters
    roles: ClassVar[tuple[Role, ...]] = (
        Role(
            "messages",
            ("conversations", "conversation", "dialogue", "chat"),
            required=False,
            description='A chat: [{"role": "user", "content": "..."}, ...], the answer last.',
        ),
        Role(
            "prompt",
            ("instruction", "question", "query"),
            required=False,
            description="What is answered.",
        ),
        Role(
            "input",
            ("context",),
            required=False,
            description="What the prompt is about; it follows the prompt after a blank line.",
        ),
        Role(
            "completion",
            ("response", "output", "answer", "target"),
            required=False,
            description="The answer.",
            is_target=True,
        ),
        Role(
            "chosen",
            ("preferred",),
            required=False,
            description="The better answer.",
            is_target=True,
        ),
        Role(
            "rejected",
            ("dispreferred",),
            required=False,
            description="The worse one.",
            is_target=True,
        ),
        Role("text", ("content", "document"), required=False, description="A text to go on with."),
    )

    def resolve_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Map roles to columns, and see that they make one of the forms."""
        columns = super().resolve_columns(found, given, filename)
        if data.form_of(columns, self.form) is not None:
            return columns
        wanted = "; ".join(
            f"{form}: {' and '.join(roles)}"
            for form, roles in data.FORMS
            if self.form in {"auto", form}
        )
        message = f"{filename} has the columns {list(found)}; needed are those of a form ({wanted})"
        raise InvalidData(
            message, param="data.columns", code="column_not_found",
            details={"file": filename, "found": list(found)},
        )  # fmt: skip

    def parse(
        self, rows: Iterable[Row], columns: Mapping[str, str], problems: Problems
    ) -> list[Example]:
        """Read rows of one form."""
        return data.parse(rows, columns, problems, form=data.form_of(columns, self.form))

    def fit(self, examples: Sequence[Example], filename: str) -> Self:
        """Decide the form."""
        if not examples:
            message = f"{filename} has no usable row"
            raise InvalidData(message, param="data.train", code="no_usable_rows",
                              details={"file": filename})  # fmt: skip
        return self.model_copy(update={"form": examples[0].target.form})

    def check(self, examples: Sequence[Example], problems: Problems) -> list[Example]:
        """Keep what has the form of the training data."""
        kept: list[Example] = []
        for example in examples:
            if example.target.form == self.form:
                kept.append(example)
            else:
                message = f"the row is {example.target.form}, the training data {self.form}"
                problems.add(Problem("other_form", message, example.row))
        return kept

    def report(self, rows: int, examples: Sequence[Example]) -> DataReport:
        """Count turns and lengths, and say what teaches nothing."""
        return data.describe(rows, examples)

    def stratum(self, example: Example) -> str | None:
        """Split at random."""
        del example
        return None

    def texts(self, example: Example) -> list[str]:
        """Return all that is said."""
        return data.texts_of(example)

    def sequences(self, example: Example) -> list[list[str]]:
        """Return what is read in one go: all of it, or the prompt with each of two answers."""
        return data.sequences_of(example)

    def when_too_long(self) -> str:
        """Say what is lost: of a prompt first, of an answer that is too long by itself too."""
        if self.form == "text":
            return "becomes several rows"
        return "loses the beginning of its prompt, then the end of its answer"

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
    ) -> list[Encoded]:
        """Tokenize prompts and answers; a prompt that is too long loses its beginning."""
        return encoding.encode(tokenizer, examples, max_length, self.chat_template)

    def network(self) -> Network:
        """Return the torch half."""
        from app.adapt.tasks.text_generation.model import GenerationNetwork

        return GenerationNetwork()

    def default_losses(self) -> list[dict[str, Any]]:
        """Cross-entropy of the answers' tokens, or DPO."""
        return [{"kind": "dpo" if self.form == "preference" else "cross_entropy"}]

    def packs(self) -> bool:
        """Sequences that are learned token by token can share a row; pairs are compared as rows."""
        return self.form != "preference"

    def metrics(self) -> Metrics:
        """Return perplexity and token accuracy, or how often the better answer is preferred."""
        return PreferenceMetrics() if self.form == "preference" else GenerationMetrics()

    def primary_metric(self) -> tuple[str, bool]:
        """Perplexity, or the share of pairs told right."""
        return ("reward_accuracy", True) if self.form == "preference" else ("perplexity", False)

    def generation(self, *, final: bool) -> tuple[int, Any]:
        """Write a few answers for people to look at, once."""
        is_shown = final and self.form != "preference"
        return (SAMPLES, self.decoding) if is_shown else (0, None)

    def default_parameters(self) -> dict[str, Any]:
        """Return `decoding`."""
        return self.decoding.model_dump(exclude_defaults=True)

    def parse_input(self, value: Any, index: int) -> Example:
        """Take a text, or `{"messages": [...]}`."""
        return predict.parse_input(value, index, is_chat=self.form == "messages")

    def decode(self, scores: Any, encoded: Encoded, parameters: Any) -> Any:
        """Return what was written."""
        return predict.decode(scores, encoded, parameters)

    def check_teaching(self) -> None:
        """Pairs are compared with a reference of their own, not with a teacher.

        Raises:
            InvalidSpec: the data are pairs.
        """
        if self.form == "preference":
            message = (
                "data.train: pairs of answers are learned by fine_tune (DPO); a teacher teaches chats, "
                "completions and texts"
            )
            raise InvalidSpec(message, param="data.train", code="teacher_does_not_fit")

    def answered(self, example: Example, text: str) -> Example:
        """Take the text as the answer.

        Raises:
            InvalidSpec: the data are texts, which ask for nothing.
        """
        if self.form != "messages" and self.form != "completion":  # noqa: PLR1714 - narrows the type
            message = (
                "data: a teacher writes answers to prompts and chats, and these are plain texts"
            )
            raise InvalidSpec(message, param="data", code="no_prompts")
        return replace(example, target=data.Answer(self.form, text))

    def input_columns(
        self, found: Sequence[str], given: Mapping[str, str], filename: str
    ) -> dict[str, str]:
        """Map messages, a prompt or a text to columns: what is given, else as the model learned them."""
        columns = super().input_columns(found, given, filename)
        first = "text" if self.form == "text" else "prompt" if self.form == "completion" else None
        roles = [*given, *([first] if first else []), "messages", "prompt", "text"]
        chosen = next((role for role in roles if role in columns and role != "input"), None)
        if chosen is None:
            message = f"{filename} has no column for 'messages', 'prompt' or 'text'; it has: {list(found)}"
            raise InvalidData(message, param="data.columns", code="column_not_found",
                              details={"file": filename, "found": list(found)})  # fmt: skip
        kept = (chosen, "input") if chosen == "prompt" else (chosen,)
        return {role: columns[role] for role in kept if role in columns}

    def input_value(self, given: Mapping[str, Any]) -> Any:
        """Return what is asked, with the column that it is about."""
        return data.input_value(given)

    def row_loss(self, scores: Scores, encoded: Encoded) -> float:
        """Return the mean negative log-likelihood of what is learned, or DPO's term of a pair."""
        del encoded
        return predict.preference_loss(scores) if self.form == "preference" else row_loss(scores)

    def expected(self, example: Example) -> Any:
        """Return the answer, or the better and the worse one."""
        return data.expected(example.target)

    def asked(self, example: Example) -> Example | None:
        """Return the prompt, or a chat up to its last question; None of a text that is learned whole."""
        return None if self.form == "text" else data.asked(example)

    def example_input(self) -> Any:
        """Return a prompt."""
        return "Once upon a time"

    def cautions(self) -> list[str]:
        """Say that what is written may be wrong."""
        return ["What it writes can be fluent and wrong, and can be what nobody should read."]
