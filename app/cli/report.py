"""How a finished job reads: how it ended, before and after, and what to do next."""

from __future__ import annotations

from typing import Any

from app.cli.output import Output, duration, problems_of, when


def job_record(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job as the lines of a record."""
    progress: dict[str, Any] = job.get("progress") or {}
    percent = progress.get("percent")
    return {
        "id": job["id"],
        "state": job["state"],
        "phase": job.get("phase"),
        "progress": None if percent is None else f"{percent:.0f} %",
        "queue position": job.get("queue_position"),
        "base model": job.get("model"),
        "model": job.get("model_id"),
        "created": when(job["created_at"]),
        "took": duration(took_s(job)) if took_s(job) is not None else None,
        "runs": job.get("runs"),
        "error": (job.get("error") or {}).get("message"),
    }


def took_s(job: dict[str, Any]) -> float | None:
    """Return the seconds from a job's start to its end."""
    if job.get("started_at") is None or job.get("finished_at") is None:
        return None
    return float(job["finished_at"] - job["started_at"])


def show_report(out: Output, job: dict[str, Any]) -> None:
    """Print how a finished job ended; nothing for one that still runs."""
    if job["state"] == "succeeded":
        show_figures(out, job)
        out.say(f"done: {job['model_id']}", style="bold green")
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
    if rows and not out.is_json:
        out.table(columns, rows)


def comparison(report: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Return column names and rows: set, metric, each baseline's figure, the model's, its interval.

    The primary metric comes first.
    """
    baselines: dict[str, Any] = report.get("baselines") or {}
    primary = report.get("primary_metric")
    rows: list[list[Any]] = []
    for split, evaluation in (report.get("evaluation") or {}).items():
        metrics: dict[str, Any] = evaluation.get("metrics") or {}
        intervals: dict[str, Any] = evaluation.get("intervals") or {}
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
    return ["data", "metric", *names, "adapted", "95 % interval"], rows
