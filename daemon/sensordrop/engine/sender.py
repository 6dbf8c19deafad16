"""The sender: tells others about sessions, from the outbox in the ledger.

It leases a letter, has it sent by a thread of its own, and writes the answer down. Between the
sending and the writing down it may die: then the lease ends, and the same letter goes out again
under the same idempotency key.
"""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.core.letters import Answer, LetterKind, LetterPlan, LetterState, plan_letter
from sensordrop.engine.delivery import Bell
from sensordrop.engine.patience import LedgerPatience
from sensordrop.ports.letters import Letter, Notifier, OutboxLedger
from sensordrop.ports.life import Clock, StopFlag

LOOK_SECONDS = 2.0
"""How often the outbox is looked at, beside the bell: for what is due again, or asked for by hand."""
MOST_AT_ONCE = 4
"""Endpoints that are told something at once: a slow one holds up no other, each has one letter."""
MOST_AILING_AT_ONCE = 3
"""Of these, endpoints that did not take the last letter: several that are dead, each with hundreds of
letters, leave a place for those that live."""
LEASE_MARGIN_SECONDS = 60.0
"""How long a lease lasts beyond the longest an attempt may take."""
END_SECONDS = 5.0
"""How long the threads may take to break off: libcurl looks at the flag once a second. What is not
back by then is leased to a program that has ended, and goes out again."""

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """What one delivery tells whom, and how long an attempt and all of them may take."""

    delivery_id: int
    delivery: str
    kind: LetterKind
    digest: str
    timeout_seconds: float
    give_up_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ways:
    """Who is told what, and who sends it. Replaced as a whole."""

    routes: Mapping[tuple[int, LetterKind], Route]
    notifiers: Mapping[tuple[int, LetterKind], Notifier]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sent:
    letter: Letter
    route: Route
    answer: Answer | None
    took_seconds: float


