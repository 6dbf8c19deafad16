"""The machine's clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """`ports.Clock` on the clocks of this machine."""

    def now(self) -> datetime:
        """Give the wall clock in UTC."""
        return datetime.now(UTC)

    def wall_ns(self) -> int:
        """Give the wall clock in nanoseconds since 1970."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Give seconds that never run backwards."""
        return time.monotonic()
