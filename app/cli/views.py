"""How a followed job looks: alive on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.cli.output import Output, duration
from app.cli.report import results_of, show_report
from app.kit.clock import monotonic

if TYPE_CHECKING:
    from app.cli.watch import View

EVERY_S = 10.0  # between two lines of progress where nothing can be redrawn
STYLES = {"warning": "yellow", "error": "red"}
QUIET_TYPES = {"phase", "resolved", "checkpoint"}  # the live view's header says them already
SHOWN_METRICS = 6


def view_for(out: Output, job_id: str) -> View:
    """Return the view that fits the output."""
    if out.is_json:
        return JsonView(out)
    if out.is_quiet:
        return QuietView(out)
    return LiveView(out, job_id) if out.is_live else PlainView(out)


class JsonView:
    """One JSON object a line: events, progress, and the job at its end."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def event(self, event: dict[str, Any]) -> None:
        """Write an event."""
        self._out.json(event, is_line=True)

    def progress(self, state: dict[str, Any], latest: dict[str, float]) -> None:
        """Write where the job stands."""
        body = {"object": "job.progress", **state, "metrics": latest}
        self._out.json(body, is_line=True)

    def tick(self) -> None:
        """Do nothing: a program needs no redrawing."""

    def end(self, job: dict[str, Any]) -> None:
        """Write the job."""
        self._out.json(job, is_line=True)

    def close(self) -> None:
        """Do nothing: the terminal was not taken."""


class QuietView:
    """Nothing until the end, then the id of what came of it."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def event(self, event: dict[str, Any]) -> None:
        """Stay silent."""

    def progress(self, state: dict[str, Any], latest: dict[str, float]) -> None:
        """Stay silent."""

    def tick(self) -> None:
        """Stay silent."""

    def end(self, job: dict[str, Any]) -> None:
        """Write the model's id or those of the files, else the job's."""
        for made in results_of(job) or [job["id"]]:
            self._out.line(str(made))

    def close(self) -> None:
        """Do nothing: the terminal was not taken."""


class PlainView:
    """Lines that a log file can hold."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._said_at = 0.0
        self._said = ""

    def event(self, event: dict[str, Any]) -> None:
        """Say an event."""
        level = event["level"]
        mark = f"{level}: " if level in STYLES else ""
        self._out.say(f"{mark}{event['message']}", style=STYLES.get(level))

    def progress(self, state: dict[str, Any], latest: dict[str, float]) -> None:
        """Say where the job stands, every few seconds."""
        line = progress_line(state, latest)
        if line and line != self._said and monotonic() - self._said_at > EVERY_S:
            self._said, self._said_at = line, monotonic()
            self._out.say(line)

    def tick(self) -> None:
        """Do nothing: a line once written stays."""

    def end(self, job: dict[str, Any]) -> None:
        """Say how it ended."""
        show_report(self._out, job)

    def close(self) -> None:
        """Do nothing: the terminal was not taken."""


class LiveView:
    """A bar with phase, speed and time left, and the evaluations in a table under it."""

    def __init__(self, out: Output, job_id: str) -> None:
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn

        self._out = out
        self._job_id = job_id
        self._evaluations: list[tuple[int, dict[str, float]]] = []
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[numbers]}"),
            console=out.talk,
        )
        self._task = self._bar.add_task("queued", total=100.0, numbers="")
        self._live = Live(self._draw(), console=out.talk, refresh_per_second=8)
        self._live.start()

    def event(self, event: dict[str, Any]) -> None:
        """Put an evaluation into the table, and print what else is worth reading above the bar."""
        values = (event.get("data") or {}).get("values")
        if event["type"] == "metrics" and values:
            self._evaluations.append((event["data"]["step"], values))
        elif event["type"] not in QUIET_TYPES:
            style = STYLES.get(event["level"], "dim")
            self._out.talk.print(f"  {event['message']}", style=style, markup=False)
        self._live.update(self._draw())

    def progress(self, state: dict[str, Any], latest: dict[str, float]) -> None:
        """Move the bar."""
        progress: dict[str, Any] = state.get("progress") or {}
        description = str(state.get("phase") or state["state"])
        self._bar.update(
            self._task,
            description=f"{description:<11}",
            completed=progress.get("percent") or 0.0,
            numbers=numbers(state, latest),
        )

    def tick(self) -> None:
        """Do nothing: rich redraws by itself."""

    def end(self, job: dict[str, Any]) -> None:
        """Show how it ended."""
        show_report(self._out, job)

    def close(self) -> None:
        """Give the terminal back."""
        if self._live.is_started:
            self._live.stop()

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.table import Table

        if not self._evaluations:
            return Group(self._bar)
        names = list(dict.fromkeys(n for _, v in self._evaluations for n in v))[:SHOWN_METRICS]
        table = Table(box=None, header_style="dim", padding=(0, 2))
        for title in ("step", *(name.removeprefix("eval/") for name in names)):
            table.add_column(title, justify="right")
        for step, values in self._evaluations[-8:]:
            table.add_row(str(step), *(f"{values[n]:.4f}" if n in values else "" for n in names))
        return Group(table, self._bar)


def numbers(state: dict[str, Any], latest: dict[str, float]) -> str:
    """Return `41 %  step 120/290  loss 0.412  lr 4.1e-05  310 samples/s  12 s left` as known."""
    progress: dict[str, Any] = state.get("progress") or {}
    position = state.get("queue_position")
    parts = [f"{position} before it" if position else ""]
    if progress.get("total_steps"):
        parts += [
            f"{progress['percent']:.0f} %",
            f"{progress.get('unit', 'step')} {progress['step']}/{progress['total_steps']}",
        ]
    if "train/loss" in latest:
        parts.append(f"loss {latest['train/loss']:.3f}")
    if "train/learning_rate" in latest:
        parts.append(f"lr {latest['train/learning_rate']:.1e}")
    if progress.get("samples_per_s"):
        what = "rows" if progress.get("unit") == "row" else "samples"
        parts.append(f"{progress['samples_per_s']:.0f} {what}/s")
    if progress.get("eta_s") is not None:
        parts.append(f"{duration(progress['eta_s'])} left")
    return "  ".join(part for part in parts if part)


def progress_line(state: dict[str, Any], latest: dict[str, float]) -> str:
    """Return one line that says where a job stands; empty when there is nothing to say."""
    shown = numbers(state, latest)
    return f"{state.get('phase') or state['state']}: {shown}" if shown else ""
