"""A run by hand: when it is over, how far it is, and what its line says."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sensordrop.core.story import DeliveryPlace

PATIENCE_SECONDS = 900.0
"""How long a run waits for a store, a folder or a ledger that has gone: a router that is restarted
is back by then; somebody sits before it and wants to know."""
TELL_SECONDS = 60.0
"""How long a run stays for an endpoint that does not take what it is told: some tries. The ledger
keeps it, and the next run or `sensordrop trigger` tells it again."""
SPEED_SECONDS = 60.0
"""The speed that is shown is that of the last minute: it follows the line and does not jump."""
GIGABYTE = 1_000_000_000


class RunEnd(StrEnum):
    """How a run came to its end."""

    DONE = "done"
    """Everything that the folder has was tried; what failed is in quarantine."""
    PARTIAL = "partial"
    """The folder could not be listed to its end."""
    MISSING = "missing"
    """Files that wait to be stored are no longer in the folder."""
    PAUSED = "paused"
    OFFLINE = "offline"
    BLOCKED = "blocked"
    NO_LEDGER = "no-ledger"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """What is seen of a run at one moment."""

    session_ended: bool
    swept: bool
    sweeping: bool
    sweep_problem: str | None
    """Why the last sweep was partial; None: it was complete, or there was none."""
    settling: int
    unfinished: bool
    """Files wait, or are in work."""
    all_held: bool
    """All that wait are missing from the folder, and kept until somebody says that they are gone."""
    paused: str | None
    offline: str | None
    blocked: str | None
    state: str | None
    """What the delivery says of itself, where something is not as it should be."""
    untold_seconds: float | None = None
    """How long the session has been over and not told to all who want to know; None: it is told."""
    trouble_seconds: float
    """How long it has been offline or blocked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """That a run is over, and why, in words that say what to do where it did not end well."""

    how: RunEnd
    words: str = ""


def another_run(folder: str) -> Ended:
    """Say that somebody else works on the folder by hand."""
    words = (
        f"another run is at work on {folder}: let it end, or stop it; sensordrop sessions shows "
        "how far it is"
    )
    return Ended(how=RunEnd.BLOCKED, words=words)


def why_ended(view: RunView) -> Ended | None:
    """Say whether a run is over; None: it goes on."""
    if view.session_ended:
        told = view.untold_seconds is None or view.untold_seconds >= TELL_SECONDS
        return Ended(how=RunEnd.DONE) if told else None
    if view.paused is not None:
        return Ended(how=RunEnd.PAUSED, words=view.paused)
    if view.offline is not None and (not view.swept or view.trouble_seconds >= PATIENCE_SECONDS):
        return Ended(how=RunEnd.OFFLINE, words=view.offline)
    if view.blocked is not None and view.trouble_seconds >= PATIENCE_SECONDS:
        return Ended(how=RunEnd.BLOCKED, words=view.blocked)
    if not view.swept or view.sweeping or view.settling:
        return None
    if not view.unfinished and view.sweep_problem is not None:
        return Ended(how=RunEnd.PARTIAL, words=view.sweep_problem)
    if view.all_held:
        return Ended(how=RunEnd.MISSING, words=view.state or "files are no longer in the folder")
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """How far a session is. `bytes_uploaded` are those that were sent and confirmed."""

    total: int
    uploaded: int
    skipped: int
    failed: int
    bytes_uploaded: int
    files_per_second: float = 0.0

    @property
    def finished(self) -> int:
        """Files that need no more work: stored, there already, or quarantined."""
        return self.uploaded + self.skipped + self.failed

    @property
    def remaining(self) -> int:
        """Files that are not finished."""
        return max(0, self.total - self.finished)


def progress_line(figures: Figures) -> str:
    """Write the one line that a run shows of itself."""
    share = figures.finished / figures.total if figures.total else 0.0
    # Rounded down: 100 % is said when nothing is left.
    percent = int(share * 1000) / 10
    return (
        f"| {percent:.1f}% "
        f"| Uploaded: {figures.finished:,}/{figures.total:,} "
        f"| Skipped: {figures.skipped:,} "
        f"| Size: {figures.bytes_uploaded / GIGABYTE:.2f} GB "
        f"| Successful: {figures.uploaded:,} "
        f"| Failed: {figures.failed:,} "
        f"| Speed: {figures.files_per_second:.1f} files/s "
        f"| ETA: {time_left(figures)}"
    )


def time_left(figures: Figures) -> str:
    """Write how long it still takes, as hours and minutes, rounded up; `--:--` if nobody knows."""
    if not figures.remaining:
        return "00:00"
    if figures.files_per_second <= 0:
        return "--:--"
    minutes = -int(-figures.remaining / figures.files_per_second // 60)
    return f"{minutes // 60:02}:{minutes % 60:02}"


class Speedometer:
    """Files a second over the last minute. Belongs to one thread."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, monotonic: float, finished: int) -> float:
        """Take a reading, and give the speed since the oldest one that counts."""
        self._seen.append((monotonic, finished))
        while len(self._seen) > 2 and monotonic - self._seen[0][0] > SPEED_SECONDS:
            self._seen.popleft()
        began, first = self._seen[0]
        return max(0.0, (finished - first) / (monotonic - began)) if monotonic > began else 0.0


# --- which delivery a run is of -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a run takes from and puts to."""

    local_directory: str
    endpoint_url: str
    bucket_name: str
    s3_prefix: str


def same_delivery(target: Target, places: Sequence[DeliveryPlace]) -> DeliveryPlace | None:
    """Find the delivery that takes from and puts to the same place, if the ledger knows one."""
    for place in places:
        known = Target(
            local_directory=place.local_directory,
            endpoint_url=place.endpoint_url,
            bucket_name=place.bucket_name,
            s3_prefix=place.s3_prefix,
        )
        if known == target:
            return place
    return None


def delivery_name(
    wanted: str, target: Target, places: Sequence[DeliveryPlace], *, digest: str
) -> str:
    """Choose the name under which a run goes into the ledger.

    That of the same delivery where there is one: so a run goes on with what another began, whatever
    its configuration file is called. A name that another delivery has gets a piece of `digest`
    behind it: files called config.json are many.
    """
    same = same_delivery(target, places)
    if same is not None:
        return same.name
    if any(place.name == wanted for place in places):
        return f"{wanted[:56]}-{digest[:6]}"
    return wanted


# --- rounds of retries --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounds:
    """How often what failed is tried again as a whole. Waits double from one round to the next."""

    most: int = 3
    wait_seconds: float = 60.0
    cap_seconds: float = 3600.0

    def wait_before(self, number: int) -> float | None:
        """Say how long to wait before a round (from 1 on); None: there is no such round."""
        if number > self.most:
            return None
        wait: float = min(self.cap_seconds, self.wait_seconds * 2 ** (number - 1))
        return wait
