"""One delivery while the daemon runs: its settings and what its services know about it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sensordrop.core.failure import FailureScope
from sensordrop.core.lifecycle import RetryPolicy
from sensordrop.core.model import DeliveryState
from sensordrop.core.tally import DeliveryTally
from sensordrop.ports.finding import Finder
from sensordrop.ports.life import StopFlag
from sensordrop.ports.reading import Source
from sensordrop.ports.records import EnrollRules
from sensordrop.ports.storing import Destination
from sensordrop.ports.taking import Taking

LISTING_AGE_SECONDS = 86_400.0
"""A day: others write below a prefix rarely, and a listing of two million objects takes minutes."""


@dataclass(frozen=True, kw_only=True)
class DeliverySettings:
    """What the services need of a delivery's configuration."""

    name: str
    delivery_id: int
    root: str
    s3_prefix: str
    rules: EnrollRules
    policy: RetryPolicy
    priority: int
    max_workers: int
    sweep_interval_seconds: float
    polling_interval_seconds: float | None
    """Where the folder is not watched, sweeps come this often; None: on the timer alone."""
    can_watch: Callable[[], bool]
    """Tells whether the watcher may be trusted with this folder, as it is mounted now."""
    writer_check: bool
    vanish_share: float
    """The share of the waiting files that may be missing without anybody being asked."""
    enabled: bool
    breaker_keys: dict[FailureScope, str]
    """Which breaker a failure of each scope opens; deliveries share breakers by these keys."""
    source: Source
    destination: Destination
    make_finder: Callable[[], Finder]
    client: str = ""
    project: str = ""
    cycle: str = ""
    session_deadline_seconds: float | None = None
    """How long a session may take before somebody is told; None: as long as it likes."""
    session_receipt: bool = False
    """Whether a session ends with a receipt."""
    session_quiet_seconds: float | None = None
    """How long the folder must be quiet before a session ends; None: `quiet_seconds`. In a run by
    hand nobody reports what comes later, so that waiting for it would be in vain."""
    taking: Taking | None = None
    """What takes stored files away from the folder; None: they are kept, and nothing can."""
    listing_age_seconds: float = LISTING_AGE_SECONDS
    """How old a listing of the delivery's prefix may be before it is listed again."""


@dataclass(kw_only=True, eq=False)
class Delivery:
    """A delivery's settings with what changes while it runs. Fields are set by one service each
    and read by others; each is a plain value, so reading needs no lock.
    """

    settings: DeliverySettings
    generation: int = 0
    """How many configurations had come since the start when it was made."""
    device: int | None = None
    """The file system that the root is known to be on; files are only read there."""
    offline_reason: str | None = None
    hung: bool = False
    """Its folder does not answer: whoever asks it may wait for ever."""
    slow_folder: bool = False
    """It is on a network, or did not answer once: nothing that others wait for may read it."""
    paused_reason: str | None = None
    """Who paused its uploads, and why; None: nobody."""
    blocked_reason: str | None = None
    halted: bool = False
    """Too many of its files failed: nothing is begun until the pause for it holds."""
    halt_written: bool = False
    """The pause for that is in the ledger."""
    checked: bool = False
    """Whether its destination passed a check since the process began."""
    sweeping: bool = False
    settling: int = 0
    last_activity: float = 0.0
    session_open: bool = False
    state: DeliveryState | None = None
    """As the scout published it last."""
    reason: str | None = None
    watched: bool | None = None
    """Whether a living watch is on its folder; None: it is polled, or not watched on purpose."""
    swept: bool = False
    """Whether a sweep has ended since the process began."""
    mended: bool = True
    """Nothing that a dead program was taking away lies in its folder under a name of ours: only then
    is it swept. Set by the taker."""
    taking_problem: str | None = None
    """Why stored files could not be taken away from the folder, where they are to be."""
    tally: DeliveryTally = field(default_factory=DeliveryTally)
    retried: bool = False
    """Somebody had files of it retried by hand; set by the control desk, taken by the scout."""
    left: bool = False
    """It is no longer in force: nothing of it is begun any more."""
    drained: bool = False
    """It left, and no attempt of it is under way or waits to be written down."""

    @property
    def name(self) -> str:
        """The delivery's name."""
        return self.settings.name

    @property
    def key(self) -> str:
        """Tells it from what it was under another configuration: hints and errands go by this."""
        return f"{self.name}#{self.generation}" if self.generation else self.name

    @property
    def delivery_id(self) -> int:
        """The delivery's id in the ledger."""
        return self.settings.delivery_id


class AttemptStop:
    """A stop flag for the attempts of one delivery: the daemon ends, or the delivery is paused."""

    def __init__(self, abandon: StopFlag, delivery: Delivery) -> None:
        self._abandon = abandon
        self._delivery = delivery

    def is_set(self) -> bool:
        """Tell whether to break off."""
        return self._delivery.paused_reason is not None or self._abandon.is_set()


class ErrandStop:
    """A stop flag for the errands of one delivery: the daemon ends, or the delivery left."""

    def __init__(self, stop: StopFlag, delivery: Delivery) -> None:
        self._stop = stop
        self._delivery = delivery

    def is_set(self) -> bool:
        """Tell whether to break off."""
        return self._delivery.left or self._stop.is_set()


class Bell:
    """Wakes whoever waits. Carries nothing: what there is to do is read from the ledger."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """Wake the waiting thread, or the next one to wait. Safe from every thread."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most so long; tell whether it rang."""
        rang = self._event.wait(seconds)
        self._event.clear()
        return rang
