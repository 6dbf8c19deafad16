"""One root under inotify: watchdog's threads, with what they miss put right.

Hints are made where watchdog would make its own events, which spares its unbounded event queue
and a thread. What is overridden here is fitted to watchdog 7.1; the contract tests tell whether
a later one still behaves.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Sequence

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
)
from watchdog.observers.api import EventQueue, ObservedWatch
from watchdog.observers.inotify import InotifyEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import (
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
    inotify_add_watch,
    inotify_rm_watch,
)
from watchdog.observers.inotify_move_event_grouper import (
    GroupedInotifyEvent,
    InotifyMoveEventGrouper,
    PathedInotifyEvent,
)

from sensordrop.adapters.mounts import Mount, mounts_concerning
from sensordrop.core.model import Doubt, DoubtKind, Hint, HintKind
from sensordrop.core.taking import ASIDE
from sensordrop.ports.watching import HintSink

UNWATCHED_LIMIT = 10_000
"""How many folders without a watch are remembered; beyond, they are no longer told apart."""

JOIN_SECONDS = 5.0
"""How long a watch's threads may take to end. They are daemonic: nothing waits for them after."""

# No writes, no deletions, no opens: a recorder's card would bring millions of them.
EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
]

Identity = tuple[int, int]


def identity_of(root: str) -> Identity:
    """Tell which folder a root is now. Raises OSError, also if it is none."""
    status = os.stat(root)  # noqa: PTH116 - text stays text
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
    return status.st_dev, status.st_ino


class _Reader(InotifyFD):
    """Watchdog's reader of one inotify instance. Gives its descriptors back in every case."""

    def __init__(self) -> None:
        self._released = False
        super().__init__()

    def _close_resources(self) -> None:
        if not self._released:
            self._released = True
            super()._close_resources()

    def open_watched(self, folder: int, mask: Mask, wd: WatchDescriptor) -> bool:
        """Open a watched folder once more, so that its watch tells of it; False: it has none.

        Opens are watched for no longer than this takes: every file that is read would be told.
        `folder` is a descriptor: under its name there may be another folder by now.
        """
        path = b"/proc/self/fd/%d" % folder
        mask = Mask(mask & ~InotifyConstants.IN_DONT_FOLLOW)
        added = Mask(InotifyConstants.IN_OPEN | InotifyConstants.IN_MASK_ADD)
        with self._lock:
            if self._closed:
                return True
            found = inotify_add_watch(self._inotify_fd, path, added)
            if found == wd:
                os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                inotify_add_watch(self._inotify_fd, path, mask)
            elif found != -1:
                inotify_rm_watch(self._inotify_fd, found)
        return found == wd

    def end(self) -> None:
        """Stop the thread and let go of the instance."""
        self.stop()
        self.join(JOIN_SECONDS)
        if not self.is_alive():
            # Watchdog leaves this to the thread, which may have died or not have begun to read.
            with self._lock:
                self._close_resources()


class _Grouper(InotifyMoveEventGrouper):
    """Brings the two ends of a move together, for folders only.

    Watchdog looks through all waiting events for each renamed file, and may sleep half a second
    over one: whoever copies through temporary names (rsync) would overflow the kernel's queue.
    """

    def __init__(self) -> None:
        super().__init__()
        self._leaving = set[int]()

    def put_event(self, event: PathedInotifyEvent) -> None:
        happened = event.ev
        if happened.is_directory:
            if happened.is_moved_from:
                self._leaving.add(happened.cookie)
            super().put_event(event)
            if happened.is_moved_to:
                self._leaving.discard(happened.cookie)
        elif not happened.is_moved_from:  # a file's old name tells nothing
            self._queue.put(event)

    def get_queued_moved_from_event(self, cookie: int) -> PathedInotifyEvent | None:
        return super().get_queued_moved_from_event(cookie) if cookie in self._leaving else None


def _listed(folder: bytes) -> tuple[list[bytes], list[bytes]]:
    """Name the folders in a folder, and all else. One that can't be read is a sweep's to tell."""
    folders: list[bytes] = []
    others: list[bytes] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
    except OSError:
        pass
    return folders, others


