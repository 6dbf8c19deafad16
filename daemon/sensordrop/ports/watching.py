"""Watching folders: hints that something changed."""

from __future__ import annotations

from typing import Protocol

from sensordrop.core.model import Doubt, Hint


class HintSink(Protocol):
    """Where the watcher puts what it saw. Never blocks; safe from every thread."""

    def offer(self, hint: Hint) -> None:
        """Take a hint. A full sink drops it and remembers that a sweep is needed."""
        ...

    def doubt(self, doubt: Doubt) -> None:
        """Take note that something may have been missed: the delivery will be swept."""
        ...


class Watcher(Protocol):
    """Watches the folders of deliveries and offers hints. May miss anything; never lies low:
    whatever it knows that it missed becomes a doubt.
    """

    def watch(self, delivery: str, root: str) -> None:
        """Begin (or begin anew) to watch a root with all its sub-folders.

        May block while it walks the folders. Repeating it replaces the old watch.
        Raises OSError if the root can't be watched at all (missing, watch limit reached).
        """
        ...

    def unwatch(self, delivery: str) -> None:
        """Stop watching a delivery's root. Without a watch it does nothing.

        Waits while the watch is begun or looked at on another thread.
        """
        ...

    def check(self, delivery: str) -> None:
        """Look for trouble: dead emitters, a replaced root, changed mounts, events of our own that
        did not come back; raise doubts.

        Called about once a second. A watch in trouble is begun anew here. Blocks on the
        delivery's disk, and on nothing of other deliveries.
        """
        ...

    def watching(self, delivery: str) -> bool:
        """Tell whether this delivery is being watched by a living watch. Never blocks."""
        ...

    def canary_age_seconds(self, delivery: str) -> float | None:
        """Tell how long ago an event that we caused ourselves last came through the watch; None:
        none has yet, or there is no watch. Some 30 seconds are ordinary. Never blocks.
        """
        ...

    def problem(self, delivery: str) -> str | None:
        """Say what keeps a delivery from being watched, wholly or partly, and what to do.

        Never blocks.
        """
        ...

    def close(self) -> None:
        """End all watching. May be repeated."""
        ...
