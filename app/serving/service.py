"""Predictions of this process: models loaded on demand, batched, kept while there is room.

Imports torch only in a thread, and only when the first prediction comes.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from app.adapt.answering import decode_answers, parse_parameters
from app.adapt.outputs import Encoded
from app.errors import Conflict, InvalidRequest, Unavailable
from app.http.state import Services
from app.kit.clock import monotonic
from app.models.repository import ModelRepository
from app.serving.batcher import Batcher
from app.serving.cache import ModelCache
from app.serving.predictor import ModelRef, Prediction, Predictor, RefCache
from app.serving.streaming import check_streamable, pieces
from app.settings import Settings
from app.store.manifest import CorruptFolder
from app.telemetry import PREDICT_INPUTS, PREDICT_SECONDS, get_logger

if TYPE_CHECKING:
    from app.serving.engine import LoadedModel, LoadedTasks
    from app.serving.schemas import PredictIn

log = get_logger(__name__)
R = TypeVar("R")

MAX_INPUTS = 1000
BATCHERS = 64  # of one model: as many sets of generation options are remembered
INLINE = 16  # so few answers are decoded faster than a thread is reached


def make_predictor(settings: Settings) -> Predictor:
    """Return the predictor that runs models in this process."""
    return LocalPredictor(settings)


async def predict(
    services: Services, tenant_id: str, model_id: str, asked: PredictIn
) -> tuple[ModelRef, Prediction]:
    """Answer what is asked of one of the tenant's models.

    Raises:
        NotFound: no such model.
        InvalidRequest: no input, too many, or a wrong one; a wrong parameter or task.
        Conflict: the stored model is damaged.
        Overloaded: too much is waiting.
        Unavailable: predictions are switched off, or the server is shutting down.
    """
    inputs = asked.as_list
    predictor = _predictor(services, inputs)
    started = monotonic()
    ref = await find(services, predictor.refs, tenant_id, model_id)
    try:
        prediction = await predictor.predict(ref, inputs, asked.parameters, asked.task)
    except CorruptFolder as error:
        raise await _damaged(services, predictor, tenant_id, ref, error) from error
    PREDICT_SECONDS.labels(task=prediction.task).observe(monotonic() - started)
    PREDICT_INPUTS.labels(task=prediction.task).inc(len(inputs))
    return ref, prediction


async def open_stream(
    services: Services, tenant_id: str, model_id: str, asked: PredictIn
) -> tuple[ModelRef, AsyncGenerator[str | Prediction, None]]:
    """Check the request and return what will write its answer; errors are those of `predict`."""
    inputs = asked.as_list
    predictor = _predictor(services, inputs)
    ref = await find(services, predictor.refs, tenant_id, model_id)
    stream = predictor.stream(ref, inputs, asked.parameters, asked.task)
    try:
        await anext(stream)
    except CorruptFolder as error:
        raise await _damaged(services, predictor, tenant_id, ref, error) from error
    PREDICT_INPUTS.labels(task=ref.task).inc(len(inputs))
    return ref, stream


def _predictor(services: Services, inputs: list[Any]) -> Predictor:
    predictor: Predictor | None = services.predictor
    if predictor is None:
        message = "predictions are switched off on this server"
        raise Unavailable(message, code="predictions_off")
    if not inputs:
        message = "inputs: at least one is needed"
        raise InvalidRequest(message, param="inputs")
    if len(inputs) > MAX_INPUTS:
        message = f"inputs: {len(inputs)} are more than {MAX_INPUTS}, the limit of one request"
        raise InvalidRequest(message, param="inputs", code="too_many_inputs")
    return predictor


async def _damaged(
    services: Services, predictor: Predictor, tenant_id: str, ref: ModelRef, error: CorruptFolder
) -> Conflict:
    # Deleted since it was looked up? Then this second look says so.
    predictor.refs.forget(ref.model_id)
    await find(services, predictor.refs, tenant_id, ref.model_id)
    log.warning("predict.corrupt_model", model_id=ref.model_id, error=error.message)
    # 409, not 503: the state of this one resource forbids the call, and no repetition will help.
    message = (
        f"model {ref.model_id} cannot be served, its stored files are damaged: {error.message}"
    )
    return Conflict(message, code="corrupt_folder")


async def find(services: Services, refs: RefCache, tenant_id: str, model_id: str) -> ModelRef:
    """Return the ref of one of the tenant's models.

    Raises:
        NotFound: no such model, or another tenant's.
    """
    ref = refs.get(tenant_id, model_id)
    if ref is None:
        generation = refs.generation
        ref = await asyncio.to_thread(_read, services, tenant_id, model_id)
        refs.put(tenant_id, ref, generation)
    return ref


def _read(services: Services, tenant_id: str, model_id: str) -> ModelRef:
    with services.database.read() as session:
        model = ModelRepository(session, tenant_id).get(model_id)
    return ModelRef(
        model_id=model.id,
        folder=services.layout.absolute(model.folder),
        manifest_sha256=model.manifest_sha256,
        task=model.task,
    )


class LocalPredictor:
    """See `app.serving.predictor.Predictor`. Three threads: one loads, one tokenizes, one scores."""

    def __init__(self, settings: Settings) -> None:
        self.refs = RefCache()
        self._settings = settings
        self._cache: ModelCache[_Served] = ModelCache(settings.model_cache_bytes)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loader = ThreadPoolExecutor(1, "predict-load")
        self._tokenizer = ThreadPoolExecutor(1, "predict-tokenize")
        self._scorer = ThreadPoolExecutor(1, "predict-score")

    async def predict(
        self, ref: ModelRef, inputs: list[Any], parameters: dict[str, Any], task: str | None = None
    ) -> Prediction:
        """Parse, tokenize, score in batches with whatever else is waiting, decode."""
        self._loop = asyncio.get_running_loop()
        async with self._cache.use(ref.model_id, lambda: self._load(ref)) as served:
            model = served.tasks.of(task)
            return await self._answer(served, model, inputs, parameters)

    async def _answer(
        self, served: _Served, model: LoadedModel, inputs: list[Any], parameters: dict[str, Any]
    ) -> Prediction:
        task = model.task
        options = parse_parameters(task, parameters)
        examples = [task.parse_input(value, index) for index, value in enumerate(inputs)]
        encoded = await self._in(self._tokenizer, model.encode, examples, options)
        raw = await served.batcher(model, options).submit(encoded)
        if len(inputs) <= INLINE:
            answers = decode_answers(task, raw, encoded, options)
        else:
            answers = await self._in(self._tokenizer, decode_answers, task, raw, encoded, options)
        return Prediction(answers, tokens=sum(len(item) for item in encoded), task=task.name())

    async def stream(
        self, ref: ModelRef, inputs: list[Any], parameters: dict[str, Any], task: str | None = None
    ) -> AsyncGenerator[str | Prediction, None]:
        """See `Predictor.stream`. Whoever else asks meanwhile waits for its end."""
        self._loop = asyncio.get_running_loop()
        async with self._cache.use(ref.model_id, lambda: self._load(ref)) as served:
            model = served.tasks.of(task)
            asked = model.task
            options = parse_parameters(asked, parameters)
            check_streamable(asked, inputs, options)
            encoded = await self._in(
                self._tokenizer, model.encode, [asked.parse_input(inputs[0], 0)], options
            )
            yield ""
            raw: list[Any] = []

            async def write(emit: Callable[[str], None]) -> None:
                raw.extend(await self._in(self._scorer, model.answer, encoded, options, emit))

            async for piece in pieces(write):
                yield piece
            answers = decode_answers(asked, raw, encoded, options)
            tokens = sum(len(item) for item in encoded)
            yield Prediction(answers, tokens=tokens, task=asked.name())

    def evict(self, model_id: str) -> None:
        """Forget a model, now or after its last answer. May be called from any thread."""
        self.refs.forget(model_id)
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._cache.evict, model_id)

    def loaded(self) -> list[str]:
        """Return the ids of the models in memory, the longest unused first."""
        return self._cache.keys()

    async def close(self) -> None:
        """Stop; a batch that is running ends unheard."""
        self._cache.close()
        for executor in (self._loader, self._tokenizer, self._scorer):
            executor.shutdown(wait=False, cancel_futures=True)

    async def _load(self, ref: ModelRef) -> _Served:
        started = monotonic()
        model = await self._in(self._loader, _load_tasks, ref)
        log.info(
            "predict.loaded",
            model_id=ref.model_id,
            bytes=model.bytes,
            seconds=round(monotonic() - started, 3),
        )
        return _Served(model, self._scorer, self._settings)

    async def _in(self, executor: Executor, function: Callable[..., R], *args: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(executor, function, *args)


class _Served:
    """A loaded model with its batchers: what the cache holds."""

    def __init__(self, tasks: LoadedTasks, scorer: Executor, settings: Settings) -> None:
        self.tasks = tasks
        self.bytes = tasks.bytes
        self._scorer = scorer
        self._settings = settings
        self._batchers: OrderedDict[Any, Batcher[Encoded, Any]] = OrderedDict()

    def batcher(self, model: LoadedModel, options: Any) -> Batcher[Encoded, Any]:
        """Return the batcher of a task and these options: what is generated together is generated alike.

        Scores are the same whatever the options, so tasks that do not generate have one batcher.
        """
        key = (id(model), options if model.task.generates else None)
        batcher = self._batchers.get(key)
        if batcher is None:

            def answer(rows: list[Encoded]) -> list[Any]:
                return model.answer(rows, options)

            batcher = Batcher(
                answer,
                self._scorer,
                max_tokens=self._settings.max_batch_tokens,
                max_queued=self._settings.max_queued_predictions,
            )
            self._batchers[key] = batcher
            while len(self._batchers) > BATCHERS:  # one that is at work ends its work
                self._batchers.popitem(last=False)
        return batcher

    def close(self) -> None:
        for batcher in self._batchers.values():
            batcher.close()


def _load_tasks(ref: ModelRef) -> LoadedTasks:
    # Read when OpenMP loads. Threads that wait by spinning starve the event loop of its core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from app.serving.engine import load_tasks

    return load_tasks(ref)
