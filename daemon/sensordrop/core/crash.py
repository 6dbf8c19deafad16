"""What a process leaves behind when it dies, and whom that speaks against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftInWork:
    """What a process had in hand when it was last seen alive.

    `oom_kills`: how many processes the kernel had killed for memory by then, in that boot.
    """

    boot_id: str
    oom_kills: int
    upload_ids: Sequence[int]


def killed_for_memory(left: LeftInWork | None, *, boot_id: str, oom_kills: int) -> bool:
    """Tell whether the kernel is known to have killed a process for the memory that it used.

    Such a death leaves no report. It is held to be shown where the process had work in hand and the
    kernel killed something since it was last seen alive, in the same boot: a power cut and a
    `kill -9` by somebody's hand count nothing.
    """
    return (
        left is not None
        and len(left.upload_ids) > 0
        and left.boot_id == boot_id
        and oom_kills > left.oom_kills
    )
