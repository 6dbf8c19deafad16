"""A watcher where nothing is watched: a run by hand sweeps, and ends."""

from __future__ import annotations


class NoWatcher:
    """Reports nothing and promises nothing. Implements `ports.Watcher`."""

    def watch(self, delivery: str, root: str) -> None:
        """See `ports.Watcher.watch`."""

    def unwatch(self, delivery: str) -> None:
        """See `ports.Watcher.unwatch`."""

    def check(self, delivery: str) -> None:
        """See `ports.Watcher.check`."""

    def watching(self, _delivery: str) -> bool:
        """See `ports.Watcher.watching`."""
        return False

    def canary_age_seconds(self, _delivery: str) -> float | None:
        """See `ports.Watcher.canary_age_seconds`."""
        return None

    def problem(self, _delivery: str) -> str | None:
        """See `ports.Watcher.problem`."""
        return None

    def close(self) -> None:
        """See `ports.Watcher.close`."""
