"""The process itself: whoever started it, its clock, how it is told to stop, its trail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class StopFlag(Protocol):
    """Says that the work in hand should end. A `threading.Event` is one."""

    def is_set(self) -> bool:
        """Tell whether to stop. Never blocks; safe from every thread."""
        ...


class ServiceManager(Protocol):
    """Whoever started the daemon and wants to know how it is (systemd). Never blocks; thread-safe.

    Where nobody wants to know, every call does nothing.
    """

    def ready(self) -> None:
        """Say that the start is complete."""
        ...

    def status(self, text: str) -> None:
        """Give the one line that an operator sees first."""
        ...

    def alive(self) -> None:
        """Say that every part turns. May be called at any rate."""
        ...

    def reloading(self) -> None:
        """Say that another configuration is being taken up."""
        ...

    def reloaded(self) -> None:
        """Say that this is over, however it ended."""
        ...

    def stopping(self) -> None:
        """Say that the daemon ends in order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ReloadOutcome:
    """What came of a try to take another configuration up."""

    problems: tuple[str, ...] = ()
    """Why it was not taken, a line each; none: it is in force."""
    changes: str = ""
    """What it changed, for people."""
    needs_restart: tuple[str, ...] = ()
    """Keys whose new values hold only from the next start on."""
    waits: bool = False
    """Nothing is wrong with it: it is tried again until it can be taken."""

    @property
    def taken(self) -> bool:
        """Tell whether it is in force."""
        return not self.problems


class Clock(Protocol):
    """Time. Never blocks; safe from every thread."""

    def now(self) -> datetime:
        """Give the wall clock, with its time zone (UTC)."""
        ...

    def wall_ns(self) -> int:
        """Give the wall clock in nanoseconds since 1970, to compare with file times."""
        ...

    def monotonic(self) -> float:
        """Give seconds that never run backwards, to measure waits."""
        ...


class Trail(Protocol):
    """Where it is noted which files are in work, to be read after a death that leaves no report.

    Belongs to one thread; never blocks, never raises.
    """

    def begin(self, upload_id: int) -> None:
        """Note that a file is in work. May be repeated."""
        ...

    def end(self, upload_id: int) -> None:
        """Note that it is no more. Without a begin it does nothing."""
        ...

    def alive(self) -> None:
        """Note that the process lives: what the kernel has killed by now was something else."""
        ...
