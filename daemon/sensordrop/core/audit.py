"""How fast the audit goes: a share of all stored objects in a day, spread over the day."""

from __future__ import annotations

DAY_SECONDS = 86_400.0
LONGEST_WAIT_SECONDS = 60.0
"""The pace is looked at again at least this often: cards arrive, and then there is more to do."""
SHORTEST_WAIT_SECONDS = 1.0


def allowance(*, elapsed_seconds: float, stored: int, share_per_day: float) -> float:
    """Say how many objects may be looked at for a time that has passed.

    At most a day's share: what a daemon that was down did not look at is not made up for.
    """
    days = min(max(elapsed_seconds, 0.0) / DAY_SECONDS, 1.0)
    return days * share_per_day * stored


def seconds_of(objects: int, *, stored: int, share_per_day: float) -> float:
    """Say for how much time looking at so many objects was the share."""
    return objects * DAY_SECONDS / (share_per_day * stored)


def wait_seconds(allowed: float, *, stored: int, share_per_day: float) -> float:
    """Say how long to wait until one more object is allowed."""
    if stored == 0:
        return LONGEST_WAIT_SECONDS
    missing = seconds_of(1, stored=stored, share_per_day=share_per_day) * (1.0 - allowed)
    return min(max(missing, SHORTEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
