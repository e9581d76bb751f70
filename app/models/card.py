"""The model card: Markdown with the Hub's YAML head, from the facts of a finished model.

Written for whoever finds the folder a year later. Missing facts are left out, never guessed.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

Facts = dict[str, Any]

SHOWN_LABELS = 50
BASELINES = {
    "majority": "always the commonest label",
    "untouched": "the untouched base",
    "linear_probe": "a linear probe on the frozen base",
    "apart": "a model of this task alone",
}
LIMITS: tuple[str, ...] = (
    "It learned from the data above and repeats what is in it, mistakes and unfairness included.",
    "Texts in another language, style or subject get answers that look just as sure.",
    "Scores rank answers. They are not calibrated probabilities unless that was measured.",
)


def model_card(facts: Facts) -> str:
    """Return the card.

    `facts` is what `attune.json` and the manifest of a finished folder hold; any may be missing.
    """
    blocks = [
        _head(facts),
        f"# {facts.get('model_id', 'A finished model')}",
        _summary(facts),
        _section("Quality", [*_quality(facts), *_baselines(facts)]),
        _section("Data", _data(facts)),
        _section("Labels", _labels(facts)),
        _section("How to call it", _usage(facts)),
        _section("How it was made", [*_settings(facts), *_versions(facts)]),
        _section("Limits", [_bullets(_limits(facts))]),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(facts: Facts) -> str:
    """Return the YAML head; a JSON string is a YAML string without YAML's special cases."""
    task = _task(facts).get("kind")
    lines = ["---", "library_name: transformers"]
    if facts.get("base"):
        lines.append(f"base_model: {json.dumps(str(facts['base']))}")
    if task and not _tasks(facts):
        lines.append(f"pipeline_tag: {json.dumps(task)}")
    return "\n".join([*lines, "tags:", "- attune", "---"])


def _summary(facts: Facts) -> str:
    rows = [
        ("Task", _join(_task(facts).get("kind"), _task(facts).get("problem"))),
        ("Tasks", ", ".join(f"{_code(n)} ({t.get('kind')})" for n, t in _tasks(facts).items())),
        ("Base model", _code(facts.get("base"))),
        ("Base revision", _code(facts.get("revision"))),
        ("SHA-256 of the base's weights", _code(facts.get("weights_sha256"))),
        ("Parameters", _count(facts.get("num_parameters"))),
        ("Parameters trained", _count(_report(facts).get("trained_parameters"))),
        ("Longest input", _with_unit(facts.get("max_length"), "tokens; what is longer is cut")),
        ("Descends from", _lineage(facts)),
        ("Job", _code(facts.get("job_id"))),
    ]
    return _table(("", ""), rows)


def _lineage(facts: Facts) -> str:
    """Return what came before the base model, the oldest first; nothing where the base has no past."""
    entries: list[Any] = facts.get("lineage") or []
    if len(entries) < 2:  # noqa: PLR2004 - the base alone, which has a row of its own
        return ""
    return " → ".join(_join(_code(entry.get("id")), entry.get("task")) for entry in entries)


def _quality(facts: Facts) -> list[str]:
    """Return one table: a row for each metric, with the set and how many rows it was taken on."""
    report = _report(facts)
    data, evaluation = _dict(report.get("data")), _dict(report.get("evaluation"))
    rows: list[tuple[str, ...]] = []
    for full_name, value in _dict(facts.get("metrics")).items():
        split, _, name = full_name.rpartition("/")
        interval = _dict(_dict(evaluation.get(split)).get("intervals")).get(name)
        rows.append(
            (
                name,
                _number(value),
                _interval(interval),
                split or "?",
                _count(_rows(data, split)) or "?",
            )
        )
    if not rows:
        return ["It was not evaluated: there was no validation set."]
    return [_table(("metric", "value", "95 % interval", "set", "rows"), rows)]


def _baselines(facts: Facts) -> list[str]:
    """Return what costs less than this model: 90 % is no feat where 90 % is free."""
    report = _report(facts)
    primary = str(report.get("primary_metric"))
    of_task = _dict(report.get("primary_metrics"))
    rows: list[tuple[str, ...]] = []
    for name, figures in _dict(_report(facts).get("baselines")).items():
        for split, judged in _dict(figures).items():
            found = _dict(judged)
            metric = str(of_task.get(split.partition("/")[2], primary))
            value = _dict(found.get("metrics")).get(metric)
            if value is not None:
                interval = _dict(found.get("intervals")).get(metric)
                what = BASELINES.get(name, name)
                rows.append((what, f"{split} {metric}", _number(value), _interval(interval)))
    if not rows:
        return []
    return ["For comparison:", _table(("baseline", "on", "value", "95 % interval"), rows)]


def _data(facts: Facts) -> list[str]:
    data = _dict(_report(facts).get("data"))
    rows: list[tuple[str, ...]] = []
    warnings: list[str] = []
    for split, report in data.items():
        if isinstance(report, dict) and "rows" in report:
            used = report.get("usable", report["rows"])
            rows.append((split, _count(report["rows"]), _count(used)))
            warnings += [f"{split}: {text}" for text in report.get("warnings", [])]
    blocks = [_table(("set", "rows", "used"), rows)] if rows else []
    columns = _dict(facts.get("columns"))
    if columns:
        named = ", ".join(f"{_code(column)} as {role}" for role, column in columns.items())
        blocks.append(f"Columns: {named}.")
    return [*blocks, _bullets(warnings)] if warnings else blocks


