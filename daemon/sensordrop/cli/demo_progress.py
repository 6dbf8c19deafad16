"""The demo's words while it runs: a line that is updated in place, or a new one now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from rich.live import Live

PLAIN_SECONDS = 1.0
"""How often progress is a new line, where a line can't be updated in place."""
UNFINISHED = ("settling", "pending", "uploading")
FINISHED = ("uploaded", "skipped", "failed", "vanished")


class Progress:
    """Standard output, in a terminal or not."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._said = ""
        self._said_at = 0.0

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=sys.stdout, highlight=False)
        if sys.stdout.isatty() and not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the line that is updated in place: what is said from now on is plain text."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._live is None:
            click.echo(text)
            sys.stdout.flush()
        else:
            self._live.console.print(text, markup=False, soft_wrap=True)

    def show(self, text: str, *, last: bool = False) -> None:
        """Show where it stands; `last` stays."""
        from rich.text import Text

        if last:
            if self._live is not None:
                self._live.update("", refresh=True)
            if self._live is not None or text != self._said:
                self.say(text)
            self._said = ""
        elif self._live is not None:
            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif text != self._said and time.monotonic() - self._said_at >= PLAIN_SECONDS:
            self._said, self._said_at = text, time.monotonic()
            self.say(text)


@dataclass(kw_only=True)
class Journey:
    """How far the files are, as `sensordrop status --json` tells it. Times are monotonic."""

    expected: int
    """Files that are to arrive."""
    counts: Mapping[str, int] = field(default_factory=dict)
    bytes_uploaded: int = 0
    session: int | None = None
    state: str = "offline"
    reason: str | None = None
    moved: float
    """When anything was last seen to change."""
    began: float | None = None
    """When the first file was seen."""
    last_finished: float = 0.0

    def take(self, told: Mapping[str, Any], now: float) -> None:
        """Take in what status tells of the delivery."""
        session = told["session"] and told["session"]["id"]
        counts, state = told["counts"], told["state"]
        finished = self.finished
        if (counts, session, state) != (self.counts, self.session, self.state):
            self.moved = now
        if self.began is None and any(counts[name] for name in (*UNFINISHED, *FINISHED)):
            self.began = self.last_finished = now
        self.counts, self.session, self.state = counts, session, state
        self.reason = told["reason"]
        self.bytes_uploaded = told["bytes"]["uploaded"]
        if self.finished != finished:
            self.last_finished = now

    @property
    def finished(self) -> int:
        """Files that are in a last state."""
        return sum(self.counts.get(name, 0) for name in FINISHED)

    @property
    def seconds(self) -> float:
        """Give the time from the first file seen to the last one finished."""
        return 0.0 if self.began is None else self.last_finished - self.began

    @property
    def ended(self) -> bool:
        """Tell whether all that is expected is finished and the session over."""
        at_work = self.session is not None or self.state != "watching"
        unfinished = sum(self.counts.get(name, 0) for name in UNFINISHED)
        return not at_work and not unfinished and self.finished >= self.expected

    def line(self) -> str:
        """Describe it in one line."""
        count = {name: self.counts.get(name, 0) for name in FINISHED}
        share = 100 * min(1.0, self.finished / self.expected) if self.expected else 100.0
        speed = f"{self.finished / self.seconds:.1f}" if self.seconds > 0 else "-"
        return (
            f"| {share:.1f}% | Uploaded: {count['uploaded']:,}/{self.expected:,} "
            f"| Skipped: {count['skipped']:,} | Size: {size_text(self.bytes_uploaded)} "
            f"| Failed: {count['failed']:,} | Speed: {speed} files/s | {self.state}"
            + (f": {self.reason}" if self.reason else "")
        )


def size_text(size_bytes: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"
