"""One answer while it is written: pieces of text from a thread, as events of `text/event-stream`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from pydantic_core import to_json

from app.adapt.task import Task
from app.errors import AttuneError, InvalidRequest
from app.serving.predictor import ModelRef, Prediction

Emit = Callable[[str], None]


class ClientGone(Exception):
    """Nobody reads the answer any more; raised in the thread that writes it, to stop it."""


def check_streamable(task: Task, inputs: list[Any], parameters: Any) -> None:
    """Check that there is one text to be written from its beginning to its end.

    Raises:
        InvalidRequest: with param `stream`.
    """
    message = None
    if not task.generates:
        message = f"stream: {task.name()} answers at once; leave stream out"
    elif len(inputs) != 1:
        message = f"stream: one input at a time, not {len(inputs)}"
    elif parameters.num_beams > 1 or parameters.num_return_sequences > 1:
        message = (
            "stream: beams and several answers are not known before the end; set num_beams to 1"
        )
    if message is not None:
        raise InvalidRequest(message, param="stream")


async def pieces(write: Callable[[Emit], Awaitable[Any]]) -> AsyncGenerator[str, None]:
    """Yield what `write` emits from its thread; left early, make it stop and wait until it has."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    is_left = threading.Event()

    def emit(text: str) -> None:
        if is_left.is_set():
            raise ClientGone
        loop.call_soon_threadsafe(queue.put_nowait, text)

    work = asyncio.ensure_future(write(emit))
    work.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (piece := await queue.get()) is not None:
            yield piece
        await work
    finally:
        is_left.set()
        # The model must not go while its thread still runs.
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()


async def events(
    ref: ModelRef, stream: AsyncGenerator[str | Prediction, None]
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield server-sent events: a `delta` for each piece, then `done` with the whole answer, or `error`."""
    try:
        async for part in stream:
            if isinstance(part, str):
                yield _event("delta", {"index": 0, "text": part})
            else:
                body = {
                    "object": "list",
                    "model": ref.model_id,
                    "task": ref.task,
                    "data": part.answers,
                    "usage": {"tokens": part.tokens},
                }
                yield _event("done", body)
    except AttuneError as error:
        body = {"code": error.error_code, "message": error.message, "param": error.param}
        yield _event("error", {"error": body})
    finally:
        await stream.aclose()


def _event(name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"event": name, "data": to_json(body).decode()}
