"""A breaker stops the claims of one scope while that scope is in trouble, and probes it.

Trouble that is not a file's own (no network, expired credentials, a missing bucket) must use up
no file's attempts. A clear failure opens the breaker at once; an odd one, which may be the trouble
of one request among hundreds, only where nothing gets through or several come in a row. After a
backoff one file goes through as a probe; its success closes the breaker, its failure doubles the
wait.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sensordrop.core.failure import Failure
from sensordrop.core.lifecycle import backoff_seconds

PROBE_BASE_SECONDS = 2.0
"""First wait before a probe: long enough not to hammer, short enough for a router's reboot."""
PROBE_CAP_SECONDS = 300.0
"""Longest wait between probes: what an operator who just mended something will sit through.
Only a store that asks for more gets more (`RETRY_AFTER_LIMIT_SECONDS`)."""
ODD_IN_A_ROW = 5
"""So many odd failures without a success between are no accident any more: a third of the usual
workers meet the same trouble at once when a store is really down."""

SHARE_LEAST = 1 / 16
"""The least share of its workers that a destination is left with: of 15 about one."""
SHARE_RECOVERY_SECONDS = 60.0
"""How long a destination takes from no workers to all of them, while it does not ask for less."""
SHARE_HALVING_SECONDS = 1.0
"""Requests that were under way together ask for less once, not each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """One scope's breaker. Closed when `failure` is None. Times are monotonic seconds."""

    failure: Failure | None = None
    failures: int = 0
    probe_at: float = 0.0
    proven: bool = False
    """Something got through since the breaker was made, or was closed."""
    odd_in_a_row: int = 0
    """Odd failures since something got through."""

    @property
    def is_open(self) -> bool:
        """Tell whether claims of this scope are stopped."""
        return self.failure is not None

    def allows_probe(self, monotonic: float) -> bool:
        """Tell whether one file may go through to see if the trouble is over."""
        return self.is_open and monotonic >= self.probe_at


PROVEN = Breaker(proven=True)
"""The breaker after a success, whatever was before."""


def tripped(breaker: Breaker, failure: Failure, *, monotonic: float, dice: float) -> Breaker:
    """Give the breaker after a failure of its scope.

    Failures that arrive before the next probe is due are those of transfers that were already
    running: they don't lengthen the wait. A store that says when to come back is left alone until
    then, by all.
    """
    if breaker.is_open and monotonic < breaker.probe_at:
        return breaker
    if not breaker.is_open and failure.odd and not failure.wait_asked_for:
        in_a_row = breaker.odd_in_a_row + 1
        if breaker.proven and in_a_row < ODD_IN_A_ROW:
            return replace(breaker, odd_in_a_row=in_a_row)
    failures = breaker.failures + 1
    wait = backoff_seconds(
        failures, base=PROBE_BASE_SECONDS, cap=PROBE_CAP_SECONDS, dice=0.5 + dice / 2
    )
    return Breaker(
        failure=failure,
        failures=failures,
        probe_at=monotonic + max(wait, failure.wait_asked_for),
    )


# --- a store that asks for less -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How many of its workers a destination has: it had `share` of them at `since` (monotonic)."""

    share: float = 1.0
    since: float = float("-inf")

    def share_at(self, monotonic: float) -> float:
        """Give the share by now: it grows back evenly, up to 1."""
        return min(1.0, self.share + (monotonic - self.since) / SHARE_RECOVERY_SECONDS)

    def workers(self, most: int, monotonic: float) -> int:
        """Give how many of `most` workers may be busy: at least one."""
        return max(1, int(most * self.share_at(monotonic)))


def slowed(pace: Pace, *, monotonic: float) -> Pace:
    """Halve a destination's workers: it asked for fewer requests."""
    if monotonic - pace.since < SHARE_HALVING_SECONDS:
        return pace
    return Pace(share=max(SHARE_LEAST, pace.share_at(monotonic) / 2), since=monotonic)


# --- whose failure was it? ----------------------------------------------------------------

PROOFS_NEEDED = 2
"""How often its scope must have been seen well after a file failed, before the failure is held to
be the file's own: once may be chance, an outage that ended between the two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspicion:
    """What speaks for a file's odd failures being its own.

    A proof is that it failed, and afterwards another file got through; where a project is in
    doubt whose files got through before, also that its bucket passed its check.
    """

    unproven: bool = True
    """It failed, and nothing was seen of the scope since."""
    proofs: int = 0


def proven_once(suspicion: Suspicion) -> Suspicion:
    """Count that the scope was seen well after the file had failed."""
    if not suspicion.unproven:
        return suspicion
    return Suspicion(unproven=False, proofs=suspicion.proofs + 1)


def blamed(suspicion: Suspicion, *, suspects: int) -> bool:
    """Tell whether a file that failed again is to blame, not its scope.

    The more files met odd failures and were not stored since (`suspects`, this one among them), the
    more speaks against the store: a single odd key is known after some seconds, and of a store that
    fails every second request no file is.
    """
    return suspicion.proofs >= PROOFS_NEEDED * max(1, suspects)
