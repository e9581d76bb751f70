"""The registries, filled by discovery, and the unions that specs are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from app.adapt.backbone import Backbone
from app.adapt.loss import Loss
from app.adapt.method import Method
from app.adapt.objective import Objective
from app.adapt.reader import Reader
from app.adapt.segmenter import Segmenter
from app.adapt.student import Student
from app.adapt.task import Task
from app.kit.registry import Registry, expand_kind

TASKS = Registry.discover(Task, "app.adapt.tasks")
METHODS = Registry.discover(Method, "app.adapt.methods")
LOSSES = Registry.discover(Loss, "app.adapt.losses")
READERS = Registry.discover(Reader, "app.adapt.readers")
STUDENTS = Registry.discover(Student, "app.adapt.students")
OBJECTIVES = Registry.discover(Objective, "app.adapt.objectives")
SEGMENTERS = Registry.discover(Segmenter, "app.adapt.segmenters")
BACKBONES = Registry.discover(Backbone, "app.adapt.backbones")

if TYPE_CHECKING:
    AnyTask = Task
    AnyMethod = Method
    AnyLoss = Loss
    AnyStudent = Student
else:
    AnyTask: Any = Annotated[TASKS.union(), BeforeValidator(expand_kind)]
    AnyMethod: Any = Annotated[METHODS.union(), BeforeValidator(expand_kind)]
    AnyLoss: Any = Annotated[LOSSES.union(), BeforeValidator(expand_kind)]
    AnyStudent: Any = Annotated[STUDENTS.union(), BeforeValidator(expand_kind)]
