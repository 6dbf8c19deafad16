"""Exit codes of all programs and verbs."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a program's end says to the script that started it."""

    DONE = 0
    """Done, or SAFE; a daemon stopped in order."""
    FAILED = 1
    """Something failed, differs, or NOT SAFE."""
    USAGE = 2
    """Usage or configuration."""
    NO_LEDGER = 3
    """No daemon or no ledger."""
    NOT_PERMITTED = 4
    """Not permitted."""
    BUG = 70
    """A mistake in sensordrop (EX_SOFTWARE of sysexits.h)."""
    INTERRUPTED = 130
    """Interrupted."""
