"""The lister: finds out what a destination holds below a prefix, before files are sent there.

It holds nobody up. While it lists, uploads go on, and the store itself decides for each of them;
what is listed already goes straight to being looked at, so that nothing is sent for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from sensordrop.core.failure import (
    FailureError,
    InterruptedAttemptError,
    LedgerUnavailableError,
)
from sensordrop.engine.breakable import breakable
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.patience import LedgerPatience
from sensordrop.engine.roster import Roster
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.life import Clock, StopFlag
from sensordrop.ports.records import ObjectListing
from sensordrop.ports.storing import ListedObject

PROGRESS_OBJECTS = 10_000
"""Objects that are written down together; as often it is told how far a listing is."""
LOOK_SECONDS = 60.0
"""How often the ledger is asked whether a listing has become too old."""
RETRY_SECONDS = 60.0
"""How long a listing that failed waits: until it is complete, the store decides file by file."""
REST_FACTOR = 4.0
"""A listing is followed by a rest so many times as long: many cards in a row don't make listing
the main work."""

_log = structlog.get_logger()


@dataclass(kw_only=True)
class _Run:
    """A listing under way: where it goes on after a failure, and what is written down so far."""

    listing: ObjectListing
    began: float
    token: str | None = None
    objects: int = 0
    failed: bool = False
    """The last request failed. If the next does too, the listing begins anew: the store may have
    forgotten the token."""


class Lister:
    """A service: `run` returns when `stop` is set."""

    def __init__(self, *, ledger: Ledger, clock: Clock, deliveries: Sequence[Delivery]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._roster = Roster.of(deliveries)
        self._taken: tuple[Delivery, ...] = ()
        self._deliveries: dict[int, Delivery] = {}
        self._bell = Bell()
        self._patience = LedgerPatience("lister", clock)
        self._wanted: set[int] = set()
        self._look_at: dict[int, float] = {}
        self._not_before: dict[int, float] = {}
        self._runs: dict[int, _Run] = {}
        self._troubled: set[int] = set()
        """Deliveries whose listing failed and has not been complete since: told once."""
        self._take_up()

    def run(self, stop: StopFlag) -> None:
        """List what is due until `stop` is set."""
        wait = 0.0
        while not stop.is_set():
            self._bell.wait(wait)
            self._take_up()
            try:
                for delivery in self._deliveries.values():
                    if not stop.is_set() and self._due(delivery):
                        self._list(delivery, stop)
                self._patience.back()
                wait = self._wait_seconds()
            except LedgerUnavailableError as error:
                wait = self._patience.lost(error)
            except InterruptedAttemptError:
                break
        self._ledger.close_own()

    def wake(self) -> None:
        """Make a waiting lister look at `stop`. Safe from every thread."""
        self._bell.ring()

    def want(self, delivery_id: int) -> None:
        """Ask for a listing of a delivery's prefix. Safe from every thread."""
        self._wanted.add(delivery_id)
        self._bell.ring()

    def _take_up(self) -> None:
        """Take up which deliveries are in force; what changed is listed anew, or no more."""
        if self._roster.now is self._taken:
            return
        self._taken = self._roster.now
        before = self._deliveries
        self._deliveries = {d.delivery_id: d for d in self._taken if d.settings.enabled}
        gone = {
            key for key, delivery in before.items() if self._deliveries.get(key) is not delivery
        }
        for key in gone:
            self._runs.pop(key, None)
            self._troubled.discard(key)
        for key in gone | self._deliveries.keys() - before.keys():
            self._look_at[key] = self._not_before[key] = 0.0
        self._wanted &= self._deliveries.keys()

    def _wait_seconds(self) -> float:
        now = self._clock.monotonic()
        asked_for = (self._wanted | self._runs.keys()) & self._deliveries.keys()
        waiting = [self._not_before[key] for key in asked_for]
        looks = [self._look_at[key] for key in self._deliveries]
        return max(0.5, min([now + LOOK_SECONDS, *looks, *waiting]) - now)

    def _due(self, delivery: Delivery) -> bool:
        key = delivery.delivery_id
        now = self._clock.monotonic()
        if not delivery.checked and (not delivery.swept or self._ledger.has_queued(key)):
            # Uploads begin with a check of the store: what is wrong there is told once, by that.
            self._look_at[key] = now + 0.5
            return False
        if delivery.blocked_reason is not None or now < self._not_before[key]:
            self._look_at[key] = max(self._look_at[key], now + 1.0)
            return False
        if key in self._wanted and not self._ledger.has_queued(key):
            self._wanted.discard(key)  # those files were stored before their turn came
        if key in self._wanted or key in self._runs:
            return True
        if now < self._look_at[key]:
            return False
        self._look_at[key] = now + LOOK_SECONDS
        age = self._ledger.listing_age_seconds(key)
        return age is None or age >= delivery.settings.listing_age_seconds

    def _list(self, delivery: Delivery, stop: StopFlag) -> None:
        """List a delivery's prefix to its end, or as far as the store allows."""
        key = delivery.delivery_id
        run = self._runs.get(key)
        if run is None:
            listing = self._ledger.begin_object_listing(key)
            run = self._runs[key] = _Run(listing=listing, began=self._clock.monotonic())
        try:
            complete = False
            while not complete:
                complete = self._take_pages(delivery, run, stop)
        except FailureError as error:
            self._failed(delivery, run, error)
            return
        forgotten = self._ledger.end_object_listing(run.listing, run.objects)
        del self._runs[key]
        self._wanted.discard(key)  # also what was asked for meanwhile: it is listed now
        self._troubled.discard(key)
        seconds = self._clock.monotonic() - run.began
        self._not_before[key] = self._clock.monotonic() + REST_FACTOR * seconds
        _log.info("objects_listed", delivery=delivery.name, objects=run.objects,
                  forgotten=forgotten, seconds=round(seconds, 2))  # fmt: skip

    def _take_pages(self, delivery: Delivery, run: _Run, stop: StopFlag) -> bool:
        """Ask for pages, write them down together, and tell whether that was the end."""
        settings = delivery.settings
        objects: list[ListedObject] = []
        token = run.token
        while len(objects) < PROGRESS_OBJECTS:
            asked = token
            page = breakable(
                lambda: settings.destination.list_page(settings.s3_prefix, asked),  # noqa: B023 — called before it changes
                stop,
            )
            objects.extend(page.objects)
            token = page.next_token
            if token is None:
                break
        self._ledger.add_listed(run.listing, objects)
        run.token, run.failed = token, False
        run.objects += len(objects)
        if token is not None:
            speed = run.objects / max(self._clock.monotonic() - run.began, 0.001)
            _log.info("listing_progress", delivery=delivery.name,
                      message=f"s3: Listed {run.objects:,} objects so far…",
                      objects_per_second=round(speed))  # fmt: skip
        return token is None

    def _failed(self, delivery: Delivery, run: _Run, error: FailureError) -> None:
        """Note a failure: the listing goes on from its last page, or from the first the next time."""
        key = delivery.delivery_id
        self._not_before[key] = self._clock.monotonic() + RETRY_SECONDS
        if run.failed or run.token is None:
            del self._runs[key]
            self._wanted.add(key)
        run.failed = True
        tell = _log.debug if key in self._troubled else _log.warning
        self._troubled.add(key)
        tell("listing_failed", delivery=delivery.name, objects=run.objects,
             error_class=error.failure.error_class, problem=error.failure.message,
             hint=f"{error.failure.hint}; uploads go on meanwhile, each looked up by itself")  # fmt: skip
