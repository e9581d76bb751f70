"""The `distill` job: a student learns what a teacher says, for the teacher's task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from app.adapt.plugins import STUDENTS, TASKS
from app.adapt.student import Student
from app.kit.schema import Frozen
from app.spec.base import ModelId, Sides
from app.spec.choice import AutoMethod
from app.spec.data import Data, Files, sides_of
from app.spec.training import Training

if TYPE_CHECKING:
    AnyStudent = Student
else:
    AnyStudent: Any = STUDENTS.union()

Probability = Annotated[float, Field(ge=0, le=1)]


class Augmentation(Frozen):
    """More texts made of those there are; the teacher says what they mean.

    Each copy of a text has some words hidden or left out, or is a run of its words. Source: Tang et al.
    2019 (arXiv 1903.12136), section 3.2, without the words of the same part of speech.
    """

    copies: int = Field(default=5, ge=1, le=100, description="Of each training text.")
    mask: Probability = Field(default=0.1, description="A word is hidden with this probability.")
    drop: Probability = Field(default=0.05, description="A word is left out with this probability.")
    ngram: Probability = Field(
        default=0.25, description="A copy is a run of 1 to 5 words with this probability."
    )


class TransferData(Data):
    """The data of a distillation: labelled rows, and texts that only the teacher has an answer for."""

    unlabeled: Files | None = Field(
        default=None, description="Further texts, with the task's columns but for the answers."
    )
    augmentation: Augmentation | None = None
    answers: Literal["data", "teacher"] = Field(
        default="data",
        description="Of tasks that write: what is learned is the data's answers, or those that the teacher "
        "writes to the same texts (sequence-level distillation, Kim and Rush 2016); tokenizers may differ.",
    )

    def sets(self) -> dict[str, Sides]:
        """Return the file ids of each set that is named, by role."""
        found = super().sets()
        return found if self.unlabeled is None else found | {"unlabeled": sides_of(self.unlabeled)}


class Distill(Training):
    """Train `student` on the answers of `teacher`, L(y, f(x)) + λ·D(f, g), as `losses` says."""

    kind: Literal["distill"] = "distill"
    teacher: ModelId | Annotated[list[ModelId], Field(min_length=2, max_length=8)] = Field(
        description="A finished model, a checkpoint, or a base model that does the task as it is; answers "
        "of several are averaged."
    )
    teacher_weights: Literal["equal", "validation"] = Field(
        default="equal",
        description="Of several teachers: all count alike, or in proportion to their validation metric.",
    )
    student: ModelId | AnyStudent = Field(
        description='A model\'s id, or a network made for the job: {"kind": "bilstm"}, ...'
    )
    top_k: int = Field(
        default=64, ge=1, le=4096,
        description="Of answers that are tokens: how many of the likeliest are kept of each; all others "
        "are one share.",
    )  # fmt: skip
    data: TransferData  # pyright: ignore[reportIncompatibleVariableOverride] - frozen, and narrower

    @property
    def revision(self) -> None:
        """None: a student that the Hub has is taken as it is now."""
        return

    @property
    def transfer(self) -> Literal["parameters"]:
        """All weights that the student has are taken over."""
        return "parameters"

    @property
    def model(self) -> str | Student:
        """What is trained: the student."""
        return self.student

    @property
    def base(self) -> str:
        """The id of the student's source, or its kind."""
        if isinstance(self.student, str):
            return self.student
        return self.student.source() or self.student.name()

    @property
    def is_written(self) -> bool:
        """Whether the answers that are learned are the teacher's own texts."""
        return self.data.answers == "teacher"

    @property
    def teachers(self) -> dict[str, str]:
        """The ids of all teachers, by the field that names each."""
        if isinstance(self.teacher, str):
            return {"teacher": self.teacher}
        return {f"teacher.{at}": model_id for at, model_id in enumerate(self.teacher)}

    def check_set(
        self, field: str, found: Sequence[str], summary: Sequence[Mapping[str, Any]], filename: str
    ) -> None:
        """See `BaseSpec.check_set`."""
        if field == "data.unlabeled":
            self.task.input_columns(found, self.data.columns, filename)
        else:
            super().check_set(field, found, summary, filename)

    def model_ids(self) -> dict[str, str]:
        """Return the id of every model that the job reads, by the field that names it."""
        found = self.teachers
        if isinstance(self.student, str):
            return found | {"student": self.student}
        source = self.student.source()
        found |= {} if source is None else {"student.model": source}
        return found | {f"student.{name}": id_ for name, id_ in self.student.model_ids().items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.method, AutoMethod) or self.method.probes or not self.method.steps:
            message = (
                "a student is trained step by step: use method 'full', 'lora' or another with steps"
            )
            raise ValueError(message)
        if self.method.added_tokens:
            message = (
                f"method {self.method.name()} puts tokens of its own before texts, which no teacher reads: "
                "use method 'full', 'lora' or another with steps"
            )
            raise ValueError(message)
        if self.task.teaching is None:
            able = ", ".join(sorted(plugin.name() for plugin in TASKS if plugin.teaching))
            message = f"task: a teacher cannot teach {self.task.name()} yet; it can: {able}"
            raise ValueError(message)
        if self.is_written and not self.task.generates:
            message = (
                f"data.answers: 'teacher' is for tasks that write, and {self.task.name()} does not"
            )
            raise ValueError(message)
        if self.is_written and not isinstance(self.teacher, str):
            message = "data.answers: 'teacher' takes one teacher, who writes them"
            raise ValueError(message)
        needs_teacher = self.losses is not None and not self.is_written
        if needs_teacher and not any(loss.needs_teacher for loss in self.losses or ()):
            message = (
                "losses: none of them reads what the teacher says; add kl_divergence or logit_mse"
            )
            raise ValueError(message)
        if self.losses is not None and not any(_weighs(loss) for loss in self.losses):
            message = "losses: all weights are 0"
            raise ValueError(message)
        return self


def _weighs(loss: Any) -> bool:
    return loss.weight != 0
