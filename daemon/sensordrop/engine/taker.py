"""The taker: has stored files taken away from the folders of deliveries that ask for it.

It only decides when. A round takes as long as it takes to read a folder, and may be held up by it,
so each is an errand beside this thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import structlog

from sensordrop.core.failure import InterruptedAttemptError, LedgerUnavailableError
from sensordrop.core.taking import wait_seconds
from sensordrop.engine.delivery import Bell, Delivery
from sensordrop.engine.errands import Errands
from sensordrop.engine.patience import LedgerPatience
from sensordrop.engine.roster import Roster
from sensordrop.engine.taking import MakeReceipt, Round, TakingRound
from sensordrop.ports.life import Clock, StopFlag
from sensordrop.ports.taking import Taking, TakingLedger

LOOK_SECONDS = 0.5
"""How often is looked whether a folder is quiet."""
ROUNDS = 2
"""Folders that are taken from at once: each reads a disk from one end to the other."""
MENDS = 4
"""Folders that are looked at at once for what a dead program was taking away: there is seldom any."""
CLOSE_SECONDS = 1.5
"""How long a round is waited for at the end. It looks at its flag for every mebibyte; what hangs for
longer is found out about by the next round."""
AFTER_TROUBLE_SECONDS = 30.0
"""When it is tried again where another program has the delivery."""

INTERRUPTED_SECONDS = 1.0
"""When what was interrupted is tried again, if it still may be."""

_log = structlog.get_logger()


@dataclass(kw_only=True)
class _Turn:
    """When a delivery's next round is due, on the monotonic clock."""

    due_at: float = 0.0
    mend_at: float = 0.0
    """When is looked again for what was broken off, where the ledger could not say."""
    in_vain: int = 0
    """Rounds in a row after which files stayed."""


class TakingStop:
    """A stop flag for a round: the daemon ends, or nothing of the delivery may be touched now."""

    def __init__(self, stop: StopFlag, holds: Callable[[], bool]) -> None:
        self._stop = stop
        self._holds = holds

    def is_set(self) -> bool:
        """Tell whether to break off."""
        return self._stop.is_set() or self._holds()


