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
        before_and_after(out, job)
        out.say(f"done: {job['model_id']}", style="bold green")
    elif job["state"] == "failed":
        error: dict[str, Any] = job.get("error") or {"message": "no reason is on record"}
        out.say(f"failed: {error.get('message')}", style="bold red")
        for line in problems_of(error):
            out.say(f"  {line}")
    elif job["state"] == "cancelled":
        out.say("cancelled", style="yellow")


def before_and_after(out: Output, job: dict[str, Any]) -> None:
    """Print each measurement of a job's report: the untouched model's, and the adapted one's."""
    rows = comparison(job.get("report") or {})
    if rows and not out.is_json:
        out.table(["data", "metric", "majority", "before", "after"], rows)


def comparison(report: dict[str, Any]) -> list[list[Any]]:
    """Return [data set, metric, majority answer, before, after], the primary metric first.

    "before" is the untouched model on the validation rows; a test set is only ever seen at the end.
    """
    before: dict[str, Any] = report.get("before") or {}
    majority: dict[str, Any] = (report.get("baselines") or {}).get("majority") or {}
    primary = report.get("primary_metric")
    rows: list[list[Any]] = []
    for name, evaluation in (report.get("evaluation") or {}).items():
        metrics: dict[str, Any] = evaluation.get("metrics") or {}
        for metric in sorted(metrics, key=lambda found: found != primary):
            constant = majority.get(name) if metric == "accuracy" else None
            untouched = before.get(metric) if name == "validation" else None
            rows.append([name, metric, constant, untouched, metrics[metric]])
    return rows