def _labels(facts: Facts) -> list[str]:
    labels: list[Any] = _task(facts).get("labels") or []
    if not labels:
        return [
            f"{_code(name)}: {line}"
            for name, task in _tasks(facts).items()
            for line in _labels({"task": task})
        ]
    shown = ", ".join(_code(label) for label in labels[:SHOWN_LABELS])
    rest = len(labels) - SHOWN_LABELS
    return [f"{len(labels)}: {shown}" + (f", and {rest} more" if rest > 0 else "")]


def _usage(facts: Facts) -> list[str]:
    model_id = str(facts.get("model_id", "MODEL"))
    given: Any = facts.get("example_input", "some text")
    asked: dict[str, Any] = {"inputs": [given]}
    name = next(iter(_tasks(facts)), None)
    if name is not None:
        asked = {"task": name, "inputs": [_dict(facts["tasks"])[name].get("example_input", given)]}
    body = json.dumps(asked, ensure_ascii=False)
    curl = (
        f'curl "$ATTUNE_URL/v1/models/{model_id}/predict" \\\n'
        '  -H "Authorization: Bearer $ATTUNE_API_KEY" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(body)}"
    )
    http = (
        "import os, httpx2\n\n"
        "answer = httpx2.post(\n"
        f'    os.environ["ATTUNE_URL"] + "/v1/models/{model_id}/predict",\n'
        '    headers={"Authorization": "Bearer " + os.environ["ATTUNE_API_KEY"]},\n'
        f"    json={body},\n"
        ")\n"
        'print(answer.json()["data"])'
    )
    blocks = [_fence("sh", curl), _fence("python", http)]
    if name is not None:
        python = (
            "from pathlib import Path\n\nfrom app.adapt.heads import export\n\n"
            f'export(Path("this-folder"), {json.dumps(name)}, Path({json.dumps(name)}))'
        )
        what = "One task as a folder of its own, for plain transformers (with Attune installed):"
        blocks += [what, _fence("python", python)]
    pipeline = facts.get("pipeline")
    if pipeline:
        python = (
            "from transformers import pipeline\n\n"
            f'model = pipeline({json.dumps(pipeline)}, model="this-folder")\n'
            f"print(model({json.dumps(given, ensure_ascii=False)}))"
        )
        blocks += ["Without a server, from the downloaded folder:", _fence("python", python)]
    return blocks


def _settings(facts: Facts) -> list[str]:
    """Return what training used: the resolved spec, or what was asked when that is all there is."""
    spec = _dict(facts.get("resolved")) or _dict(facts.get("spec"))
    runtime = _dict(spec.get("runtime"))
    pairs: dict[str, Any] = {"method": _dict(spec.get("method")).get("kind")}
    pairs |= {name: spec.get(name) for name in ("objective", "transfer", "losses")}
    pairs |= _dict(spec.get("optimization"))
    pairs |= {name: runtime.get(name) for name in ("seed", "precision")}
    report = _report(facts)
    pairs |= {name: report.get(name) for name in ("steps", "best_step", "trained_tokens")}
    rows = [(name, _code(_plain(value))) for name, value in pairs.items() if value is not None]
    return [_table(("setting", "value"), rows)] if rows else []


def _versions(facts: Facts) -> list[str]:
    rows = [(name, str(value)) for name, value in _dict(facts.get("environment")).items()]
    return [_table(("with", ""), rows)] if rows else []


def _limits(facts: Facts) -> list[str]:
    cautions = [
        c for each in _dict(facts.get("tasks")).values() for c in _dict(each).get("cautions", [])
    ]
    limits = [*facts.get("cautions", []), *dict.fromkeys(cautions), *LIMITS]
    if not any(name.startswith("test/") for name in _dict(facts.get("metrics"))):
        limits.append(
            "There was no test set. The validation set picked the checkpoint: its figures flatter."
        )
    return limits


# ---- reading facts leniently


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _task(facts: Facts) -> dict[str, Any]:
    return _dict(facts.get("task"))


def _tasks(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return the tasks of a model that does several, by name."""
    return {n: _dict(_dict(each).get("task")) for n, each in _dict(facts.get("tasks")).items()}


def _report(facts: Facts) -> dict[str, Any]:
    return _dict(facts.get("report"))


def _rows(data: dict[str, Any], split: str) -> Any:
    report = _dict(data.get(split))
    return report.get("usable", report.get("rows"))


# ---- writing Markdown


def _section(title: str, blocks: Sequence[str]) -> str:
    return "\n\n".join([f"## {title}", *blocks]) if blocks else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(row for row in rows if all(row))]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {' '.join(item.split())}" for item in items)


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _code(value: Any) -> str:
    """Quote a value as code, with a fence longer than any run of backticks in it."""
    if value is None or value == "":
        return ""
    text = " ".join(str(value).split()) or " "
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _join(*parts: Any) -> str:
    return ", ".join(str(part).replace("_", " ") for part in parts if part)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _interval(value: Any) -> str:
    return f"{_number(value[0])} to {_number(value[1])}" if value else "-"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _with_unit(value: Any, unit: str) -> str:
    return f"{value} {unit}" if value else ""


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else str(value)
