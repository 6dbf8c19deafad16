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


MEANINGS = {
    Exit.DONE: "done, or SAFE; a daemon stopped in order",
    Exit.FAILED: "something failed, differs, or NOT SAFE; or nobody knows of what was asked about",
    Exit.USAGE: "wrong use, or a mistake in the configuration",
    Exit.NO_LEDGER: "no daemon or no ledger",
    Exit.NOT_PERMITTED: "not permitted",
    Exit.BUG: "a mistake in sensordrop",
    Exit.INTERRUPTED: "interrupted",
}
"""What each code says, for people."""
