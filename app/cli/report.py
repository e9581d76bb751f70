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
    """Print each measurement of a job's report: the untouched model, and the adapted one."""
    rows = comparison(job.get("report") or {})
    if rows:
        out.table(["data", "metric", "before", "after"], rows)


def comparison(report: dict[str, Any]) -> list[list[Any]]:
    """Return [data set, metric, before, after] for what a report measured; before may be None."""
    before: Any = report.get("baseline") or report.get("untouched") or {}
    rows: list[list[Any]] = []
    for name in ("validation", "test"):
        after = report.get(name)
        if not isinstance(after, dict):
            continue
        first = before.get(name, before) if isinstance(before, dict) else {}
        rows += [
            [name, metric, first.get(metric), value]
            for metric, value in after.items()
            if isinstance(value, int | float) and metric not in {"rows", "seconds"}
        ]
    return rows
