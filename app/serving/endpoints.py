"""`POST /v1/models/{id}/predict`. Reads the raw request: this route is called more than all others."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic_core import to_json
from sse_starlette import EventSourceResponse

from app.auth.dependencies import Identity, require
from app.http.problem import error_responses
from app.http.state import services_of
from app.serving.predictor import ModelRef, Prediction
from app.serving.schemas import PredictIn, PredictOut, parse_predict
from app.serving.service import open_stream, predict
from app.serving.streaming import events

router = APIRouter(
    prefix="/v1", tags=["predictions"], responses=error_responses(400, 401, 403, 404, 409, 429, 503)
)

Caller = Annotated[Identity, Depends(require("predict"))]
CLIENT_GONE = 499  # nobody reads it; it is for the access log
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": PredictIn.model_json_schema()}},
    }
}


@router.post(
    "/models/{model_id:path}/predict",
    openapi_extra=BODY,
    response_class=Response,
    responses={200: {"model": PredictOut, "content": {"text/event-stream": {}}}},
)
async def predict_with_model(model_id: str, request: Request, identity: Caller) -> Response:
    """Answer one input or a list of up to 1000; with `stream`, one while it is written."""
    body = parse_predict(await request.body())
    services = services_of(request)
    if body.stream:
        ref, stream = await open_stream(services, identity.tenant_id, model_id, body)
        return EventSourceResponse(events(ref, stream), ping=15)
    work = asyncio.ensure_future(predict(services, identity.tenant_id, model_id, body))
    answer = await _unless_gone(request, work)
    if answer is None:
        return Response(status_code=CLIENT_GONE)
    ref, prediction = answer
    content = {
        "object": "list",
        "model": ref.model_id,
        "task": prediction.task,
        "data": prediction.answers,
        "usage": {"tokens": prediction.tokens},
    }
    return Response(to_json(content), media_type="application/json")


async def _unless_gone(
    request: Request, work: asyncio.Task[tuple[ModelRef, Prediction]]
) -> tuple[ModelRef, Prediction] | None:
    """Wait for the work; when the client hangs up first, cancel it, so that nothing waits for nobody."""
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        return await work if work.done() else None
    finally:
        gone.cancel()
        work.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