class Sender:
    """A service: `run` returns when `stop` is set."""

    def __init__(
        self,
        *,
        ledger: OutboxLedger,
        clock: Clock,
        notifier: Notifier,
        routes: Sequence[Route],
        daemon_id: Callable[[], int],
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._ways = _ways(routes, notifier)
        self._daemon_id = daemon_id
        self._dice = dice
        self._bell = Bell()
        self._patience = LedgerPatience("sender", clock)
        self._stopped = threading.Event()
        self._sent: queue.SimpleQueue[_Sent] = queue.SimpleQueue()
        self._unwritten: _Sent | None = None
        self._busy: dict[str, threading.Thread] = {}
        """The endpoints that are told something right now, by their digests."""
        self._ailing: set[str] = set()
        """Those that did not take what they were told last."""

    def run(self, stop: StopFlag) -> None:
        """Send what is due until `stop` is set."""
        self._stopped.clear()
        wait = 0.0
        while not stop.is_set():
            self._bell.wait(wait)
            if stop.is_set():
                break
            try:
                self._write_down()
                self._lease()
                self._patience.back()
                wait = LOOK_SECONDS
            except LedgerUnavailableError as error:
                wait = self._patience.lost(error)
        self._end()

    def take_up(
        self, routes: Sequence[Route], notifier: Notifier, in_force: Collection[int]
    ) -> None:
        """Tell these from now on. Safe from every thread.

        Deliveries that are not `in_force` keep theirs: the last session of one that goes elsewhere
        now is told where it would have been.
        """
        new = _ways(routes, notifier)
        old = {key for key in self._ways.routes if key[0] not in in_force}
        self._ways = _Ways(
            routes={**{key: self._ways.routes[key] for key in old}, **new.routes},
            notifiers={**{key: self._ways.notifiers[key] for key in old}, **new.notifiers},
        )
        self._bell.ring()

    def wake(self) -> None:
        """Look at the outbox, and at `stop`, now. Safe from every thread."""
        self._bell.ring()

    def _lease(self) -> None:
        """Have sent what is due, as much as may be at once."""
        ways = self._ways
        wanted = [(r.delivery_id, r.kind, r.digest) for r in ways.routes.values()]
        longest = max((route.timeout_seconds for route in ways.routes.values()), default=0.0)
        self._ailing &= {digest for _, _, digest in wanted}
        while wanted and len(self._busy) < MOST_AT_ONCE:
            full = len(self._ailing & self._busy.keys()) >= MOST_AILING_AT_ONCE
            letter = self._ledger.lease_letter(
                self._daemon_id(),
                wanted,
                busy=list(self._busy.keys() | self._ailing if full else self._busy),
                lease_seconds=longest + LEASE_MARGIN_SECONDS,
            )
            if letter is None:
                return
            key = letter.delivery_id, letter.kind
            thread = threading.Thread(
                target=self._send,
                args=(letter, ways.routes[key], ways.notifiers[key]),
                name="sender-letter",
                daemon=True,
            )
            self._busy[letter.endpoint_digest] = thread
            thread.start()

    def _send(self, letter: Letter, route: Route, notifier: Notifier) -> None:
        began = self._clock.monotonic()
        answer: Answer | None
        try:
            answer = notifier.send(letter, self._stopped)
        except Exception as error:  # noqa: BLE001 — it is told, and counts as an attempt
            # Our own mistake with this letter must not keep others from being told, nor end the
            # daemon.
            _log.exception("letter_broke", session=letter.session_id, endpoint=letter.endpoint)
            answer = Answer(
                problem=f"sensordrop broke ({type(error).__name__})",
                hint="this is a mistake of ours: the journal has its trace",
            )
        took = self._clock.monotonic() - began
        self._sent.put(_Sent(letter=letter, route=route, answer=answer, took_seconds=took))
        self._bell.ring()

    def _write_down(self) -> None:
        """Write down all answers that came. Raises LedgerUnavailableError; none is lost by it."""
        while True:
            if self._unwritten is None:
                try:
                    self._unwritten = self._sent.get_nowait()
                except queue.Empty:
                    return
            sent = self._unwritten
            if sent.answer is None:
                self._ledger.give_letter_back(sent.letter)
            else:
                self._note(sent, sent.answer)
            self._unwritten = None
            self._busy.pop(sent.letter.endpoint_digest, None)

    def _note(self, sent: _Sent, answer: Answer) -> None:
        letter, route = sent.letter, sent.route
        plan = plan_letter(
            answer,
            attempts=letter.attempts,
            waited_seconds=letter.waited_seconds,
            give_up_seconds=route.give_up_seconds,
            dice=self._dice(),
        )
        if plan.state is LetterState.WAITING:
            self._ailing.add(letter.endpoint_digest)
        else:
            self._ailing.discard(letter.endpoint_digest)
        if self._ledger.note_answer(letter, answer, plan, took_seconds=sent.took_seconds):
            _tell(letter, route, answer, plan)

    def _end(self) -> None:
        """Break off what is being sent, and write down what is known."""
        self._stopped.set()
        give_up = self._clock.monotonic() + END_SECONDS
        for thread in list(self._busy.values()):
            thread.join(max(0.0, give_up - self._clock.monotonic()))
        try:
            self._write_down()
        except LedgerUnavailableError as error:
            _log.warning("answers_not_written", problem=str(error),
                         hint="they are sent again, under the same idempotency keys")  # fmt: skip
        self._ledger.close_own()


def _ways(routes: Sequence[Route], notifier: Notifier) -> _Ways:
    by_key = {(route.delivery_id, route.kind): route for route in routes}
    return _Ways(routes=by_key, notifiers=dict.fromkeys(by_key, notifier))


def _tell(letter: Letter, route: Route, answer: Answer, plan: LetterPlan) -> None:
    told = {
        "delivery": route.delivery,
        "session": letter.session_id,
        "kind": letter.kind.value,
        "endpoint": letter.endpoint,
        "attempt": letter.attempts + 1,
    }
    if plan.state is LetterState.TOLD:
        _log.info("letter_told", **told, status=answer.status)
    elif plan.state is LetterState.FAILED:
        _log.error("letter_failed", **told, problem=plan.problem, hint=plan.hint)
    else:
        again = round(plan.retry_seconds, 1)
        _log.warning("letter_delayed", **told, problem=plan.problem, hint=plan.hint,
                     again_in_seconds=again)  # fmt: skip
