"""How a finished job reads: how it ended, before and after, and what to do next."""

from __future__ import annotations

import json
from typing import Any, cast

from app.cli.output import Output, duration, problems_of, when
from app.kit.counting import cut

SHOWN_ROWS = 5
SHOWN = 60
WORST: dict[str, Any] = {
    "row": lambda row: row["row"],
    "loss": lambda row: row["loss"],
    "expected": lambda row: _brief(row["expected"]),
    "answered": lambda row: _brief(row["answered"]),
    "input": lambda row: _brief(row["input"]),
}


def job_record(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job as the lines of a record."""
    progress: dict[str, Any] = job.get("progress") or {}
    percent = progress.get("percent")
    return {
        "id": job["id"],
        "kind": job.get("kind"),
        "state": job["state"],
        "phase": job.get("phase"),
        "progress": None if percent is None else f"{percent:.0f} %",
        "queue position": job.get("queue_position"),
        "base model": job.get("model"),
        "result": ", ".join(results_of(job)) or None,
        "created": when(job["created_at"]),
        "took": duration(took_s(job)) if took_s(job) is not None else None,
        "runs": job.get("runs"),
        "error": (job.get("error") or {}).get("message"),
    }


def results_of(job: dict[str, Any]) -> list[str]:
    """Return the ids of what a job has made: its model, or its files."""
    model_id = job.get("model_id")
    return [model_id] if model_id else list(job.get("result_files") or [])


def took_s(job: dict[str, Any]) -> float | None:
    """Return the seconds from a job's start to its end."""
    if job.get("started_at") is None or job.get("finished_at") is None:
        return None
    return float(job["finished_at"] - job["started_at"])


def show_report(out: Output, job: dict[str, Any]) -> None:
    """Print how a finished job ended; nothing for one that still runs."""
    if job["state"] == "succeeded":
        show_figures(out, job)
        made = results_of(job)
        out.say(f"done: {', '.join(made)}" if made else "done", style="bold green")
    elif job["state"] == "failed":
        error: dict[str, Any] = job.get("error") or {"message": "no reason is on record"}
        out.say(f"failed: {error.get('message')}", style="bold red")
        for line in problems_of(error):
            out.say(f"  {line}")
    elif job["state"] == "cancelled":
        out.say("cancelled", style="yellow")


def show_figures(out: Output, job: dict[str, Any]) -> None:
    """Print each figure of a job's report beside what it has to beat."""
    columns, rows = comparison(job.get("report") or {})
    if out.is_json:
        return
    if rows:
        out.table(columns, rows)
    worst = (job.get("report") or {}).get("worst") or []
    if worst:
        out.say(f"the worst of its rows ({len(worst)} are in the job's report):")
        out.table(list(WORST), [[get(row) for get in WORST.values()] for row in worst[:SHOWN_ROWS]])


def comparison(report: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Return column names and rows: set, metric, each baseline's figure, the model's, its interval.

    The primary metric comes first.
    """
    baselines: dict[str, Any] = report.get("baselines") or {}
    of_task: dict[str, str] = report.get("primary_metrics") or {}
    rows: list[list[Any]] = []
    for split, evaluation in (report.get("evaluation") or {}).items():
        metrics: dict[str, Any] = evaluation.get("metrics") or {}
        intervals: dict[str, Any] = evaluation.get("intervals") or {}
        primary = of_task.get(split.partition("/")[2], report.get("primary_metric"))
        for metric in sorted(metrics, key=lambda found: found != primary):
            others = [
                (figures.get(split) or {}).get("metrics", {}).get(metric)
                for figures in baselines.values()
            ]
            interval = (
                "{:.4g} to {:.4g}".format(*intervals[metric]) if metric in intervals else None
            )
            rows.append([split, metric, *others, metrics[metric], interval])
    names = [name.replace("_", " ") for name in baselines]
    judged = "adapted" if names else "model"
    return ["data", "metric", *names, judged, "95 % interval"], rows


def _brief(value: Any) -> str:
    """Return the label of an answer, the text of an input with one, or all of it, on one line."""
    if isinstance(value, dict):
        entry = cast("dict[str, Any]", value)
        value = entry.get("label", next(iter(entry.values())) if len(entry) == 1 else entry)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cut(" ".join(text.split()), SHOWN)
