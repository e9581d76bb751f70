"""The command line against closed ports, odd options and local files; no server is needed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.__main__ import run
from app.cli.context import hoist
from app.cli.credentials import Credentials, load, resolve, save
from app.cli.exits import Code, Failure, of_response
from app.cli.output import Output, duration, problems_of, size
from app.cli.predict import best_of
from app.cli.report import comparison, show_report
from app.cli.spec import assign, columns
from app.cli.views import QuietView, progress_line

CLOSED = "http://127.0.0.1:9"
COMMANDS = [
    [],
    ["up"], ["down"], ["serve"], ["worker"], ["migrate"], ["quickstart"], ["check"], ["predict"],
    ["evaluate"], ["batch-predict"],
    ["version"],
    ["files"], ["files", "upload"], ["files", "list"], ["files", "show"], ["files", "delete"],
    ["jobs"], ["jobs", "submit"], ["jobs", "list"], ["jobs", "show"], ["jobs", "watch"],
    ["jobs", "cancel"], ["jobs", "events"],
    ["models"], ["models", "list"], ["models", "show"], ["models", "card"],
    ["models", "download"], ["models", "delete"],
    ["keys"], ["keys", "create"], ["keys", "list"], ["keys", "revoke"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch):
    """No home, key or address of this machine's."""
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))
    for name in ("ATTUNE_URL", "ATTUNE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def write(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# --- help and cost ---


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str], capsys):
    assert run([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: attune" in out


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nfrom app.cli.__main__ import run\nassert run(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'fastapi', 'sqlalchemy', 'celery', 'pydantic', 'httpx2'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_folder_named_app_where_it_is_called_does_not_win(tmp_path: Path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise RuntimeError('the wrong app')\n")
    program = Path(sys.executable).parent / "attune"
    done = subprocess.run(
        [program, "migrate"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home" / "attune.db").exists()


def test_version(capsys):
    assert run(["version", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"version"}


# --- exit codes ---


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["jobs", "nonsense"], Code.USAGE),
        (["jobs", "show"], Code.USAGE),
        (["jobs", "list", "--limit", "0"], Code.USAGE),
        (["jobs", "submit", "--set", "nonsense"], Code.USAGE),
        (["jobs", "submit", "--train", "missing.jsonl"], Code.DATA),
        (["jobs", "submit", "--spec", "missing.json"], Code.USAGE),
        (["check"], Code.USAGE),
        (["check", "missing.jsonl"], Code.DATA),
        (["predict", "ft:x"], Code.USAGE),
        (["evaluate", "ft:x"], Code.USAGE),
        (["evaluate", "ft:x", "missing.jsonl"], Code.DATA),
        (["evaluate", "ft:x", "file-" + "0" * 26, "--url", CLOSED], Code.UNREACHABLE),
        (["batch-predict", "ft:x", "missing.jsonl"], Code.DATA),
        (["batch-predict", "ft:x", "missing.jsonl", "-o", "no/folder.jsonl"], Code.USAGE),
        (["batch-predict", "ft:x", "missing.jsonl", "-o", "f.jsonl", "--detach"], Code.USAGE),
        (["predict", "ft:x", "--file", "missing.txt"], Code.DATA),
        (["models", "delete", "ft:x"], Code.USAGE),
        (["keys", "create", "--expires", "soon"], Code.USAGE),
        (["keys", "create", "--tenant", "Not A Name"], Code.USAGE),
        (["jobs", "list", "--url", "ftp://x"], Code.USAGE),
        (["jobs", "list", "--url", CLOSED], Code.UNREACHABLE),
        (["files", "list", "--url", CLOSED], Code.UNREACHABLE),
        (["--url", CLOSED, "predict", "ft:x", "text"], Code.UNREACHABLE),
        (["quickstart", "--data", "missing"], Code.DATA),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_exit_codes(arguments: list[str], code: Code, capsys, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    if "--tenant" in arguments:
        assert run(["migrate"]) == 0
    assert run(arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err
    assert "Traceback" not in said.err


def test_an_error_is_json_where_json_was_asked_for(capsys):
    assert run(["jobs", "list", "--json", "--url", CLOSED]) == Code.UNREACHABLE
    error = json.loads(capsys.readouterr().out)["error"]
    assert CLOSED in error["message"]


def test_a_wrong_setting_names_its_variable(capsys, monkeypatch):
    monkeypatch.setenv("ATTUNE_LEASE_TTL_S", "-3")
    assert run(["keys", "create", "--tenant", "default"]) == Code.USAGE
    assert "ATTUNE_LEASE_TTL_S" in capsys.readouterr().err


def test_head_may_close_the_pipe():
    script = f"{sys.executable} -m app.cli version | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, {"code": "invalid_data"}, Code.DATA),
        (400, {"code": "column_not_found", "details": {"file": "a.csv"}}, Code.DATA),
        (400, {"code": "invalid_spec"}, Code.USAGE),
        (401, {}, Code.AUTHENTICATION),
        (403, {}, Code.AUTHENTICATION),
        (404, {}, Code.NOT_FOUND),
        (409, {}, Code.CONFLICT),
        (413, {}, Code.CONFLICT),
        (429, {}, Code.CONFLICT),
        (500, {}, Code.ERROR),
        (503, {}, Code.UNREACHABLE),
    ],
)
def test_statuses_become_exit_codes(status: int, error: dict, code: Code):
    assert of_response(status, error) == code


# --- global options ---


def test_global_options_work_anywhere():
    assert hoist(["jobs", "list", "--json", "--url", "u", "-q"]) == [
        "--json", "--url", "u", "-q", "jobs", "list",
    ]  # fmt: skip
    assert hoist(["predict", "m", "--key=k", "--", "--json"]) == [
        "--key=k", "predict", "m", "--", "--json",
    ]  # fmt: skip


def test_what_is_said_of_the_server_in_order(tmp_path: Path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    assert resolve(None, None) == Credentials("http://127.0.0.1:8000", None)
    save(home, Credentials("http://127.0.0.1:8123", "ak-file"))
    assert resolve(None, None) == Credentials("http://127.0.0.1:8123", "ak-file")
    monkeypatch.setenv("ATTUNE_API_KEY", "ak-environment")
    assert resolve(None, None).key == "ak-environment"
    assert resolve(None, "ak-option").key == "ak-option"


def test_the_saved_key_goes_to_its_own_server_only(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    save(home, Credentials("http://127.0.0.1:8123", "ak-file"))
    assert resolve("http://127.0.0.1:8123/", None).key == "ak-file"
    assert resolve("http://elsewhere.example", None).key is None


def test_credentials_are_for_their_owner_alone(tmp_path: Path):
    save(tmp_path, Credentials("http://127.0.0.1:1", "ak-1"))
    save(tmp_path, Credentials("http://127.0.0.1:2", "ak-2"))
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert load(tmp_path) == Credentials("http://127.0.0.1:2", "ak-2")
    assert "ak-2" not in repr(load(tmp_path))


# --- specs from options ---


def test_set_builds_nested_values():
    body: dict = {"task": "text-classification"}
    for item in ("optimization.epochs=3", 'task.labels=["a","b"]', "model=x=y", "suffix=007a"):
        assign(body, item)
    assert body == {
        "optimization": {"epochs": 3},
        "task": {"kind": "text-classification", "labels": ["a", "b"]},
        "model": "x=y",
        "suffix": "007a",
    }


def test_set_does_not_write_into_a_number():
    with pytest.raises(Failure, match="not an object"):
        assign({"a": 1}, "a.b=2")


def test_columns():
    assert columns(["text=review,label=stars", "pair=b"]) == {
        "text": "review", "label": "stars", "pair": "b",
    }  # fmt: skip
    with pytest.raises(Failure):
        columns(["review"])


# --- check, offline ---


def test_check_accepts_good_data(tmp_path: Path, capsys):
    rows = [{"text": f"sentence {n}", "label": "ab"[n % 2]} for n in range(40)]
    path = write(tmp_path / "good.jsonl", *rows)
    assert run(["check", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["usable"]) == (40, 40)
    assert report["columns"] == {"text": "text", "label": "label"}


def test_check_shows_the_row_that_is_wrong(tmp_path: Path, capsys):
    rows = [{"text": f"sentence {n}", "label": "ab"[n % 2]} for n in range(10)]
    path = write(tmp_path / "bad.jsonl", *rows, '{"text": "cut off', rows[0])
    assert run(["check", str(path)]) == Code.DATA
    said = capsys.readouterr().err
    assert "bad.jsonl" in said
    assert "row 11" in said


def test_check_names_the_columns_it_found(tmp_path: Path, capsys):
    path = write(tmp_path / "odd.jsonl", {"body": "x", "stars": "1"}, {"body": "y", "stars": "2"})
    assert run(["check", str(path), "--columns", "text=bodi"]) == Code.DATA
    assert "body" in capsys.readouterr().err


def test_check_knows_the_formats(tmp_path: Path, capsys):
    path = write(tmp_path / "data.docx", "x")
    assert run(["check", str(path)]) == Code.DATA
    assert ".jsonl" in capsys.readouterr().err


# --- how things read ---


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
     (3725, "1 h 02 min")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str):
    assert duration(seconds) == text


def test_sizes():
    assert [size(n) for n in (0, 999, 1000, 1_500_000)] == ["0 B", "999 B", "1.0 kB", "1.5 MB"]


def test_problems_are_cut_short_and_counted():
    first = [{"row": n, "column": "text", "message": "is empty"} for n in range(1, 9)]
    lines = problems_of({"details": {"problems": {"count": 30, "first": first}}})
    assert lines[0] == "row 1, column 'text': is empty"
    assert lines[-1] == "... and 25 more"
    spec = problems_of({"details": {"problems": [{"param": "data.train", "message": "is needed"}]}})
    assert spec == ["data.train: is needed"]


def test_predictions_read_as_label_and_score():
    assert best_of({"label": "a", "score": 0.9}) == ("a", 0.9)
    assert best_of([{"label": "a", "score": 0.9}, {"label": "b", "score": 0.1}]) == ("a", 0.9)
    assert best_of("text") == ("text", None)


def test_the_comparison_puts_the_primary_metric_first():
    report = {
        "primary_metric": "accuracy",
        "baselines": {
            "majority": {"validation": {"metrics": {"accuracy": 0.2}}},
            "linear_probe": {"rows": 9, "test": {"metrics": {"accuracy": 0.7}}},
        },
        "evaluation": {
            "validation": {"metrics": {"loss": 0.4, "accuracy": 0.9}},
            "test": {"metrics": {"accuracy": 0.8}, "intervals": {"accuracy": [0.75, 0.85]}},
        },
    }
    columns, rows = comparison(report)
    assert columns == ["data", "metric", "majority", "linear probe", "adapted", "95 % interval"]
    assert rows == [
        ["validation", "accuracy", 0.2, None, 0.9, None],
        ["validation", "loss", None, None, 0.4, None],
        ["test", "accuracy", None, 0.7, 0.8, "0.75 to 0.85"],
    ]


def test_colour_is_for_terminals(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "jobs", "list", "--url", CLOSED],
        capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == Code.UNREACHABLE
    assert "\x1b" not in done.stderr + done.stdout


def test_what_came_of_a_job_that_makes_no_model(capsys):
    judged = {"metrics": {"accuracy": 0.75}, "intervals": {"accuracy": [0.5, 1.0]}}
    worst = [{"row": 7, "loss": 2.5, "expected": "good", "answered": {"label": "bad", "score": 1},
              "input": {"text": "a  fine\nfilm"}}]  # fmt: skip
    job = {"id": "job-1", "state": "succeeded", "model_id": None, "result_files": [],
           "report": {"evaluation": {"test": judged}, "worst": worst}}  # fmt: skip
    show_report(Output(), job)
    said = capsys.readouterr()
    assert "data\tmetric\tmodel\t95 % interval" in said.out
    assert "7\t2.5\tgood\tbad\ta fine film" in said.out
    assert said.err.rstrip().endswith("done")
    QuietView(Output()).end(job)
    QuietView(Output()).end(job | {"result_files": ["file-1"]})
    QuietView(Output()).end(job | {"model_id": "ft:x"})
    assert capsys.readouterr().out.split() == ["job-1", "file-1", "ft:x"]


def test_progress_is_counted_in_what_it_is_of():
    state = {"state": "running", "phase": "predicting", "progress": {
        "step": 20, "total_steps": 80, "percent": 25.0, "samples_per_s": 12.0, "unit": "row"}}  # fmt: skip
    assert progress_line(state, {}) == "predicting: 25 %  row 20/80  12 rows/s"
    state["progress"]["unit"] = "step"
    assert progress_line(state, {}) == "predicting: 25 %  step 20/80  12 samples/s"
