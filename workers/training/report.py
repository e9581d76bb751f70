"""What a run says, and when: a thin front to the event pipe that keeps chatter down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from app.jobs.state import Phase
from app.kit.clock import monotonic
from workers.protocol import AliveEvent, Event, LogEvent, MetricsEvent, PhaseEvent, ProgressEvent

MIN_INTERVAL_S = 0.25
ALIVE_INTERVAL_S = 10.0
SMOOTHING = 0.9


class Report:
    """Sends events; progress at most four times a second, with speed and time left."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self.emit = emit
        self._sent_at = 0.0
        self._alive_at = 0.0
        self._mark: tuple[float, int, int] | None = None  # time, samples, tokens
        self._samples = self._tokens = 0
        self._rates: tuple[float, float] | None = None
        self._started: tuple[float, int] | None = None

    def phase(self, phase: Phase) -> None:
        """Say what comes next."""
        self.emit(PhaseEvent(phase=phase))

    def log(
        self, message: str, level: Literal["info", "warning", "error"] = "info",
        data: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Say a sentence for people."""
        self.emit(LogEvent(level=level, message=message, data=data or {}))

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Send points of metric series."""
        self.emit(MetricsEvent(step=step, values=values))

    def alive(self) -> None:
        """Tell the watchdog that long work without steps goes on: an evaluation, an encoding."""
        now = monotonic()
        if now - self._alive_at >= ALIVE_INTERVAL_S:
            self._alive_at = now
            self.emit(AliveEvent())

    def trained(self, samples: int, tokens: int) -> None:
        """Count what one step went through."""
        self._samples += samples
        self._tokens += tokens

    def pause(self) -> None:
        """Leave out of the speed what happens until the next step: an evaluation, a save."""
        self._mark = None

    def speed(self) -> dict[str, float]:
        """Return the smoothed samples and tokens a second since the last call, if there are any."""
        now = monotonic()
        mark, self._mark = self._mark, (now, self._samples, self._tokens)
        if mark is not None and now > mark[0]:
            seconds = now - mark[0]
            rates = ((self._samples - mark[1]) / seconds, (self._tokens - mark[2]) / seconds)
            old = self._rates or rates
            self._rates = (
                SMOOTHING * old[0] + (1 - SMOOTHING) * rates[0],
                SMOOTHING * old[1] + (1 - SMOOTHING) * rates[1],
            )
        if self._rates is None:
            return {}
        return {"samples_per_s": self._rates[0], "tokens_per_s": self._rates[1]}

    def progress(
        self, step: int, total: int, epoch: float, *, force: bool = False,
        unit: Literal["step", "row"] = "step",
    ) -> None:  # fmt: skip
        """Send where the run stands, unless it was just said."""
        now = monotonic()
        if self._started is None:
            self._started = (now, step)
        if not force and now - self._sent_at < MIN_INTERVAL_S:
            return
        self._sent_at = now
        started_at, first = self._started
        eta = (now - started_at) / (step - first) * (total - step) if step > first else None
        rates = self._rates
        self.emit(
            ProgressEvent(
                step=step,
                total_steps=total,
                epoch=round(epoch, 4),
                percent=round(100.0 * step / max(1, total), 2),
                eta_s=None if eta is None else round(eta, 1),
                samples_per_s=None if rates is None else round(rates[0], 2),
                tokens_per_s=None if rates is None else round(rates[1], 1),
                unit=unit,
            )
        )
