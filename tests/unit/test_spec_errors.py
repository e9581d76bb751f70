"""Where a wrong spec is wrong: the path that its author wrote, and every value that would be right."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import InvalidSpec
from app.spec.job import parse_spec

SPEC: dict[str, Any] = {
    "kind": "fine_tune",
    "model": "m",
    "task": "text-classification",
    "data": {"train": "file-" + "0" * 26},
}


def refusal(patch: dict[str, Any]) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(SPEC | patch)
    return caught.value


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        ({"data": {}}, "data.train"),
        ({"data": SPEC["data"] | {"split": {"validation": 0}}}, "data.split.validation"),
        ({"data": SPEC["data"] | {"split": {"validation": 0.9}}}, "data.split.validation"),
        ({"optimization": {"learning_rate": "fast"}}, "optimization.learning_rate"),
        ({"optimization": {"betas": [0.1, 2]}}, "optimization.betas.1"),
        ({"task": {"kind": "text-classification", "labels": ["one"]}}, "task.labels"),
        ({"task": {"kind": "text-classification", "pair": "maybe"}}, "task.pair"),
        ({"task": {"kind": "text-classification", "oops": 1}}, "task.oops"),
        ({"task": "nonsense"}, "task"),
        ({"losses": [{"kind": "cross_entropy", "weight": -1}]}, "losses.0.weight"),
        ({"metadata": {"k" * 65: "v"}}, f"metadata.{'k' * 65}"),
        ({"oops": 1}, "oops"),
    ],
)
def test_the_path_is_the_one_that_was_written(patch: dict[str, Any], param: str):
    error = refusal(patch)
    assert error.param == param
    assert error.message.startswith(f"{param}: ")


def test_a_spec_that_is_no_object_is_refused_as_a_whole():
    for value in (None, 1, "fine_tune", [], [SPEC]):
        with pytest.raises(InvalidSpec) as caught:
            parse_spec(value)
        assert caught.value.param == "body"


def test_members_of_a_union_are_one_problem_that_names_them_all():
    error = refusal({"optimization": {"learning_rate": "fast"}})
    (problem,) = error.details["problems"]
    assert "number" in problem["message"]
    assert "'auto'" in problem["message"]
