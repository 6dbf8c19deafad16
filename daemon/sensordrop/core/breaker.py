"""A breaker stops the claims of one scope while that scope is in trouble, and probes it.

Trouble that is not a file's own (no network, expired credentials, a missing bucket) must use up
no file's attempts. The first such failure opens the breaker; after a backoff one file goes
through as a probe; its success closes the breaker, its failure doubles the wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from sensordrop.core.failure import Failure
from sensordrop.core.lifecycle import backoff_seconds

PROBE_BASE_SECONDS = 2.0
"""First wait before a probe: long enough not to hammer, short enough for a router's reboot."""
PROBE_CAP_SECONDS = 300.0
"""Longest wait between probes: what an operator who just mended something will sit through.
Only a store that asks for more gets more (`RETRY_AFTER_LIMIT_SECONDS`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """One scope's breaker. Closed when `failure` is None. Times are monotonic seconds."""

    failure: Failure | None = None
    failures: int = 0
    probe_at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Tell whether claims of this scope are stopped."""
        return self.failure is not None

    def allows_probe(self, monotonic: float) -> bool:
        """Tell whether one file may go through to see if the trouble is over."""
        return self.is_open and monotonic >= self.probe_at


def tripped(breaker: Breaker, failure: Failure, *, monotonic: float, dice: float) -> Breaker:
    """Give the breaker after a failure of its scope.

    Failures that arrive before the next probe is due are those of transfers that were already
    running: they don't lengthen the wait.
    """
    if breaker.is_open and monotonic < breaker.probe_at:
        return breaker
    failures = breaker.failures + 1
    wait = backoff_seconds(
        failures, base=PROBE_BASE_SECONDS, cap=PROBE_CAP_SECONDS, dice=0.5 + dice / 2
    )
    return Breaker(
        failure=failure,
        failures=failures,
        probe_at=monotonic + max(wait, failure.wait_asked_for),
    )
