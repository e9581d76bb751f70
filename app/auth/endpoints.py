"""The routes under `/v1/keys`, and `/v1/me`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from app.auth import repository
from app.auth.dependencies import Identity, identify, require
from app.auth.repository import KeyRepository
from app.auth.schemas import KeyIn, KeyOut, MeOut, NewKeyOut
from app.auth.scopes import parse_scopes
from app.auth.service import create_key
from app.errors import PermissionDenied
from app.http.pagination import Paged, list_body
from app.http.problem import error_responses
from app.http.state import Services, get_services

router = APIRouter(prefix="/v1", tags=["keys"], responses=error_responses(400, 401, 403, 404))

Manager = Annotated[Identity, Depends(require("keys:manage"))]
Shared = Annotated[Services, Depends(get_services)]


@router.get("/me")
def me(identity: Annotated[Identity, Depends(identify)]) -> MeOut:
    """Return the tenant, key and scopes of the caller."""
    return MeOut(
        tenant_id=identity.tenant_id, key_id=identity.key_id, scopes=sorted(identity.scopes)
    )


@router.post("/keys", status_code=201)
def create(body: KeyIn, identity: Manager, services: Shared) -> NewKeyOut:
    """Make a key for the caller's tenant, with at most the caller's scopes. Its secret is shown once."""
    missing = sorted(set(parse_scopes(body.scopes)) - identity.scopes)
    if missing:
        message = f"a key cannot grant scopes that it lacks: {', '.join(missing)}"
        raise PermissionDenied(message, param="scopes")
    with services.database.transaction() as session:
        new = create_key(
            session,
            services.settings.pepper,
            identity.tenant_id,
            name=body.name,
            scopes=body.scopes,
            expires_in_s=body.expires_in_s,
        )
    return NewKeyOut(**KeyOut.of(new.row).model_dump(), key=new.secret)


@router.get("/keys")
def list_keys(identity: Manager, services: Shared, cursor: Paged) -> dict[str, Any]:
    """List the tenant's keys, newest first."""
    with services.database.read() as session:
        page = KeyRepository(session, identity.tenant_id).page(
            after=cursor.after, limit=cursor.limit, descending=cursor.order == "desc"
        )
    return list_body([KeyOut.of(row) for row in page.rows], page.has_more)


@router.delete("/keys/{key_id}")
def revoke_key(key_id: str, request: Request, identity: Manager, services: Shared) -> KeyOut:
    """Revoke a key: at once here, within five seconds on other replicas."""
    with services.database.transaction() as session:
        row = KeyRepository(session, identity.tenant_id).get(key_id)
        repository.revoke(session, row.id)
        session.refresh(row)
    request.app.state.key_cache.forget(key_id)
    return KeyOut.of(row)
