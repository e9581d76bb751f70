"""The routes under `/v1/models` and `/v1/base_models`. No logic: transactions open and close here.

Ids of base models hold slashes, and the server decodes `%2F` before it matches routes, so an id is
a `path`: raw and encoded ids are the same thing, and longer routes stand before shorter ones.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse

from app.adapt.source import Sources
from app.auth.dependencies import Identity, require
from app.errors import InvalidRequest, NotFound
from app.http.pagination import Paged, list_body
from app.http.problem import error_responses
from app.http.state import Services, get_services
from app.models import service
from app.models.card import model_card
from app.models.repository import ModelRepository
from app.models.schemas import BaseModelOut, DeletedOut, FileOut, ListOut, ModelOut
from app.models.tables import Model
from app.store.durable import remove_folder

router = APIRouter(prefix="/v1", tags=["models"], responses=error_responses(400, 401, 403, 404))

Reader = Annotated[Identity, Depends(require("models:read"))]
Writer = Annotated[Identity, Depends(require("models:write"))]
Shared = Annotated[Services, Depends(get_services)]
MARKDOWN = "text/markdown"


@router.get("/models")
def list_models(identity: Reader, services: Shared, cursor: Paged) -> ListOut:
    """List the tenant's finished models, newest first."""
    with services.database.read() as session:
        page = ModelRepository(session, identity.tenant_id).page(
            after=cursor.after, limit=cursor.limit, descending=cursor.order == "desc"
        )
    data = [ModelOut.of(model) for model in page.rows]
    return ListOut.model_validate(list_body(data, page.has_more))


@router.get("/base_models")
def list_base_models(_: Reader, services: Shared) -> ListOut:
    """List the base models on this server; with the Hub switched on, jobs may name others."""
    settings = services.settings
    found = Sources(settings.model_dirs, hub=settings.hub).available()
    return ListOut.model_validate(list_body([BaseModelOut.of(source) for source in found], False))


@router.get(
    "/models/{model_id:path}/card",
    response_class=Response,
    responses={200: {"content": {MARKDOWN: {}}}},
)
def get_card(model_id: str, identity: Reader, services: Shared) -> Response:
    """Return the model card: what it is made of, how good it is, how to call it."""
    model = _get(services, identity, model_id)
    facts: dict[str, Any] = model.manifest.get("facts", {})
    return Response(model_card({**facts, "model_id": model.id}), media_type=MARKDOWN)


@router.get("/models/{model_id:path}/files")
def list_files(model_id: str, identity: Reader, services: Shared) -> ListOut:
    """List the files of the model's folder, with sizes and SHA-256 digests."""
    model = _get(services, identity, model_id)
    files: dict[str, Any] = model.manifest.get("files", {})
    return ListOut(
        data=[
            FileOut(name=name, bytes=entry["bytes"], sha256=entry["sha256"])
            for name, entry in sorted(files.items())
        ]
    )


@router.get("/models/{model_id:path}/files/{name:path}", response_class=FileResponse)
def get_file(model_id: str, name: str, identity: Reader, services: Shared) -> FileResponse:
    """Download one file; plain transformers can load the folder that they make together."""
    model = _get(services, identity, model_id)
    path = service.listed_file(model, services.layout.absolute(model.folder), name)
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


@router.get("/models/{model_id:path}")
def get_model(model_id: str, identity: Reader, services: Shared) -> ModelOut | BaseModelOut:
    """Return a finished model of the tenant, or a base model that is on this server."""
    if model_id.startswith(service.PREFIX):
        return ModelOut.of(_get(services, identity, model_id))
    try:
        source = Sources(services.settings.model_dirs, hub=False).resolve(model_id)
    except InvalidRequest as error:
        message = f"no model {model_id!r}"
        raise NotFound(message, param="id") from error
    return BaseModelOut.of(source)


@router.delete("/models/{model_id:path}", responses=error_responses(409))
def delete_model(model_id: str, request: Request, identity: Writer, services: Shared) -> DeletedOut:
    """Delete a finished model and its files; refused while an unfinished job starts from it."""
    with services.database.transaction() as session:
        model = service.delete(
            session, identity.tenant_id, model_id, request.app.state.model_in_use
        )
    if services.predictor is not None:
        services.predictor.evict(model_id)
    remove_folder(services.layout.absolute(model.folder))
    return DeletedOut(id=model_id)


def _get(services: Services, identity: Identity, model_id: str) -> Model:
    with services.database.read() as session:
        return ModelRepository(session, identity.tenant_id).get(model_id)
