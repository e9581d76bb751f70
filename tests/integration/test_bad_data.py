"""Wrong data of every kind, sent over HTTP: each fault has its code, its row, its column and a way out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.adapt.plugins import TASKS
from tests.bad_rows import (
    CLASSES,
    FAULTS,
    GOOD,
    LETTERS,
    MASKS,
    NEXT,
    ODD,
    TASK_OF,
    TRANSLATIONS,
    WRITING,
    Fault,
    Rows,
    naughty,
)
from tests.bad_sets import READ_BY_BOTH, REFUSED, TOO_LONG, WARNED
from tests.published import published
from tests.served import Served, served
from tests.tiny import make_base_folder


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    for architecture in ("encoder", "decoder", "encoder_decoder"):
        make_base_folder(folder / "bases" / architecture, architecture)
    with served(folder / "home", model_dirs=[folder / "bases"]) as made:
        yield made


def lines(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def upload(client: TestClient, content: Any, name: str = "rows.jsonl") -> Any:
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else lines(content)).encode()
    return client.post("/v1/files", files={"file": (name, content)})


def check(
    client: TestClient, task: str, data: Mapping[str, Any], *, config: Mapping[str, Any] = {},
    **fields: Any,
) -> Any:  # fmt: skip
    config = {"kind": task, **config}
    body = {"kind": "fine_tune", "model": TASKS[task].architecture, "task": config, "data": data}
    return client.post("/v1/jobs/check", json=body | fields)


def checked(api: Served, task: str, *, data: Mapping[str, Any] = {}, **sets: Any) -> Any:
    """Upload the sets (rows, or the text of a file), and check a job of them; `task.x` goes to the task."""
    files: dict[str, Any] = {}
    config = {
        name: sets.pop(name) for name in list(sets) if name not in {"train", "validation", "test"}
    }
    for name, content in sets.items():
        is_file = isinstance(content, tuple)
        answer = upload(api.client, *(content if is_file else (content,)))
        assert answer.status_code == 201, answer.text
        files[name] = answer.json()["id"]
    return check(api.client, task, files | data, config=config)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.task}-{f.code}-{f.words[:20]}")
def test_one_bad_row_is_named_and_can_be_skipped(api: Served, fault: Fault):
    rows = [*GOOD[fault.good], fault.row]
    answer = checked(api, fault.task, train=rows)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (fault.code, "data.train")
    assert (error["details"]["row"], error["details"]["column"]) == (NEXT, fault.column)
    assert fault.words in error["message"]
    assert error["message"].startswith(f"rows.jsonl, row {NEXT}, column {fault.column!r}: ")
    skipped = checked(api, fault.task, train=rows, data={"on_bad_rows": "skip"})
    assert skipped.status_code == 200, skipped.text
    found = skipped.json()
    said = f"rows.jsonl: 1 row is skipped: 1 {fault.code} (row {NEXT})"
    assert said in found["warnings"]
    assert found["data"]["train"]["problems"]["by_code"] == {fault.code: 1}
    assert sum(found["data"][name]["usable"] for name in ("train", "validation")) == len(LETTERS)


@pytest.mark.parametrize(
    ("task", "given", "code", "param", "words"), REFUSED, ids=lambda value: str(value)[:24]
)
def test_what_cannot_train_is_refused_with_the_reason(api: Served, task, given, code, param, words):
    answer = checked(api, task, **given)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert words in error["message"]


@pytest.mark.parametrize(("task", "given", "words"), WARNED, ids=lambda value: str(value)[:40])
def test_what_can_train_is_warned_of_with_rows(api: Served, task, given, words):
    answer = checked(api, task, **given)
    assert answer.status_code == 200, answer.text
    said = answer.json()["warnings"]
    assert any(words in text for text in said), said


@pytest.mark.parametrize(
    ("kind", "long", "more", "done"), TOO_LONG, ids=lambda value: str(value)[:20]
)
def test_what_is_longer_than_the_model_reads_is_counted_in_every_set(api, kind, long, more, done):
    task = WRITING if kind in {"completions", "texts"} else kind
    rows = [*GOOD[kind], long | more]
    answer = checked(
        api, task, train=rows, validation=[rows[-1], *rows[:3], rows[-1]], test=rows[-1:]
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    length = found["spec"]["optimization"]["max_length"]
    end = f"longer than {length} tokens; what is too long {done}"
    for words in (
        f"train: 1 of 13 examples is {end} (row 13)",
        f"validation: 2 of 5 examples are {end} (rows 1, 5)",
        f"test: 1 of 1 examples is {end} (row 1)",
    ):
        assert words in found["warnings"]
    counted = [
        found["data"][name]["too_long"]["examples"] for name in ("train", "validation", "test")
    ]
    assert counted == [1, 2, 1]


def test_a_length_beyond_the_model_is_said(api: Served):
    file_id = upload(api.client, GOOD[CLASSES]).json()["id"]
    found = check(api.client, CLASSES, {"train": file_id}, optimization={"max_length": 900}).json()
    assert found["spec"]["optimization"]["max_length"] == 64
    assert any(
        "max_length is 900, and the model reads at most 64" in text for text in found["warnings"]
    )


@pytest.mark.parametrize("asked_for", TASKS.kinds)
@pytest.mark.parametrize("kind", [k for k in TASKS.kinds if k != MASKS])
def test_data_of_another_task_is_told_by_name(api: Served, kind: str, asked_for: str):
    answer = checked(api, asked_for, train=GOOD[kind])
    if answer.status_code == 200:  # these read their columns too
        assert asked_for == kind or (kind, asked_for) in READ_BY_BOTH
        return
    error = answer.json()["error"]
    assert kind in error["details"]["looks_like"]
    assert kind in error["message"].partition("it looks like data for ")[2]
    assert error["code"] in {"column_not_found", "wrong_type"}
    assert "needs" in error["message"] or "needed" in error["message"]


def test_lines_of_parallel_files_without_their_other_side(api: Served):
    ids = {
        role: upload(api.client, text, f"{role}.txt").json()["id"]
        for role, text in (("source", "a\nb\nc\nd\ne\n"), ("target", "A\n\nC\nD\n"))
    }
    error = check(api.client, TRANSLATIONS, {"train": ids}).json()["error"]
    assert (error["code"], error["details"]["row"], error["details"]["column"]) == (
        "missing_side",
        2,
        "target",
    )
    assert "line 2 of target.txt" in error["message"]
    assert error["details"]["problems"]["count"] == 2
    found = check(api.client, TRANSLATIONS, {"train": ids, "on_bad_rows": "skip"}).json()
    assert (
        "source.txt + target.txt: 2 rows are skipped: 2 missing_side (rows 2, 5)"
        in found["warnings"]
    )


@pytest.mark.parametrize("task", TASKS.kinds)
def test_a_set_without_a_usable_row_says_why(api: Served, task: str):
    row = dict.fromkeys(GOOD[task][0])
    answer = checked(api, task, train=GOOD[task], validation=[row], data={"on_bad_rows": "skip"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (
        400,
        "no_usable_rows",
        "data.validation",
    )
    assert "row 1" in error["message"]


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("v.csv", "text,label\n", "no_rows", "a header and no rows"),
        ("v.jsonl", "\n\n", "empty_file", "blank lines only"),
        ("v.json", "[]", "empty_file", "no object"),
        ("v.csv", "text,label,text\na,b,c\n", "duplicate_column", "'text' twice"),
        ("v.conll", "Ada\nmet\n", "wrong_format", "a token and its tag"),
        ("v.json", b'[{"text": "\xb9"}]', "wrong_encoding", "is not UTF-8"),
        ("v.json", "[" * 90_000, "too_deep", "32 levels"),
        ("v.json", '[{"text":' + "[" * 90 + "]" * 90 + "}]", "too_deep", "32 levels"),
        ("v.json", f'[{{"text": {10**30}}}]', "number_too_large", "64 bits"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_data_is_refused_at_upload(api: Served, name, content, code, words):
    answer = upload(api.client, content, name)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == code
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ('{"text": "a", "label": NaN}', "invalid_json", "NaN and Infinity are not JSON"),
        ('{"text": "a", "text": "b", "label": "x"}', "duplicate_column", "names 'text' twice"),
        ('{"text": "a: \\"b\\": c", "label": "x"', "invalid_json", "not valid JSON"),
    ],
)
def test_a_line_that_is_no_row_is_named(api: Served, line, code, words):
    answer = checked(api, CLASSES, train=lines(GOOD[CLASSES]) + line + "\n")
    error = answer.json()["error"]
    assert (error["code"], error["details"]["row"]) == (code, NEXT)
    assert words in error["message"]


def test_text_that_only_looks_like_a_doubled_key_is_read(api: Served):
    row = '{"text": ":a", "note": "\\"text\\": 1", "label": "x"}\n'
    assert checked(api, CLASSES, train=lines(GOOD[CLASSES]) + row).status_code == 200


@pytest.mark.parametrize("task", TASKS.kinds)
def test_no_naughty_string_ends_in_a_500(api: Served, task: str):
    strings: list[str] = json.loads(
        (published("robustness/naughty_strings") / "blns.json").read_bytes()
    )
    rows = [naughty(task, text, at) for at, text in enumerate(2 * strings)]
    answer = checked(api, task, train=rows, data={"on_bad_rows": "skip"})
    assert answer.status_code == 200, answer.text
    found = answer.json()["data"]
    assert sum(found[name]["usable"] for name in ("train", "validation")) > 1.6 * len(strings)


@pytest.mark.parametrize("kind", GOOD)
def test_no_value_of_another_type_ends_in_a_500(api: Served, kind: str):
    """Every column holds every odd value once; the good rows beside them stay usable."""
    for column in GOOD[kind][0]:
        rows = GOOD[kind] + [{**row, column: odd} for row, odd in zip(cycle(GOOD[kind]), ODD)]
        answer = checked(api, TASK_OF.get(kind, kind), train=rows, data={"on_bad_rows": "skip"})
        assert answer.status_code in {200, 400}, answer.text
        if answer.status_code == 400:  # one value changed what the data is: its labels' kind
            assert answer.json()["error"]["code"] == "mixed_labels"
            continue
        found = answer.json()["data"]
        usable = sum(found[name]["usable"] for name in ("train", "validation"))
        assert len(GOOD[kind]) <= usable <= len(rows)


def test_no_file_of_the_robustness_sets_ends_in_a_500(api: Served):
    """Every file, as every task: whatever is uploaded, the dry run answers with less than a 500."""
    folder = published("robustness")
    client = TestClient(api.app, headers=api.headers(), raise_server_exceptions=False)
    accepted: dict[str, int] = {}
    wrong: list[str] = []
    for path in sorted(Path(folder).rglob("*.*")):
        answer = upload(client, path.read_bytes(), path.name)
        if answer.status_code >= 500:
            wrong.append(path.name)
        if answer.status_code != 201:
            continue
        for task in TASKS.kinds:
            data = {"train": answer.json()["id"], "on_bad_rows": "skip"}
            accepted[path.suffix] = accepted.get(path.suffix, 0) + 1
            if check(client, task, data).status_code >= 500:
                wrong.append(f"{path.name} as {task}")
    assert wrong == []
    assert accepted.keys() >= {".csv", ".jsonl", ".txt", ".json"}
