"""Watches the deliveries' folders: by inotify through watchdog, or only their roots.

Each delivery has a watchdog reader and emitter of its own, so that trouble in one (an overflow,
a dead thread) is nobody else's. What watchdog does not tell is found out by `check`: watches that
it could not place, dead threads, roots that were replaced, mounts that came and went. Each
becomes a doubt, raised after the watch stands again, so that the sweep it asks for finds whatever
the watch has missed.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

from sensordrop.adapters.inotify import RootWatch
from sensordrop.adapters.mounts import Mount, MountTable
from sensordrop.core.keys import path_text
from sensordrop.core.model import Doubt, DoubtKind
from sensordrop.ports import HintSink

WATCHES_SETTING = "fs.inotify.max_user_watches"
INSTANCES_SETTING = "fs.inotify.max_user_instances"

SUGGESTED_WATCHES = 524_288
"""The least that is suggested for the kernel's limit; about half a gigabyte if all are used."""

SUGGESTED_INSTANCES = 1_024
"""The least that is suggested for the kernel's limit of inotify instances."""


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
    """A delivery that is to be watched, and its watch while it has one."""

    def __init__(self, root: str, live: RootWatch) -> None:
        self.root = root
        self.live: RootWatch | None = live
        self.problem: str | None = None
        self.lost_by: DoubtKind = DoubtKind.ROOT_REPLACED
        self.watch_limit = kernel_setting(WATCHES_SETTING)


class InotifyWatcher:
    """Watches by inotify. Implements `Watcher`; safe from every thread."""

    def __init__(self, sink: HintSink) -> None:
        _silence_watchdog()
        self._sink = sink
        self._lock = threading.RLock()
        self._mounts = MountTable()
        self._deliveries: dict[str, _Delivery] = {}
        self._closed = False

    def watch(self, delivery: str, root: str) -> None:
        """Begin to watch. The folders that are there now are watched when this returns.

        Raises OSError, with the words for the operator, if the root itself can't be watched.
        """
        with self._lock:
            self.unwatch(delivery)
            self._deliveries[delivery] = _Delivery(root, self._begin(delivery, root))

    def unwatch(self, delivery: str) -> None:
        """Stop watching a delivery's root."""
        with self._lock:
            known = self._deliveries.pop(delivery, None)
            if known is not None and known.live is not None:
                known.live.end()

    def check(self) -> None:
        """Look for trouble, begin the watches in trouble anew, and tell of it."""
        with self._lock:
            if self._closed:
                return
            mounts = self._mounts.read() if self._mounts.changed() else None
            for name, delivery in self._deliveries.items():
                self._check(name, delivery, mounts)

    def watching(self, delivery: str) -> bool:
        """Tell whether the delivery's root is watched by living threads."""
        with self._lock:
            known = self._deliveries.get(delivery)
            return known is not None and known.live is not None and known.live.alive

    def folders_unwatched(self, delivery: str) -> int:
        """Count the folders that the kernel's limit left without a watch (up to 10,000)."""
        with self._lock:
            known = self._deliveries.get(delivery)
            return known.live.unwatched if known is not None and known.live is not None else 0

    def problem(self, delivery: str) -> str | None:
        """Say what keeps a delivery from being watched, wholly or partly, and what to do."""
        with self._lock:
            known = self._deliveries.get(delivery)
            if known is None or known.live is None:
                return known.problem if known is not None else None
            count = known.live.unwatched
        if not count:
            return None
        what = f"{count:,} folders are not watched and wait for the next sweep"
        return _limit_problem(what, WATCHES_SETTING, SUGGESTED_WATCHES)

    def close(self) -> None:
        """End all watching and its threads."""
        with self._lock:
            self._closed = True
            for delivery in [*self._deliveries]:
                self.unwatch(delivery)
            self._mounts.close()

    def _begin(self, delivery: str, root: str) -> RootWatch:
        try:
            return RootWatch(delivery, root, self._mounts.read(), self._sink)
        except OSError as error:
            raise _explained(error, root) from error

    def _check(self, name: str, delivery: _Delivery, mounts: Sequence[Mount] | None) -> None:
        if delivery.live is None:
            self._begin_anew(name, delivery)
            return
        trouble = delivery.live.trouble(delivery.root, mounts)
        if trouble is None and delivery.live.unwatched and self._limit_was_raised(delivery):
            trouble = DoubtKind.OVERFLOW  # what happened in the unwatched folders was lost
        if trouble is not None:
            delivery.live.end()
            delivery.live = None
            delivery.lost_by = trouble
            self._begin_anew(name, delivery)
            if delivery.live is None:
                # Told now, so that a sweep shows what is wrong; and again when it is back.
                self._sink.doubt(Doubt(delivery=name, kind=trouble))

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
