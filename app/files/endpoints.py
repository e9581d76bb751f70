"""The routes under `/v1/files`. No logic: transactions open and close here, the rest is below."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from starlette.requests import ClientDisconnect

from app.auth.dependencies import Identity, require
from app.errors import InvalidRequest, NotFound
from app.files import service
from app.files.repository import FileRepository
from app.files.schemas import FileDeleted, FileList, FileObject
from app.http.pagination import list_body
from app.http.problem import error_responses
from app.http.state import Services, get_services
from app.kit.db import after_commit

router = APIRouter(
    prefix="/v1/files", tags=["files"], responses=error_responses(400, 401, 403, 404)
)

Reader = Annotated[Identity, Depends(require("files:read"))]
Writer = Annotated[Identity, Depends(require("files:write"))]
Shared = Annotated[Services, Depends(get_services)]

BINARY = "application/octet-stream"
# The form is read as it arrives, so FastAPI cannot see it.
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "JSON lines, CSV or Parquet, named by its format.",
                        },
                        "purpose": {
                            "type": "string",
                            "maxLength": service.MAX_PURPOSE,
                            "default": service.PURPOSE,
                        },
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


@router.post("", status_code=201, openapi_extra=FORM, responses=error_responses(413))
async def create_file(request: Request, identity: Writer, services: Shared) -> FileObject:
    """Upload one file. The answer says what is in it; a file of which no row is usable is refused."""
    content_type = request.headers.get("content-type", "")
    file = await _uploads(request, services).receive(
        _body(request), content_type, identity.tenant_id
    )
    return FileObject.of(file)


@router.get("")
def list_files(
    identity: Reader, services: Shared,
    after: Annotated[str | None, Query(max_length=255, description="Id of the last seen.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 20,
    order: Annotated[Literal["asc", "desc"], Query()] = "desc",
    purpose: Annotated[str | None, Query(max_length=service.MAX_PURPOSE)] = None,
) -> FileList:  # fmt: skip
    """List the tenant's files, newest first."""
    with services.database.read() as session:
        page = FileRepository(session, identity.tenant_id).list_page(
            after=after, limit=limit, descending=order == "desc", purpose=purpose
        )
    data = [FileObject.of(file) for file in page.rows]
    return FileList.model_validate(list_body(data, page.has_more))


@router.get("/{file_id}")
def get_file(file_id: str, identity: Reader, services: Shared) -> FileObject:
    """Return one file with its summary."""
    with services.database.read() as session:
        return FileObject.of(FileRepository(session, identity.tenant_id).get(file_id))


@router.get(
    "/{file_id}/content",
    response_class=FileResponse,
    responses={200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_content(file_id: str, identity: Reader, services: Shared) -> FileResponse:
    """Download the bytes as they were uploaded."""
    with services.database.read() as session:
        file = FileRepository(session, identity.tenant_id).get(file_id)
    path = services.layout.file(file.id)
    if not path.is_file():
        message = f"the bytes of {file.id} are gone from the store"
        raise NotFound(message, param="id", code="content_gone")
    return FileResponse(path, media_type=BINARY, filename=file.filename)


@router.delete("/{file_id}", responses=error_responses(409))
def delete_file(file_id: str, request: Request, identity: Writer, services: Shared) -> FileDeleted:
    """Delete a file and its bytes; refused while an unfinished job needs it."""
    with services.database.transaction() as session:
        in_use: service.InUse = request.app.state.file_in_use
        file = service.delete(session, identity.tenant_id, file_id, in_use)
        path = services.layout.file(file.id)
        after_commit(session, lambda: path.unlink(missing_ok=True))
    return FileDeleted(id=file.id)


def _uploads(request: Request, services: Services) -> service.Uploads:
    """Return the application's one receiver of uploads."""
    state = request.app.state
    if getattr(state, "uploads", None) is None:
        state.uploads = service.Uploads(services.database, services.layout, services.settings)
    uploads: service.Uploads = state.uploads
    return uploads


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        message = "the upload was cut off before its end; nothing was stored"
        raise InvalidRequest(message, param="file", code="upload_cut_off") from None