class _WatchGroup(InotifyWatchGroup):
    """All inotify watches of one root. Remembers the folders that it could not watch."""

    def __init__(
        self, reader: InotifyFD, root: bytes, mask: Mask, sink: HintSink, delivery: str
    ) -> None:
        self._sink = sink
        self._delivery = delivery
        self.unwatched = set[bytes]()
        self._stands = False
        super().__init__(reader, root, event_mask=mask, is_recursive=True)
        self._stands = True

    def __post_init__(self) -> None:
        self._move_event_grouper = _Grouper()
        super().__post_init__()

    @property
    def root_wd(self) -> WatchDescriptor | None:
        return self._active_callbacks_by_path.get(self.path)

    @property
    def root_watched(self) -> bool:
        return self.root_wd is not None

    def on_queue_overflow(self) -> None:
        super().on_queue_overflow()  # finds the folders that came while events were lost
        self._sink.doubt(Doubt(delivery=self._delivery, kind=DoubtKind.OVERFLOW))

    def _add_all_callbacks(self, path: bytes) -> None:
        # Watchdog's walk recurses: a thousand folders in each other end the program. Each folder
        # is watched before it is listed, so that none that comes meanwhile is lost between.
        self._add_callback(path)
        waiting = [path]
        while waiting:
            folder = waiting.pop()
            for name in _listed(folder)[0]:
                below = os.path.join(folder, name)  # noqa: PTH118 — bytes, for every folder
                self._add_callback(below)
                waiting.append(below)

    def _recursive_simulate(self, src_path: bytes) -> list[InotifyEvent]:
        # As above; and a folder that is not watched (yet) tells of what is in it by itself.
        events = []
        waiting = [src_path]
        while waiting:
            folder = waiting.pop()
            wd = self._active_callbacks_by_path.get(folder)
            if wd is None:
                continue
            folders, files = _listed(folder)
            made, below = InotifyConstants.IN_CREATE, InotifyConstants.IN_ISDIR
            events += [InotifyEvent(wd, Mask(made | below), 0, name) for name in folders]
            events += [InotifyEvent(wd, made, 0, name) for name in files]
            waiting += [os.path.join(folder, name) for name in folders]  # noqa: PTH118 — as above
        return events

    def _add_callback(self, path: bytes) -> None:
        try:
            wd = self._inotify_fd.add_callback(path, self.event_mask, self._callback, self._id)
        except OSError as error:
            if path == self.path:
                raise
            # Anything else means that the folder is gone again, or is told by its own event; or
            # its path is longer than the system takes, and then than any key in a store.
            if error.errno in {errno.ENOSPC, errno.ENOMEM} and (
                len(self.unwatched) < UNWATCHED_LIMIT
            ):
                self.unwatched.add(path)
            return
        if wd == -1:
            # Watchdog lets a refused folder pass as watched. A sweep tells of such a folder: one
            # comes after each beginning, and for a folder that comes later it is asked for.
            self._inotify_fd.remove_callbacks([(wd, self._id)])
            if path == self.path:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            if self._stands:
                self._sink.doubt(Doubt(delivery=self._delivery, kind=DoubtKind.FOLDER_CLOSED))
            return
        self.unwatched.discard(path)
        self._active_callbacks_by_path[path] = wd
        self._active_callbacks_by_watch[wd] = path

    def _remove_watch_internally(self, wd: WatchDescriptor) -> None:
        # Where a folder was moved away and another has its name now, two watches share a path.
        # Watchdog 7.1 dies of the second one's end, and its emitter stays "alive".
        path = self._active_callbacks_by_watch.pop(wd, None)
        if path is not None and self._active_callbacks_by_path.get(path) == wd:
            del self._active_callbacks_by_path[path]


class _Emitter(InotifyEmitter):
    """Turns what happened below one root into hints and doubts."""

    def __init__(self, delivery: str, root: str, reader: InotifyFD, sink: HintSink) -> None:
        watch = ObservedWatch(root, recursive=True, event_filter=EVENTS)
        super().__init__(EventQueue(), watch, event_filter=EVENTS, inotify_fd=reader)
        self._delivery = delivery
        self._sink = sink
        self._root = os.fsencode(root)
        self._below = self._root.rstrip(b"/") + b"/"
        self.folders_left = False
        """A folder was moved out of the root: its watches are still there, under its old name."""
        self.canary_sent_at: float | None = None
        """When the first event of our own was sent that has not come back; None: all have."""
        self.canary_came_at: float | None = None

    def on_thread_start(self) -> None:
        self.group = _WatchGroup(
            self._inotify_fd,
            self._root,
            self.get_event_mask_from_filter(),
            self._sink,
            self._delivery,
        )
        self._inotify = self.group

    def build_and_queue_event(
        self, event: GroupedInotifyEvent, *, full_events: bool = False
    ) -> None:
        if not isinstance(event, PathedInotifyEvent):
            event = event[1]  # both ends of a move are known: only where it went matters
        happened, path = event
        if happened.is_delete_self:
            if path == self._root:
                self.stop()
        elif happened.is_directory:
            if happened.is_open and path == self._root:
                self.canary_sent_at, self.canary_came_at = None, time.monotonic()
            elif happened.is_moved_to:
                self._folder_came(path)
            elif happened.is_moved_from:
                self.folders_left = True
        elif happened.is_close_write:
            self._hint(path, HintKind.CLOSED)
        elif happened.is_create or happened.is_moved_to:
            self._hint(path, HintKind.APPEARED)

    def _hint(self, path: bytes, kind: HintKind) -> None:
        relative = path.removeprefix(self._below)
        if relative.rpartition(b"/")[2].startswith(ASIDE):
            return  # it is about to be removed, by us
        self._sink.offer(Hint(delivery=self._delivery, path=relative, kind=kind))

    def _folder_came(self, path: bytes) -> None:
        """Ask for a sweep of what came with a folder: it may be a whole card, moved in at once.

        One that holds nothing yet (somebody renames "New folder") is not worth a sweep: it is
        watched by now, so what comes into it is seen.
        """
        try:
            with os.scandir(path) as entries:
                empty = next(entries, None) is None
        except FileNotFoundError:
            return  # moved on: that is an event of its own
        except OSError:
            empty = False
        if not empty:
            self._sink.doubt(Doubt(delivery=self._delivery, kind=DoubtKind.FOLDERS_MOVED))


