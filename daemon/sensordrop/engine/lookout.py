"""Looks at every delivery's folder once a second, without ever waiting for one of them.

A share that does not answer holds up the thread that looks at it and nothing else: after a while
its delivery counts as offline, and everybody else goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import structlog

from sensordrop.core.guard import RootKnown, RootSeen, judge_root
from sensordrop.core.keys import path_text
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.errands import Errands
from sensordrop.engine.sweeper import KnownDisk
from sensordrop.ports.watching import Watcher

HUNG_SECONDS = 20.0
"""A folder that did not answer for so long is offline. A disk that has to spin up needs ten."""
LOOKERS = 4
"""Folders that are looked at at once, those that don't answer not counted: a look is a few
system calls."""
CLOSE_SECONDS = 5.0
"""How long looks under way are waited for at the end."""

_log = structlog.get_logger()


class Change(StrEnum):
    """What a look found to be different from the one before."""

    OFFLINE = "offline"
    ONLINE = "online"
    EXCHANGED = "exchanged"
    """Another file system is in the folder's place, or the same one was mounted anew."""


@dataclass(kw_only=True)
class _Place:
    """What is known of one delivery's folder."""

    filesystem: str = ""
    """Where it was last swept."""
    seen: str = ""
    """Where it is now, as it was last looked up."""
    mount_changes: int = -1
    """How often anything had been mounted when it was last looked up."""
    exchanged: bool = False
    accepted: bool = False
    held_call: int | None = None
    """The call on a file that was seen to wait for too long."""


