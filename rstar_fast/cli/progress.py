"""Progress of a search on standard error: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from rstar_fast.types import Expansion, Finished, ProgressEvent

_PLAIN_EVERY_S = 10.0
_RATES_AFTER_S = 1.0  # what came of less says nothing


class Meter:
    """Counts what a search does. Restored problems are done but enter no rate.

    Args:
      total: problems asked for.
      clock: seconds, growing.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self._clock = total, clock
        self.done = self.restored = self.failed = self.tokens = self.steps_run = 0
        self._started: float | None = None  # the first new event: loading the models is not searching
        self._counted: dict[str, tuple[int, int]] = {}  # (tokens, steps run) of unfinished problems

    def count(self, event: ProgressEvent) -> None:
        """Takes an event in."""
        if isinstance(event, Finished) and event.restored:
            self.done += 1
            self.restored += 1
            self.failed += event.result.failure is not None
            return
        if self._started is None:
            self._started = self._clock()
        if isinstance(event, Expansion):
            tokens, steps_run = self._counted.get(event.problem.id, (0, 0))
            self._counted[event.problem.id] = (tokens + event.policy_tokens, steps_run + event.steps_run)
            self.tokens += event.policy_tokens
            self.steps_run += event.steps_run
        else:
            # Expansions that came to nothing are no events; the finished problem's own count has them.
            tokens, steps_run = self._counted.pop(event.result.problem.id, (0, 0))
            self.tokens += event.result.stats.policy_tokens - tokens
            self.steps_run += event.result.stats.steps_run - steps_run
            self.done += 1
            self.failed += event.result.failure is not None

    @property
    def seconds(self) -> float:
        """Seconds of searching so far."""
        return 0.0 if self._started is None else self._clock() - self._started

    def rate(self, count: int) -> float:
        """`count` per second of searching; 0 before there was any."""
        return count / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the problems that were searched, not restored; None before the first."""
        searched = self.done - self.restored
        return (self.total - self.done) * self.seconds / searched if searched else None

    def line(self) -> str:
        """The state in one line."""
        notes = [f"{number} {name}" for number, name in ((self.restored, "restored"), (self.failed, "failed")) if number]
        noted = f" ({', '.join(notes)})" if notes else ""
        line = f"{self.done}/{self.total} problems{noted}"
        if self._started is None:
            return line
        if self.done == self.total:
            return f"{line}  {self.rates()}  in {duration(self.seconds)}"
        if self.seconds < _RATES_AFTER_S:
            return line
        left = "unknown" if self.seconds_left is None else duration(self.seconds_left)
        return f"{line}  {self.rates()}  left: {left}"

    def rates(self) -> str:
        """Problems, tokens and steps run, each per second."""
        problems = self.rate(self.done - self.restored)
        return f"{problems:.2f} problems/s  {self.rate(self.tokens):.0f} tokens/s  {self.rate(self.steps_run):.0f} steps run/s"


class SearchProgress:
    """A progress callback for `rstar_fast.search` that shows a Meter. Use it as a context manager."""

    def __init__(self, total: int, console: Console, label: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.meter = Meter(total, clock)
        self._console, self._label, self._clock = console, label, clock
        self._shown = clock()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[line]}"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(label or "search", total=max(total, 1), line="loading the models ...")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None or kind is KeyboardInterrupt:
            self._print()

    def __call__(self, event: ProgressEvent) -> None:
        self.meter.count(event)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.meter.done, line=self.meter.line())
        elif self._clock() - self._shown >= _PLAIN_EVERY_S:
            self._shown = self._clock()
            self._print()

    def _print(self) -> None:
        label = f"{self._label}: " if self._label else ""
        self._console.print(f"{label}{self.meter.line()}", markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as "12 s", "3:05" or "2:03:05"."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{whole} s"