class RootWatch:
    """One living watch: the threads of one root, and what the root was when it began."""

    def __init__(self, delivery: str, root: str, mounts: Sequence[Mount], sink: HintSink) -> None:
        self.identity = identity_of(root)
        # A root that is a link is watched where it points to; check() sees if it is turned.
        self._path = os.path.realpath(root)
        self.mounts = mounts_concerning(os.fsencode(self._path), mounts)
        self._canary_flown_at = float("-inf")
        self._reader = _Reader()
        self._reader.start()
        self._emitter = _Emitter(delivery, self._path, self._reader, sink)
        try:
            self._emitter.start()
        except OSError:
            self._reader.end()
            raise

    def trouble(self, root: str, mounts: Sequence[Mount] | None) -> DoubtKind | None:
        """Say why this watch can't be relied on any more, or None."""
        if mounts is not None:
            now = mounts_concerning(os.fsencode(self._path), mounts)
            if now != self.mounts:
                return DoubtKind.MOUNTS_CHANGED
        try:
            if identity_of(root) != self.identity:
                return DoubtKind.ROOT_REPLACED
        except OSError:
            return DoubtKind.ROOT_REPLACED
        if not self.alive:
            return DoubtKind.EMITTER_DEAD
        if self._emitter.folders_left:
            return DoubtKind.FOLDERS_MOVED
        return None

    @property
    def alive(self) -> bool:
        """Tell whether both threads live and the root itself is still watched."""
        return (
            self._reader.is_alive()
            and self._emitter.is_alive()
            and self._emitter.group.root_watched
        )

    @property
    def canary_age_seconds(self) -> float | None:
        """Tell how long ago an event of our own last came through; None: not yet."""
        came_at = self._emitter.canary_came_at
        return None if came_at is None else time.monotonic() - came_at

    def canary_is_lost(self, root: str, *, every_seconds: float, patience_seconds: float) -> bool:
        """Send an event of our own through the watch now and then: the root is opened, to be read.

        True: for longer than the patience, none came back.
        """
        emitter, now = self._emitter, time.monotonic()
        sent_at = emitter.canary_sent_at
        if sent_at is not None and now - sent_at > patience_seconds:
            return True
        if now - self._canary_flown_at < every_seconds:
            return False
        self._canary_flown_at = now
        if sent_at is None:
            emitter.canary_sent_at = now
        try:
            return not self._fly(root)
        except OSError:
            # It can't be opened now (descriptors, rights): that says nothing about the watch.
            emitter.canary_sent_at = None
            return False

    def _fly(self, root: str) -> bool:
        """Open the root where its watch must see it; False: the kernel has no such watch."""
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            status = os.fstat(folder)
            if (status.st_dev, status.st_ino) != self.identity:
                return True  # it was replaced just now: the next look tells
            group = self._emitter.group
            wd = group.root_wd
            return wd is not None and self._reader.open_watched(folder, group.event_mask, wd)
        finally:
            os.close(folder)

    @property
    def unwatched(self) -> int:
        """Count the folders that the kernel's limit left without a watch."""
        return len(self._emitter.group.unwatched)

    def end(self) -> None:
        """End the threads and give the watches back."""
        self._emitter.stop()
        self._emitter.join(JOIN_SECONDS)
        self._reader.end()
