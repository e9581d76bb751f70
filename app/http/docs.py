"""`/docs`: Swagger UI from our own files: it needs no internet and obeys a strict policy."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from app.errors import NotFound

STATIC = Path(__file__).parent / "static"
FILES = {
    "docs.js": "docs.js",
    "swagger-ui-bundle.js": "swagger-ui/swagger-ui-bundle.js",
    "swagger-ui.css": "swagger-ui/swagger-ui.css",
    "favicon.png": "swagger-ui/favicon-32x32.png",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Attune API</title>
<link rel="stylesheet" href="/static/swagger-ui.css">
<link rel="icon" href="/static/favicon.png">
<script src="/static/swagger-ui-bundle.js" defer></script>
<script src="/static/docs.js" defer></script>
</head>
<body><div id="docs"></div></body>
</html>
"""

router = APIRouter(include_in_schema=False)


@router.get("/")
async def root() -> RedirectResponse:
    """Send people to the documentation."""
    return RedirectResponse("/docs")


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Return the page."""
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY})


@router.get("/static/{name}")
async def static(name: str) -> FileResponse:
    """Return one of the page's files; only listed names exist, so no path can be walked."""
    if name not in FILES:
        message = f"no file {name!r}"
        raise NotFound(message)
    return FileResponse(STATIC / FILES[name], headers={"cache-control": "public, max-age=86400"})
