"""Every route with every identity: who gets in, who does not, and what another tenant can see.

`ROUTES` lists each route with the scope it needs. A route that is not listed fails the first test, so
that nobody adds one without saying who may call it.
"""

from __future__ import annotations

from urllib.parse import quote

import pytest
from fastapi.routing import iter_route_contexts

from app.auth.scopes import PRESETS, Scope
from tests.served import Served, served
from tests.tiny import make_model_folder

PUBLIC = "public"
ANY_KEY = "any key"
FOREIGN_MODEL = "ft:tiny:foreign:0000000000"
MODEL = "ft:tiny:own:0000000000"
CSV = "text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(20))

ROUTES: dict[tuple[str, str], str] = {
    ("GET", "/"): PUBLIC,
    ("GET", "/docs"): PUBLIC,
    ("GET", "/static/{name}"): PUBLIC,
    ("GET", "/openapi.json"): PUBLIC,
    ("GET", "/healthz"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/metrics"): PUBLIC,
    ("GET", "/v1/me"): ANY_KEY,
    ("GET", "/v1/keys"): Scope.KEYS_MANAGE,
    ("POST", "/v1/keys"): Scope.KEYS_MANAGE,
    ("DELETE", "/v1/keys/{key_id}"): Scope.KEYS_MANAGE,
    ("GET", "/v1/files"): Scope.FILES_READ,
    ("POST", "/v1/files"): Scope.FILES_WRITE,
    ("GET", "/v1/files/{file_id}"): Scope.FILES_READ,
    ("GET", "/v1/files/{file_id}/content"): Scope.FILES_READ,
    ("DELETE", "/v1/files/{file_id}"): Scope.FILES_WRITE,
    ("GET", "/v1/jobs"): Scope.JOBS_READ,
    ("POST", "/v1/jobs"): Scope.JOBS_WRITE,
    ("POST", "/v1/jobs/check"): Scope.JOBS_WRITE,
    ("GET", "/v1/jobs/{job_id}"): Scope.JOBS_READ,
    ("POST", "/v1/jobs/{job_id}/cancel"): Scope.JOBS_WRITE,
    ("GET", "/v1/jobs/{job_id}/events"): Scope.JOBS_READ,
    ("GET", "/v1/jobs/{job_id}/metrics"): Scope.JOBS_READ,
    ("GET", "/v1/jobs/{job_id}/checkpoints"): Scope.JOBS_READ,
    ("GET", "/v1/jobs/{job_id}/runs"): Scope.JOBS_READ,
    ("GET", "/v1/base_models"): Scope.MODELS_READ,
    ("GET", "/v1/models"): Scope.MODELS_READ,
    ("GET", "/v1/models/{model_id:path}"): Scope.MODELS_READ,
    ("GET", "/v1/models/{model_id:path}/card"): Scope.MODELS_READ,
    ("GET", "/v1/models/{model_id:path}/files"): Scope.MODELS_READ,
    ("GET", "/v1/models/{model_id:path}/files/{name:path}"): Scope.MODELS_READ,
    ("DELETE", "/v1/models/{model_id:path}"): Scope.MODELS_WRITE,
    ("POST", "/v1/models/{model_id:path}/predict"): Scope.PREDICT,
}
GUARDED = sorted(route for route, scope in ROUTES.items() if scope != PUBLIC)
SCOPED = sorted(route for route, scope in ROUTES.items() if scope not in {PUBLIC, ANY_KEY})
OF_AN_ID = sorted(route for route in GUARDED if "_id" in route[1])


class House:
    """An application with one of everything that belongs to the first tenant."""

    def __init__(self, api: Served) -> None:
        self.api = api
        api.add_model(MODEL)
        api.add_model(FOREIGN_MODEL, tenant=1)
        self.owner = api.headers()
        self.other = api.headers(tenant=1)
        self.ids = {"key_id": self._new_key("victim")["id"], "model_id:path": quote(MODEL)}
        self.ids |= {"name": "docs.js", "name:path": "config.json"}
        self.ids["file_id"] = self._upload()
        spec = self.spec(self.ids["file_id"])
        self.ids["job_id"] = api.client.post("/v1/jobs", json=spec).json()["id"]

    def spec(self, file_id: str) -> dict:
        return {
            "kind": "fine_tune",
            "model": "tiny",
            "task": "text-classification",
            "data": {"train": file_id},
        }

    def call(self, route: tuple[str, str], headers: dict[str, str]):
        """Call a route as it should be called, on what belongs to the first tenant."""
        method, path = route
        for name, value in self.ids.items():
            path = path.replace(f"{{{name}}}", value)
        body: dict = {"headers": headers | {"Accept": "*/*"}}
        if route == ("POST", "/v1/files"):
            body["files"] = {"file": ("rows.csv", CSV)}
        elif route == ("POST", "/v1/keys"):
            body["json"] = {"name": "made", "scopes": ["jobs:read"]}
        elif path.startswith("/v1/jobs") and method == "POST" and not path.endswith("cancel"):
            body["json"] = self.spec(self.ids["file_id"])
        elif path.endswith("predict"):
            body["json"] = {"inputs": "good"}
        return self.api.client.request(method, path, **body)

    def _new_key(self, name: str, **fields) -> dict:
        made = self.api.client.post("/v1/keys", json={"name": name, "scopes": ["all"], **fields})
        assert made.status_code == 201, made.text
        return made.json()

    def revoked(self) -> dict[str, str]:
        """Return the header of a key that worked once."""
        made = self._new_key("revoked")
        header = {"Authorization": f"Bearer {made['key']}"}
        assert self.api.client.get("/v1/me", headers=header).status_code == 200
        assert self.api.client.delete(f"/v1/keys/{made['id']}").status_code == 200
        return header

    def _upload(self) -> str:
        files = {"file": ("rows.csv", CSV)}
        return self.api.client.post("/v1/files", files=files).json()["id"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identities")
    make_model_folder(folder / "bases" / "tiny")
    with served(folder / "home", model_dirs=[folder / "bases"]) as api:
        yield House(api)


@pytest.fixture(scope="module")
def strangers(house: House) -> dict[str, dict[str, str]]:
    secret = house.owner["Authorization"]
    return {
        "none": {"Authorization": ""},
        "garbage": {"Authorization": "Bearer letmein"},
        "other scheme": {"Authorization": secret.replace("Bearer", "Basic")},
        "one character off": {"Authorization": secret[:-1] + ("0" if secret[-1] != "0" else "1")},
        "revoked": house.revoked(),
    }


def test_every_route_says_who_may_call_it(house: House):
    found = {
        (method, context.path)
        for context in iter_route_contexts(house.api.app.routes)
        for method in context.methods - {"HEAD"}
    }
    assert found == set(ROUTES)


def test_the_description_says_which_routes_need_a_key(house: House):
    described = house.api.client.get("/openapi.json").json()["paths"]
    with_key = {
        (method.upper(), path)
        for path, operations in described.items()
        for method, operation in operations.items()
        if operation.get("security")
    }
    assert with_key == {(method, path.replace(":path", "")) for method, path in GUARDED}


@pytest.mark.parametrize("route", sorted(r for r in ROUTES if ROUTES[r] == PUBLIC), ids=" ".join)
def test_public_routes_need_no_key(house: House, route):
    assert house.call(route, {"Authorization": ""}).status_code not in {401, 403, 404, 405}


@pytest.mark.parametrize("route", GUARDED, ids=" ".join)
def test_strangers_get_nowhere(house: House, strangers, route):
    for who, headers in strangers.items():
        house.api.app.state.key_cache.__init__()  # what is counted here is not guessing
        answer = house.call(route, headers)
        assert answer.status_code == 401, f"{who}: {answer.text}"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("route", SCOPED, ids=" ".join)
def test_a_key_does_what_its_scopes_say_and_no_more(house: House, route):
    needed = ROUTES[route]
    # "predict" is a preset too: who predicts may read models.
    rest = [scope for scope in Scope if needed not in PRESETS.get(scope, {scope})]
    refused = house.call(route, house.api.headers(scopes=rest))
    assert refused.status_code == 403, refused.text
    error = refused.json()["error"]
    assert error["type"] == "permission_error"
    assert needed in error["message"]
    assert error["details"]["scopes"] == sorted(rest)


def test_a_read_only_key_writes_nothing(house: House):
    headers = house.api.headers(scopes=["read-only"])
    for route in SCOPED:
        allowed = ROUTES[route] in PRESETS["read-only"]
        status = house.call(route, headers).status_code
        assert status == (200 if allowed else 403), route


@pytest.mark.parametrize("route", OF_AN_ID, ids=" ".join)
def test_what_belongs_to_another_tenant_is_not_there(house: House, route):
    foreign = house.call(route, house.other)
    assert foreign.status_code == 404, foreign.text
    # The very words that an id gets which nobody has.
    ids, house.ids = house.ids, {name: f"{value}x" for name, value in house.ids.items()}
    try:
        nowhere = house.call(route, house.other)
    finally:
        house.ids = ids
    assert foreign.json()["error"]["code"] == nowhere.json()["error"]["code"]
    for name in ("key_id", "file_id", "job_id"):
        text = nowhere.json()["error"]["message"].replace(f"{ids[name]}x", ids[name])
        if f"{{{name}}}" in route[1]:
            assert foreign.json()["error"]["message"] == text


def test_lists_hold_nothing_of_another_tenant(house: House):
    for path in ("/v1/files", "/v1/jobs", "/v1/models", "/v1/keys"):
        mine = {item["id"] for item in house.call(("GET", path), house.owner).json()["data"]}
        theirs = {item["id"] for item in house.call(("GET", path), house.other).json()["data"]}
        assert mine
        assert not mine & theirs


def test_references_to_another_tenants_things_are_unknown(house: House):
    spec = house.spec(house.ids["file_id"])
    for path in ("/v1/jobs", "/v1/jobs/check"):
        answer = house.api.client.post(path, json=spec, headers=house.other)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "file_not_found")
        foreign = spec | {"model": FOREIGN_MODEL}
        answer = house.api.client.post(path, json=foreign)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_found")


def test_the_owner_gets_everything_done(house: House):
    """Last, because it ends with deleting: every listed route works when called rightly."""
    deletes = [route for route in GUARDED if route[0] == "DELETE"]
    for route in [route for route in GUARDED if route not in deletes]:
        answer = house.call(route, house.owner)
        assert answer.status_code < 300, f"{route}: {answer.text}"
    for job in house.call(("GET", "/v1/jobs"), house.owner).json()["data"]:
        house.api.client.post(f"/v1/jobs/{job['id']}/cancel")
    for route in deletes:
        answer = house.call(route, house.owner)
        assert answer.status_code < 300, f"{route}: {answer.text}"
