"""The uploader: claims what is ready, has it stored, and writes the outcomes down in batches."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import inf

import structlog

from sensordrop.core.check import first_failure
from sensordrop.core.failure import Failure, FailureScope, LedgerUnavailableError
from sensordrop.core.lifecycle import (
    AlreadyStored,
    Failed,
    GiveBack,
    Gone,
    Interrupted,
    Quarantine,
    RestorePredecessor,
    Retry,
    Stored,
    longest_wait_seconds,
    plan,
)
from sensordrop.core.model import Claim
from sensordrop.core.tally import StationTally
from sensordrop.engine.breakers import Breakers
from sensordrop.engine.counting import count
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.halts import Halts
from sensordrop.engine.patience import LedgerPatience
from sensordrop.engine.preflights import Preflights
from sensordrop.engine.roster import Roster
from sensordrop.engine.telling import tell
from sensordrop.engine.workers import Done, Pool, WorkerPool
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.life import Clock, StopFlag, Trail
from sensordrop.ports.records import Commit

COMMIT_ROWS = 200
"""Outcomes that are written down together at the latest."""
COMMIT_SECONDS = 0.1
"""How long an outcome waits for others at most."""
CLAIM_ROWS = 128
"""Files claimed at a time: some seconds of work, few enough to give back quickly."""
POLL_SECONDS = 5.0
"""How often the ledger is asked for work that nobody rang for (a retry by hand, another host)."""
NEVER_SECONDS = 1e9
"""What is due in more than some thirty years is held until a person decides, or in work."""
BLOCKED_SECONDS = 0.5
"""How often a delivery with an open breaker is looked at for its next probe."""
FINISH_SECONDS = 1.0
"""How long running uploads may go on after the stop before they are broken off."""
GIVE_UP_SECONDS = 4.0
"""How long the uploader waits for its threads at all; then their claims are given back. Beyond
the bytes, which stop at once, a small request to the store may still want its answer."""

_log = structlog.get_logger()


class Uploader:
    """A service: `run` returns when `stop` is set and everything is written down."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        deliveries: Sequence[Delivery],
        daemon_id: Callable[[], int],
        make_pool: Callable[[int, StopFlag], Pool] = WorkerPool,
        dice: Callable[[], float] = random.random,
        tally: StationTally | None = None,
        trail: Trail | None = None,
        file_gone: Callable[[Delivery], None] = lambda _delivery: None,
    ) -> None:
        """`file_gone` is told of a delivery when a file was not there at its turn."""
        self._ledger = ledger
        self._clock = clock
        self._daemon_id = daemon_id
        self._dice = dice
        self._tally = tally or StationTally()
        self._file_gone = file_gone
        self._roster = Roster.of(deliveries)
        self._taken = self._roster.now
        self._deliveries = _by_priority(self._taken)
        self._by_id = {d.delivery_id: d for d in self._deliveries}
        self._most_running = _most_workers(self._deliveries)
        self._abandon = threading.Event()
        self._pool = make_pool(self._most_running, self._abandon)
        self._breakers = Breakers(clock, dice)
        self._preflights = Preflights(clock, self._pool.wake)
        self._halts = Halts(ledger)
        self._trail = trail
        self._probed: int | None = None
        self._patience = LedgerPatience("uploader", clock)
        self._ready: dict[int, deque[Claim]] = {key: deque() for key in self._by_id}
        self._running: dict[int, dict[tuple[int, int], Claim]] = {key: {} for key in self._by_id}
        self._leaving: dict[Delivery, set[tuple[int, int]]] = {}
        """Deliveries that left, with their claims that are in work still."""
        self._commits: list[Commit] = []
        self._commits_since = 0.0
        self._wall = clock.now()
        """What the wall clock showed when the monotonic clock was 0, as it was with the oldest of
        the commits."""
        self._look_at: dict[int, float] = {}
        self._awaited: set[int] = set()
        """Deliveries that had files waiting when the ledger was last asked."""
        self._poll_at = 0.0
        self._wake_at = 0.0
        self._drain_for_suspects = False
        self._claims_unknown = False

    # --- the loop -------------------------------------------------------------------------

    def run(self, stop: StopFlag) -> None:
        """Work until `stop` is set; then finish or give back what is in hand."""
        while not stop.is_set():
            try:
                self._step()
                self._patience.back()
            except LedgerUnavailableError as error:
                self._claims_unknown = True
                self._absorb(self._pool.collect(self._patience.lost(error)))
        self._finish()

    def wake(self) -> None:
        """Make the uploader look at the ledger now. Safe from every thread."""
        self._poll_at = 0.0
        self._pool.wake()

    def running(self, delivery_id: int) -> int:
        """Tell how many files of a delivery are being uploaded. Safe from every thread."""
        running, delivery = self._running.get(delivery_id), self._by_id.get(delivery_id)
        if running is None or delivery is None:
            return 0
        return min(len(running), delivery.settings.max_workers)

    def open_breakers(self, delivery: Delivery) -> frozenset[FailureScope]:
        """Tell in which scopes a delivery's breakers are open. Safe from every thread."""
        return self._breakers.open_scopes(delivery)

    def _step(self) -> None:
        self._absorb(self._pool.collect(self._wait_seconds()))
        self._take_up()
        self._take_preflights()
        self._publish()
        if self._commits and self._commit_is_due():
            self._write_down()
        self._see_off()
        self._release_unheld()
        self._poll()
        if self._drain_for_suspects:
            self._work_on_suspects()
        else:
            self._refill()

    def _publish(self) -> None:
        """Write down what stops uploads, where that changed."""
        self._halts.write_down()
        changed = self._breakers.changed()
        if changed:
            self._ledger.publish_breakers(self._daemon_id(), changed)
            self._breakers.written(changed)

    def _wait_seconds(self) -> float:
        now = self._clock.monotonic()
        wake_at = min(self._poll_at, self._wake_at)
        if self._commits:
            wake_at = min(wake_at, self._commits_since + COMMIT_SECONDS)
        return max(0.0, wake_at - now)

    def _release_unheld(self) -> None:
        """Free what was claimed though the answer was lost: nobody else would while we live."""
        if not self._claims_unknown:
            return
        held = [
            *(c for running in self._running.values() for c in running.values()),
            *(c for ready in self._ready.values() for c in ready),
            *(c.claim for c in self._commits),
        ]
        if self._ledger.release_unheld(self._daemon_id(), list(self._running), held):
            self._poll_at = 0.0
        self._claims_unknown = False

    # --- which deliveries there are ---------------------------------------------------------

    def _take_up(self) -> None:
        """Take up which deliveries are in force, where that changed.

        What is in work of those that left goes on as it is; what is not begun is given back.
        """
        if self._roster.now is self._taken:
            return
        self._taken = self._roster.now
        for delivery in self._roster.left:
            if delivery in self._taken:
                continue  # it left between the two looks: the next turn takes that up
            if delivery not in self._leaving and not delivery.drained:
                self._leave(delivery)
        before = set(self._deliveries)
        self._deliveries = _by_priority(self._taken)
        for delivery in self._deliveries:
            self._ready.setdefault(delivery.delivery_id, deque())
            self._running.setdefault(delivery.delivery_id, {})
        self._by_id = {d.delivery_id: d for d in self._deliveries}
        self._most_running = _most_workers(self._deliveries)
        self._pool.resize(self._most_running)
        self._keep_breakers([d for d in self._deliveries if d not in before])
        self._poll_at = 0.0

    def _leave(self, delivery: Delivery) -> None:
        self._give_back_ready(delivery)
        self._preflights.drop(delivery)
        self._halts.forget(delivery)
        key = delivery.delivery_id
        self._look_at.pop(key, None)
        formers = {claim for claims in self._leaving.values() for claim in claims}
        self._leaving[delivery] = set(self._running.get(key, ())) - formers

    def _see_off(self) -> None:
        """Tell of deliveries that left when nothing of them is in work, or waits to be written down."""
        unwritten = {commit.claim.delivery_id for commit in self._commits}
        for delivery, claims in list(self._leaving.items()):
            key = delivery.delivery_id
            if claims or key in unwritten:
                self._give_back_held_up(delivery)
                continue
            delivery.drained = True
            del self._leaving[delivery]
            self._keep_breakers()
            if key not in self._by_id and not self._running.get(key):
                self._ready.pop(key, None)
                self._running.pop(key, None)

    def _keep_breakers(self, anew: Sequence[Delivery] = ()) -> None:
        self._breakers.keep([*self._deliveries, *self._leaving], anew=anew)

    # --- claiming -------------------------------------------------------------------------

    def _poll(self) -> None:
        """Ask which deliveries have files due, now and then and whenever somebody rang."""
        now = self._clock.monotonic()
        if now < self._poll_at:
            return
        self._poll_at = now + POLL_SECONDS
        if self._trail is not None:
            self._trail.alive()
        due = self._ledger.due_in_seconds(list(self._by_id))
        self._awaited = {key for key, wait in due.items() if wait < NEVER_SECONDS}
        for delivery_id, wait in due.items():
            if wait < POLL_SECONDS:
                self._look_at[delivery_id] = now + max(0.0, wait)
        self._bring_forward(due)

    def _bring_forward(self, due: Mapping[int, float]) -> None:
        """Let files be tried that wait for longer than they were told to."""
        longest = {key: longest_wait_seconds(self._by_id[key].settings.policy) for key in due}
        late = {key: longest[key] for key, wait in due.items() if longest[key] < wait < inf}
        if not late:
            return
        if files := self._ledger.bring_forward(late):
            _log.warning(
                "clock_set_back",
                files=files,
                problem="they were put off by a clock that was ahead, and would wait for it",
                hint="nothing to do: they are tried now; see that this machine's time is right",
            )
            self._poll_at = 0.0

    def _refill(self) -> None:
        """Start what may start, and note when to look again if nothing happens before."""
        self._wake_at = self._clock.monotonic() + POLL_SECONDS
        to_probe: list[Delivery] = []
        for delivery in self._deliveries:
            key = delivery.delivery_id
            free, probing, reason = self._breakers.verdict(delivery)
            delivery.blocked_reason = reason
            if not _may_be_read(delivery):
                self._give_back_ready(delivery)
                self._give_back_held_up(delivery)
                continue
            if (free or probing) and self._has_work(key) and not self._preflights.passed(delivery):
                continue  # its preflight wakes us when it ends
            if free:
                self._start(delivery, self._breakers.workers(delivery))
                if len(self._ready[key]) < delivery.settings.max_workers:
                    self._wake_at = min(self._wake_at, self._look_at.get(key, self._wake_at))
            elif probing and self._has_work(key):
                to_probe.append(delivery)
            elif probing and not self._is_awaited(delivery):
                self._preflights.begin(delivery)  # no file is left that could be the probe
            elif key in self._look_at:
                self._wake_at = min(self._wake_at, self._clock.monotonic() + BLOCKED_SECONDS)
        self._probe(to_probe)
        if self._drain_for_suspects:
            self._wake_at = 0.0

    def _probe(self, deliveries: Sequence[Delivery]) -> None:
        """Let one file of each scope in trouble through: of another delivery than the last time,
        where there is one, or a file that the store can't bear would be all that is ever tried.
        """
        for delivery in sorted(deliveries, key=lambda d: d.delivery_id == self._probed):
            if not any(self._running[d] for d in self._sharing_trouble(delivery)):
                self._start(delivery, 1, probe=True)
                self._probed = delivery.delivery_id

    def _has_work(self, delivery_id: int) -> bool:
        due = self._look_at.get(delivery_id, float("inf")) <= self._clock.monotonic()
        return due or bool(self._ready[delivery_id])

    def _is_awaited(self, delivery: Delivery) -> bool:
        """Tell whether a file could be the probe of the scopes in trouble that the delivery is in.

        Those of a delivery that is paused or offline can't: nothing must stay stopped for them.
        """
        return any(
            self._running[key]
            or (_may_be_read(self._by_id[key]) and (key in self._awaited or self._ready[key]))
            for key in self._sharing_trouble(delivery)
        )

    def _take_preflights(self) -> None:
        """Open the breaker of what a preflight found wrong: no file is burned to see it."""
        for checked in self._preflights.collect():
            failure = first_failure(checked.checks)
            if failure is not None:
                self._breakers.fail(checked.delivery, failure)
                self._give_back_ready(checked.delivery)
            else:
                checked.delivery.checked = True
                self._breakers.answered(checked.delivery)
                if not self._is_awaited(checked.delivery):
                    self._breakers.calm(checked.delivery)

    def _may_try(self, delivery: Delivery) -> bool:
        free, probing, _ = self._breakers.verdict(delivery)
        return (free or probing) and _may_be_read(delivery) and self._preflights.passed(delivery)

    def _sharing_trouble(self, delivery: Delivery) -> list[int]:
        """Give the deliveries that are in a scope whose breaker stops this one.

        Other scopes that they share say nothing: all are on one station, and a delivery that is
        at work for hours must not keep another one's bucket from being probed.
        """
        opened = self._breakers.open_scopes(delivery)
        keys = {key for scope, key in delivery.settings.breaker_keys.items() if scope in opened}
        return [
            d.delivery_id for d in self._deliveries if keys & set(d.settings.breaker_keys.values())
        ]

    def _start(self, delivery: Delivery, most: int, *, probe: bool = False) -> None:
        ready = self._ready[delivery.delivery_id]
        running = self._running[delivery.delivery_id]
        if len(ready) < most + self._pool.backlog:
            self._claim(delivery, 1 if probe else CLAIM_ROWS)
        total = sum(len(r) for r in self._running.values())
        backlog = self._pool.backlog if most >= delivery.settings.max_workers > 1 else 0
        while (
            ready
            and len(running) < most + backlog
            and total < self._most_running + self._pool.backlog
        ):
            claim = ready.popleft()
            total += 1
            self._submit(claim, delivery)

    def _claim(self, delivery: Delivery, most: int) -> None:
        key = delivery.delivery_id
        now = self._clock.monotonic()
        if self._look_at.get(key, float("inf")) > now:
            return
        claims = self._ledger.claim(self._daemon_id(), key, most)
        self._ready[key].extend(claims)
        if len(claims) == most:
            return
        del self._look_at[key]
        wait = self._ledger.due_in_seconds([key]).get(key, float("inf"))
        if wait <= 0 and not claims:
            # Due but not to be had: it was in work in several crashes and wants to be alone.
            self._drain_for_suspects = True
        elif wait < POLL_SECONDS:
            self._look_at[key] = now + max(COMMIT_SECONDS, wait)

    def _work_on_suspects(self) -> None:
        """Work on files that were in work in several crashes, each with nothing beside it."""
        self._wake_at = self._clock.monotonic() + POLL_SECONDS
        self._give_back_ready()
        if any(self._running.values()):
            return
        self._write_down()
        claim = self._ledger.claim_suspect(
            self._daemon_id(), [d.delivery_id for d in self._deliveries if self._may_try(d)]
        )
        if claim is None:
            self._drain_for_suspects = False
            self._wake_at = 0.0
            return
        delivery = self._by_id[claim.delivery_id]
        _log.warning("working_alone", delivery=delivery.name, path=claim.path_text,
                     crashes=claim.crashes)  # fmt: skip
        self._submit(claim, delivery)

    def _submit(self, claim: Claim, delivery: Delivery) -> None:
        self._running[delivery.delivery_id][_key(claim)] = claim
        if self._trail is not None:
            self._trail.begin(claim.upload_id)
        self._pool.submit(claim, delivery)

    def _ended(self, claim: Claim) -> bool:
        """Take a claim out of those in work; tell whether it was among them still."""
        if self._trail is not None:
            self._trail.end(claim.upload_id)
        for claims in self._leaving.values():
            claims.discard(_key(claim))
        return self._running[claim.delivery_id].pop(_key(claim), None) is not None

    # --- outcomes -------------------------------------------------------------------------

    def _absorb(self, finished: Sequence[Done]) -> None:
        for done in finished:
            if not self._ended(done.claim):
                continue  # given back while its thread still worked
            self._decide(done)

    def _decide(self, done: Done) -> None:
        done = self._judged(done)
        delivery, outcome = done.delivery, done.outcome
        action = plan(
            done.claim,
            outcome,
            now=self._wall_time(),
            policy=delivery.settings.policy,
            dice=self._dice(),
        )
        if isinstance(outcome, Stored | AlreadyStored):
            self._halts.stored(delivery)
            if self._breakers.succeed(delivery, done.claim.upload_id):
                self._poll_at = 0.0
        if isinstance(outcome, Failed) and outcome.failure.scope is not FailureScope.FILE:
            self._scope_failed(delivery, outcome.failure, done.claim)
        if isinstance(action, Retry | Quarantine):
            self._halts.failed(delivery, done.claim.upload_id, action.failure)
        if isinstance(action, Quarantine | RestorePredecessor):
            self._breakers.forget(delivery, done.claim.upload_id)
        if isinstance(outcome, Gone):
            self._file_gone(delivery)
        if not isinstance(outcome, Interrupted):
            delivery.last_activity = self._clock.monotonic()
        tell(done, action)
        count(done, action, self._tally)
        self._add(Commit(claim=done.claim, action=action, took_seconds=done.seconds))

    def _judged(self, done: Done) -> Done:
        """Make a scope's failure the file's own, where the scope is known to be well."""
        outcome = done.outcome
        if not isinstance(outcome, Failed) or outcome.failure.scope is FailureScope.FILE:
            return done
        failure = self._breakers.judged(done.delivery, outcome.failure, done.claim.upload_id)
        return (
            done if failure is outcome.failure else replace(done, outcome=Failed(failure=failure))
        )

    def _scope_failed(self, delivery: Delivery, failure: Failure, claim: Claim) -> None:
        if not self._breakers.fail(delivery, failure, claim.upload_id):
            return
        self._give_back_ready(delivery)
        if failure.scope is FailureScope.DESTINATION:
            self._forget_preflights(delivery)
        elif failure.odd:
            self._preflights.forget(delivery)  # its bucket is asked before the next file is

    def _forget_preflights(self, delivery: Delivery) -> None:
        """Check a destination anew once it is back: it may not be the store that it was."""
        key = delivery.settings.breaker_keys.get(FailureScope.DESTINATION)
        for each in self._deliveries:
            if each.settings.breaker_keys.get(FailureScope.DESTINATION) == key:
                self._preflights.forget(each)

    def _add(self, commit: Commit) -> None:
        if not self._commits:
            self._commits_since = self._clock.monotonic()
        self._commits.append(commit)

    def _wall_time(self) -> datetime:
        """Give the wall clock's time, without its jumps while outcomes wait to be written down.

        What is put off for five seconds must not wait a year because the clock was set between
        the decision and the commit.
        """
        now = self._clock.monotonic()
        if not self._commits:
            self._wall = self._clock.now() - timedelta(seconds=now)
        return self._wall + timedelta(seconds=now)

    def _commit_is_due(self) -> bool:
        return (
            len(self._commits) >= COMMIT_ROWS
            or not any(self._running.values())
            or self._clock.monotonic() - self._commits_since >= COMMIT_SECONDS
        )

    def _write_down(self) -> None:
        if not self._commits:
            return
        batch = list(self._commits)
        began = self._clock.monotonic()
        held = self._ledger.commit(self._daemon_id(), batch, self._wall_time())
        self._tally.commit_seconds.add(self._clock.monotonic() - began)
        self._tally.commit_files.add(len(batch))
        del self._commits[: len(batch)]
        if held < len(batch):
            _log.warning("claims_lost", outcomes=len(batch) - held)
            # Who took these took the others too: what is not begun must not be sent in vain.
            self._give_back_ready()
        if any(isinstance(c.action, GiveBack | Retry) for c in batch):
            self._poll_at = 0.0

    def _give_back_ready(self, delivery: Delivery | None = None) -> None:
        for key, ready in self._ready.items():
            if delivery is None or key == delivery.delivery_id:
                while ready:
                    self._add(Commit(claim=ready.popleft(), action=GiveBack(until=None)))
        for claim in self._pool.recall(delivery):
            if self._ended(claim):
                self._add(Commit(claim=claim, action=GiveBack(until=None)))

    def _give_back_held_up(self, delivery: Delivery) -> None:
        """Free the threads that wait for a folder which does not answer, and their claims."""
        if not delivery.hung:
            return
        for claim in self._pool.write_off(delivery):
            if self._ended(claim):
                self._add(Commit(claim=claim, action=GiveBack(until=None)))

    # --- the end --------------------------------------------------------------------------

    def _finish(self) -> None:
        """Let running uploads end, break off what takes too long, write everything down."""
        began = self._clock.monotonic()
        self._give_back_ready()
        while any(self._running.values()):
            waited = self._clock.monotonic() - began
            if waited >= FINISH_SECONDS:
                self._abandon.set()
            if waited >= GIVE_UP_SECONDS:
                break
            self._absorb(self._pool.collect(0.2))
        self._pool.close()
        for running in self._running.values():
            for claim in running.values():
                self._add(Commit(claim=claim, action=GiveBack(until=None)))
            running.clear()
        try:
            self._write_down()
        except LedgerUnavailableError as error:
            _log.warning(
                "outcomes_not_written",
                outcomes=len(self._commits),
                problem=str(error),
                hint="the next start finds these files stored and writes that down",
            )
        self._ledger.close_own()


def _by_priority(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Give those that are worked on, in the order in which they are served."""
    active = [delivery for delivery in deliveries if delivery.settings.enabled]
    return sorted(active, key=lambda d: (-d.settings.priority, d.name))


def _most_workers(deliveries: Sequence[Delivery]) -> int:
    return max((d.settings.max_workers for d in deliveries), default=1)


def _may_be_read(delivery: Delivery) -> bool:
    """Tell whether the scout sees the delivery's folder, and nobody paused its uploads."""
    return (
        delivery.device is not None
        and delivery.offline_reason is None
        and delivery.paused_reason is None
        and not delivery.halted
    )


def _key(claim: Claim) -> tuple[int, int]:
    """Tell two claims on one file apart: the first was lost while its attempt still runs."""
    return claim.upload_id, claim.claim_number
