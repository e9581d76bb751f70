"""From our errors to HTTP: every branch of the tree has a status, and every answer the one envelope."""

from __future__ import annotations

import json

import pytest

from app import errors
from app.errors import AttuneError
from app.http.problem import STATUS, TYPES, respond, status_of


def tree(kind: type[AttuneError]) -> list[type[AttuneError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]


def test_every_branch_of_the_tree_has_its_own_line():
    branches = {kind for kind in AttuneError.__subclasses__() if kind.__module__ == errors.__name__}
    assert branches <= set(STATUS)


@pytest.mark.parametrize("kind", tree(AttuneError), ids=lambda kind: kind.__name__)
def test_every_error_answers_in_the_envelope(kind: type[AttuneError]):
    error = kind("what is wrong", param="data.train", details={"row": 3})
    answer = respond(error)
    assert answer.status_code == status_of(error)[0]
    assert json.loads(bytes(answer.body)) == {
        "error": {
            "message": "what is wrong",
            "type": status_of(error)[1],
            "param": "data.train",
            "code": kind.code,
            "details": {"row": 3},
        }
    }


def test_who_may_try_again_is_told_when():
    for kind in tree(AttuneError):
        assert ("retry-after" in respond(kind()).headers) == kind.retryable


def test_a_status_has_one_type():
    assert len(TYPES) == len({status for status, _ in STATUS.values()})
    for status, type_ in STATUS.values():
        assert status == 500 or TYPES[status] == type_
