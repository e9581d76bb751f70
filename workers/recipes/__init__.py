"""A recipe turns one kind of spec into a run; this is the table of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from app.errors import TrainingFailed
from app.spec.answering import Answering
from app.spec.batch_predict import BatchPredict
from app.spec.distill import Distill
from app.spec.evaluate import Evaluate
from app.spec.fine_tune import FineTune
from app.spec.job import JobSpec
from app.spec.multi_task import MultiTask
from app.spec.pretrain import Pretrain
from workers.protocol import Assignment, DoneEvent, Event, FinishedEvent
from workers.recipes.batch_predict import BatchPredictRecipe
from workers.recipes.distill import DistillRecipe
from workers.recipes.evaluate import EvaluateRecipe
from workers.recipes.fine_tune import FineTuneRecipe
from workers.recipes.multi_task import MultiTaskRecipe
from workers.recipes.pretrain import PretrainRecipe
from workers.recipes.recipe import Recipe
from workers.training.report import Report

RECIPES: dict[type[JobSpec], type[Recipe[Any]]] = {
    FineTune: FineTuneRecipe,
    Distill: DistillRecipe,
    MultiTask: MultiTaskRecipe,
    Pretrain: PretrainRecipe,
    Evaluate: EvaluateRecipe,
    BatchPredict: BatchPredictRecipe,
}


def run_recipe(
    assignment: Assignment,
    spec: JobSpec,
    emit: Callable[[Event], None],
    should_drain: Callable[[], bool],
) -> FinishedEvent | DoneEvent:
    """Run the recipe of a spec's kind.

    Raises:
        AttuneError: as the recipe says; `TrainingFailed` too when the GPU is too small for it.
        Drained: asked to stop; a checkpoint has been saved.
    """
    try:
        return RECIPES[type(spec)](assignment, spec, Report(emit), should_drain).run()
    except torch.cuda.OutOfMemoryError as error:
        message = (
            "the GPU's memory does not hold the model with its gradients and the optimizer's "
            "state; choose a smaller model or optimization.max_length"
        )
        if isinstance(spec, Answering):
            message = "the GPU's memory does not hold a batch; choose a smaller max_batch_tokens"
        raise TrainingFailed(message, code="out_of_memory", param="model") from error