class Lookout:
    """Sets the deliveries' `device` and `offline_reason`. Belongs to the scout's thread."""

    def __init__(
        self,
        *,
        watcher: Watcher,
        files_wait: Callable[[int], bool],
        wake: Callable[[], None],
        hung_seconds: float = HUNG_SECONDS,
    ) -> None:
        """`files_wait` tells of a delivery whether files of it are on the books and not stored."""
        self._watcher = watcher
        self._files_wait = files_wait
        self._hung_seconds = hung_seconds
        self._places: dict[str, _Place] = {}
        self._looks: Errands[RootSeen] = Errands(name="lookout", most=LOOKERS, wake=wake)

    def close(self) -> None:
        """Wait a little for the looks that are under way."""
        self._looks.close(CLOSE_SECONDS)

    def begin(self, filesystems: Mapping[str, str]) -> None:
        """Take in on which file systems folders were last swept, by their deliveries' keys."""
        for name, filesystem in filesystems.items():
            self._place(name).filesystem = filesystem

    def forget(self, delivery: Delivery) -> None:
        """Forget a delivery that left."""
        self._places.pop(delivery.key, None)

    def under_way(self, delivery: Delivery) -> bool:
        """Tell whether its folder is being looked at."""
        return self._looks.under_way(delivery.key)

    def look(self, delivery: Delivery) -> None:
        """Begin a look at a folder, unless the last one has not ended yet."""
        self._looks.start(delivery.key, lambda: self._look(delivery))

    def take(self, deliveries: Mapping[str, Delivery]) -> Iterator[tuple[Delivery, Change]]:
        """Judge the looks that have ended; tell what has changed.

        Raises what a look raised that is no trouble of the folder, and LedgerUnavailableError.
        """
        while (ended := self._looks.collect()) is not None:
            delivery = deliveries.get(ended.key)
            if delivery is None:
                continue  # it left while its folder was looked at
            for change in self._judge(delivery, ended.outcome()):
                yield delivery, change

    def hung(self, delivery: Delivery) -> bool:
        """Tell whether a folder, or a file in it that is read, does not answer; its delivery is
        offline then. Asked for often.
        """
        if self._looks.held_up_seconds(delivery.key) >= self._hung_seconds:
            self._looks.write_off(delivery.key)
            reason = f"the folder does not answer: {delivery.settings.root}"
        else:
            held = self._held_file(delivery)
            if held is None:
                return False
            reason = f"a file does not answer: {held} in {delivery.settings.root}"
        if delivery.offline_reason is None or not delivery.hung:
            _log.warning("delivery_offline", delivery=delivery.name, problem=reason,
                         hint="look at the share or the disk; it goes on by itself")  # fmt: skip
            delivery.offline_reason = reason
            delivery.hung = delivery.slow_folder = True
        return True

    def _held_file(self, delivery: Delivery) -> str | None:
        """Name the file whose disk does not answer, while the folder itself may well do so.

        It must be seen twice: after the whole process was stopped for a while, each call seems to
        have waited for long.
        """
        place, held = self._place(delivery.key), delivery.settings.source.held_up()
        if held is None or held.seconds < self._hung_seconds:
            place.held_call = None
            return None
        seen_before = place.held_call is not None
        place.held_call = held.call
        return (path_text(held.path) or ".") if seen_before else None

    def accept(self, delivery: Delivery) -> None:
        """Take the folder as it is from the next look on, though it is empty: somebody said so."""
        self._place(delivery.key).accepted = True

    def disk(self, delivery: Delivery) -> KnownDisk:
        """Tell what is known of the disk that a folder is on."""
        place = self._place(delivery.key)
        return KnownDisk(filesystem=place.seen, exchanged=place.exchanged)

    def swept(self, delivery: Delivery) -> str | None:
        """Note that the folder was swept whole; give its file system's name if the ledger does not
        have it yet.
        """
        place = self._place(delivery.key)
        place.accepted = place.exchanged = False
        return None if place.seen in ("", place.filesystem) else place.seen

    def _place(self, name: str) -> _Place:
        return self._places.setdefault(name, _Place())

    def _look(self, delivery: Delivery) -> RootSeen:
        """Look at one folder and its watch, in a thread that may be held up."""
        source = delivery.settings.source
        if delivery.offline_reason is None and not delivery.left:
            self._watcher.check(delivery.key)
        else:
            self._watcher.unwatch(delivery.key)
        place, changes, device = self._place(delivery.key), source.mount_changes(), source.device()
        doubted = delivery.offline_reason is not None or changes != place.mount_changes
        if device is None or (device == delivery.device and not doubted):
            return RootSeen(device=device)
        place.mount_changes = changes
        return RootSeen(
            device=device,
            looked_up=True,
            empty=source.is_empty(),
            filesystem=source.filesystem(),
            remote=source.is_remote(),
        )

    def _judge(self, delivery: Delivery, seen: RootSeen) -> list[Change]:
        if delivery.hung and self._held_file(delivery) is not None:
            return []  # the folder answers, but whoever reads its files is held
        delivery.hung = False
        if seen.looked_up:
            delivery.slow_folder = delivery.slow_folder or seen.remote
        place = self._place(delivery.key)
        known = RootKnown(
            device=delivery.device,
            filesystem=place.seen or place.filesystem,
            files_wait=seen.empty and self._files_wait(delivery.delivery_id),
            accepted=place.accepted,
        )
        verdict = judge_root(seen, known)
        if verdict.offline is not None:
            reason = f"{verdict.offline}: {delivery.settings.root}"
            if seen.device is not None:
                reason += (
                    "; if its files were removed on purpose: sensordrop rescan "
                    f"{delivery.name} --confirm-vanished"
                )
            was, delivery.offline_reason = delivery.offline_reason, reason
            if was is None:
                _log.warning("delivery_offline", delivery=delivery.name, problem=reason)
            return [] if was == reason else [Change.OFFLINE]
        return self._is_there(delivery, place, seen, exchanged=verdict.exchanged)

    def _is_there(
        self, delivery: Delivery, place: _Place, seen: RootSeen, *, exchanged: bool
    ) -> list[Change]:
        changes = []
        if delivery.offline_reason is not None:
            _log.info("delivery_online", delivery=delivery.name)
            delivery.offline_reason = None
            changes.append(Change.ONLINE)
        if delivery.sweeping:
            # It compares with what it began on: look again when it has ended.
            place.mount_changes = -1
            return changes
        if exchanged or delivery.device not in (None, seen.device):
            changes.append(Change.EXCHANGED)
        if exchanged:
            _log.warning("folder_exchanged", delivery=delivery.name,
                         was=place.seen or place.filesystem or None, now=seen.filesystem or None,
                         hint="files that wait and are not here are kept until their disk is back")  # fmt: skip
            place.exchanged = True
        if seen.looked_up:
            place.seen = seen.filesystem
        delivery.device = seen.device
        return changes
