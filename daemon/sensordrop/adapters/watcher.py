"""Watches the deliveries' folders: by inotify through watchdog, or only their roots.

Each delivery has a watchdog reader and emitter of its own, so that trouble in one (an overflow,
a dead thread, a disk that does not answer) is nobody else's. What watchdog does not tell is found
out by `check`: watches that it could not place, dead threads, roots that were replaced, mounts
that came and went, events of our own that don't come back. Each becomes a doubt, raised after the
watch stands again, so that the sweep it asks for finds whatever the watch has missed.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

from sensordrop.adapters.inotify import JOIN_SECONDS, RootWatch
from sensordrop.adapters.mounts import Mount, MountWatch
from sensordrop.core.keys import path_text
from sensordrop.core.model import Doubt, DoubtKind
from sensordrop.ports.watching import HintSink

WATCHES_SETTING = "fs.inotify.max_user_watches"
INSTANCES_SETTING = "fs.inotify.max_user_instances"

SUGGESTED_WATCHES = 524_288
"""The least that is suggested for the kernel's limit; about half a gigabyte if all are used."""

SUGGESTED_INSTANCES = 1_024
"""The least that is suggested for the kernel's limit of inotify instances."""

CANARY_SECONDS = 30.0
"""How often an event of our own making is sent through each watch: it costs some system calls."""

CANARY_PATIENCE_SECONDS = 90.0
"""A watch that did not tell of it for so long, three times, is taken for dead and begun anew. A
reader that is busy with a whole queue of events needs some seconds."""


def kernel_setting(name: str) -> int | None:
    """Read a kernel setting; None where it is hidden (a sandbox may hide /proc/sys)."""
    try:
        return int(Path("/proc/sys", *name.split(".")).read_text())
    except (OSError, ValueError):
        return None


def _limit_problem(what: str, setting: str, least: int) -> str:
    now = kernel_setting(setting)
    shown = "" if now is None else f" = {now}"
    better = max(least, 2 * (now or 0))
    return (
        f"{what}: the kernel's limit {setting}{shown} is used up; "
        f"raise it: sysctl -w {setting}={better}"
    )


def _explained(error: OSError, root: str) -> OSError:
    """Give the same error, saying what can be done about it."""
    name = path_text(os.fsencode(root))
    if error.errno == errno.ENOSPC:
        words = _limit_problem(f"{name} can't be watched", WATCHES_SETTING, SUGGESTED_WATCHES)
    elif error.errno == errno.EMFILE:
        words = _limit_problem(f"{name} can't be watched", INSTANCES_SETTING, SUGGESTED_INSTANCES)
    else:
        words = f"{name} can't be watched: {error.strerror}"
    return OSError(error.errno, words)