class Taker:
    """A service: `run` returns when `stop` is set and no round runs any more."""

    def __init__(
        self,
        *,
        ledger: TakingLedger,
        clock: Clock,
        deliveries: Sequence[Delivery],
        make_receipt: MakeReceipt,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._roster = Roster.of(deliveries)
        self._make_receipt = make_receipt
        self._bell = Bell()
        self._patience = LedgerPatience("taker", clock)
        self._turns: dict[str, _Turn] = {}
        self._rounds: Errands[Round] = Errands(
            name="taker", most=ROUNDS, wake=self._bell.ring, close_thread=ledger.close_own
        )
        # Threads of their own: a folder is not swept before, and rounds take hours.
        self._mends: Errands[Round] = Errands(
            name="taker-mend", most=MENDS, wake=self._bell.ring, close_thread=ledger.close_own
        )

    def run(self, stop: StopFlag) -> None:
        """Have files taken away until `stop` is set."""
        try:
            while not stop.is_set():
                self._bell.wait(LOOK_SECONDS)
                self._step(stop)
        finally:
            self._rounds.close(CLOSE_SECONDS)
            self._mends.close(0.0)

    def wake(self) -> None:
        """Look at `stop`, and at what is due, now. Safe from every thread."""
        self._bell.ring()

    def want(self, delivery: Delivery) -> None:
        """Have a round when the folder is quiet: a session ended, or somebody asked for a sweep.
        Safe from every thread.
        """
        self._turns[delivery.key] = _Turn()
        self._bell.ring()

    def _step(self, stop: StopFlag) -> None:
        deliveries = {each.key: each for each in self._roster.now}
        self._collect(deliveries)
        self._collect_mended(deliveries)
        now = self._clock.monotonic()
        for delivery in deliveries.values():
            taking = delivery.settings.taking
            if taking is None:
                continue
            if delivery.hung:
                self._rounds.write_off(delivery.key)
                self._mends.write_off(delivery.key)
            turn = self._turns.setdefault(delivery.key, _Turn())
            if stop.is_set():
                return
            if not delivery.mended:
                if now >= turn.mend_at and not _is_away(delivery):
                    one = self._round(delivery, taking, stop, _is_away)
                    self._mends.start(delivery.key, one.mend)
                continue
            under_way = self._rounds.under_way(delivery.key)
            if now >= turn.due_at and not under_way and _quiet(delivery):
                # First: whoever wants another round from now on sets it anew.
                self._turns[delivery.key] = _Turn(due_at=inf, in_vain=turn.in_vain)
                one = self._round(delivery, taking, stop, _stands_still)
                self._rounds.start(delivery.key, one.go)

    def _round(
        self,
        delivery: Delivery,
        taking: Taking,
        stop: StopFlag,
        breaks_off: Callable[[Delivery], bool],
    ) -> TakingRound:
        return TakingRound(
            ledger=self._ledger,
            clock=self._clock,
            delivery=delivery,
            taking=taking,
            make_receipt=self._make_receipt,
            stop=TakingStop(stop, lambda: breaks_off(delivery)),
        )

    def _collect(self, deliveries: dict[str, Delivery]) -> None:
        while (ended := self._rounds.collect()) is not None:
            delivery = deliveries.get(ended.key)
            if delivery is None:
                continue  # it left: its successor begins anew
            turn = self._turns[ended.key]
            try:
                came = ended.outcome()
            except InterruptedAttemptError:
                self._again(turn, INTERRUPTED_SECONDS)
                continue
            except LedgerUnavailableError as error:
                self._again(turn, self._patience.lost(error))
                continue
            except Exception as error:  # noqa: BLE001 — it is told, and counts as a round in vain
                # Our own mistake here must not keep files from being stored, nor end the daemon.
                _log.exception("taking_broke", delivery=delivery.name)
                came = Round(failures=1, problem=f"sensordrop broke ({type(error).__name__})")
            self._patience.back()
            self._ended(delivery, turn, came)

    def _collect_mended(self, deliveries: dict[str, Delivery]) -> None:
        while (ended := self._mends.collect()) is not None:
            delivery = deliveries.get(ended.key)
            if delivery is None:
                continue  # it left: its successor begins anew
            turn, wait = self._turns[ended.key], INTERRUPTED_SECONDS
            try:
                ended.outcome()
            except InterruptedAttemptError:
                turn.mend_at = self._clock.monotonic() + wait
                continue
            except LedgerUnavailableError as error:
                turn.mend_at = self._clock.monotonic() + self._patience.lost(error)
                continue
            except Exception:  # noqa: BLE001 — it is told
                # As with rounds; what lies there is swept as a file of its own, and lost is none.
                _log.exception("taking_broke", delivery=delivery.name)
            self._patience.back()
            delivery.mended = True

    def _ended(self, delivery: Delivery, turn: _Turn, came: Round) -> None:
        tally = delivery.tally
        tally.taken += came.files
        tally.taken_bytes += came.size_bytes
        tally.taking_failures += came.failures
        if came.busy:
            self._again(turn, AFTER_TROUBLE_SECONDS)
            return
        delivery.taking_problem = came.problem
        if came.problem is None:
            turn.in_vain = 0
            return
        turn.in_vain += 1
        self._again(turn, wait_seconds(turn.in_vain))

    def _again(self, turn: _Turn, seconds: float) -> None:
        """Have another round after so many seconds, unless one is wanted before."""
        if turn.due_at == inf:
            turn.due_at = self._clock.monotonic() + seconds


def _is_away(delivery: Delivery) -> bool:
    """Tell whether nobody can know what is in a delivery's folder, or cares."""
    return (
        delivery.left
        or not delivery.settings.enabled
        or delivery.hung
        or delivery.device is None
        or delivery.offline_reason is not None
    )


def _stands_still(delivery: Delivery) -> bool:
    """Tell whether nothing of a delivery may be touched now."""
    return (
        _is_away(delivery)
        or delivery.paused_reason is not None
        or delivery.blocked_reason is not None
    )


def _quiet(delivery: Delivery) -> bool:
    """Tell whether a folder was swept, and nothing of it is on its way."""
    return not (
        _stands_still(delivery)
        or not delivery.swept
        or delivery.sweeping
        or delivery.settling
        or delivery.session_open
    )