class _Delivery:
    """A delivery that is to be watched, and its watch while it has one.

    The lock is held while the disk is waited for; whoever must not wait only reads.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.lock = threading.Lock()
        self.live: RootWatch | None = None
        self.ended = False
        self.problem: str | None = None
        self.lost_by: DoubtKind = DoubtKind.ROOT_REPLACED
        self.watch_limit = kernel_setting(WATCHES_SETTING)
        self.mount_changes = 0


class InotifyWatcher:
    """Watches by inotify. Implements `Watcher`; safe from every thread."""

    def __init__(
        self,
        sink: HintSink,
        *,
        canary_seconds: float = CANARY_SECONDS,
        canary_patience_seconds: float = CANARY_PATIENCE_SECONDS,
    ) -> None:
        _silence_watchdog()
        self._sink = sink
        self._canary_seconds = canary_seconds
        self._canary_patience_seconds = canary_patience_seconds
        self._lock = threading.Lock()
        self._mounts = MountWatch()
        self._deliveries: dict[str, _Delivery] = {}
        self._closed = False

    def watch(self, delivery: str, root: str) -> None:
        """Begin to watch. The folders that are there now are watched when this returns.

        Raises OSError, with the words for the operator, if the root itself can't be watched.
        """
        self.unwatch(delivery)
        made = _Delivery(root)
        with made.lock:
            made.mount_changes = self._mounts.changes()
            made.live = self._begin(delivery, root)
            with self._lock:
                if not self._closed:
                    self._deliveries[delivery] = made
                    return
            made.live.end()

    def unwatch(self, delivery: str) -> None:
        """Stop watching a delivery's root."""
        with self._lock:
            known = self._deliveries.pop(delivery, None)
        if known is not None:
            with known.lock:
                known.ended = True
                if known.live is not None:
                    known.live.end()

    def check(self, delivery: str) -> None:
        """Look for trouble, begin a watch in trouble anew, and tell of it."""
        with self._lock:
            known = self._deliveries.get(delivery)
        # Where somebody else holds the lock, the watch begins or ends just now.
        if known is None or not known.lock.acquire(blocking=False):
            return
        try:
            if not known.ended:
                self._check(delivery, known)
        finally:
            known.lock.release()

    def watching(self, delivery: str) -> bool:
        """Tell whether the delivery's root is watched by living threads."""
        known = self._deliveries.get(delivery)
        live = None if known is None else known.live
        return live is not None and live.alive

    def folders_unwatched(self, delivery: str) -> int:
        """Count the folders that the kernel's limit left without a watch (up to 10,000)."""
        known = self._deliveries.get(delivery)
        live = None if known is None else known.live
        return 0 if live is None else live.unwatched

    def canary_age_seconds(self, delivery: str) -> float | None:
        """Tell how long ago an event of our own making last came through the watch."""
        known = self._deliveries.get(delivery)
        live = None if known is None else known.live
        return None if live is None else live.canary_age_seconds

    def problem(self, delivery: str) -> str | None:
        """Say what keeps a delivery from being watched, wholly or partly, and what to do."""
        known = self._deliveries.get(delivery)
        live = None if known is None else known.live
        if live is None:
            return known.problem if known is not None else None
        if not (count := live.unwatched):
            return None
        what = f"{count:,} folders are not watched and wait for the next sweep"
        return _limit_problem(what, WATCHES_SETTING, SUGGESTED_WATCHES)

    def close(self) -> None:
        """End all watching and its threads."""
        with self._lock:
            self._closed = True
            deliveries = list(self._deliveries.values())
            self._deliveries.clear()
        for known in deliveries:
            # A folder that does not answer may hold the lock for ever; its threads are daemonic.
            if known.lock.acquire(timeout=JOIN_SECONDS):
                known.ended = True
                if known.live is not None:
                    known.live.end()
                known.lock.release()
        self._mounts.close()

    def _begin(self, delivery: str, root: str) -> RootWatch:
        try:
            return RootWatch(delivery, root, self._mounts.read(), self._sink)
        except OSError as error:
            raise _explained(error, root) from error

    def _check(self, name: str, delivery: _Delivery) -> None:
        changes = self._mounts.changes()
        mounts = self._mounts.read() if changes != delivery.mount_changes else None
        delivery.mount_changes = changes
        if delivery.live is None:
            self._begin_anew(name, delivery)
            return
        trouble = self._trouble(delivery, delivery.live, mounts)
        if trouble is not None:
            delivery.live.end()
            delivery.live = None
            delivery.lost_by = trouble
            self._begin_anew(name, delivery)
            if delivery.live is None:
                # Told now, so that a sweep shows what is wrong; and again when it is back.
                self._sink.doubt(Doubt(delivery=name, kind=trouble))

    def _trouble(
        self, delivery: _Delivery, live: RootWatch, mounts: Sequence[Mount] | None
    ) -> DoubtKind | None:
        trouble = live.trouble(delivery.root, mounts)
        if trouble is None and live.unwatched and self._limit_was_raised(delivery):
            trouble = DoubtKind.OVERFLOW  # what happened in the unwatched folders was lost
        if trouble is None and live.canary_is_lost(
            delivery.root,
            every_seconds=self._canary_seconds,
            patience_seconds=self._canary_patience_seconds,
        ):
            trouble = DoubtKind.CANARY_LOST
        return trouble

    def _begin_anew(self, name: str, delivery: _Delivery) -> None:
        delivery.watch_limit = kernel_setting(WATCHES_SETTING)
        try:
            delivery.live = self._begin(name, delivery.root)
        except OSError as error:
            delivery.problem = error.strerror
        else:
            delivery.problem = None
            self._sink.doubt(Doubt(delivery=name, kind=delivery.lost_by))

    def _limit_was_raised(self, delivery: _Delivery) -> bool:
        before, now = delivery.watch_limit, kernel_setting(WATCHES_SETTING)
        return before is not None and now is not None and now > before


def _silence_watchdog() -> None:
    """Keep watchdog from writing to stderr by itself: what it has to say becomes doubts.

    Its warnings still reach the handlers that the program has set up.
    """
    logger = logging.getLogger("watchdog")
    logger.setLevel(logging.WARNING)  # it logs every single event at DEBUG
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    # A folder that is seen twice, by its event and by a walk, is no trouble.
    warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
