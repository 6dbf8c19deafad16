"""Which calls wait for a disk, and since when.

A card reader that died, or a share behind a file system of its own, may answer who looks at the
folder and hold whoever reads a file, for minutes or for ever. A thread that is held can't tell it;
so each call is noted before it is made, and others look at the notes.
"""

from __future__ import annotations

import itertools
import time

from sensordrop.ports.reading import HeldUp


class DiskCalls:
    """The calls on one folder. Safe from every thread.

    Costs less than a microsecond a call: a dict's single operations need no lock.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._under_way: dict[int, tuple[float, bytes]] = {}

    def begin(self, path: bytes) -> int:
        """Note that a call on a file is about to be made; give the number to end it with."""
        number = next(self._numbers)
        self._under_way[number] = (time.monotonic(), path)
        return number

    def end(self, number: int) -> None:
        """Note that the call came back."""
        del self._under_way[number]

    def longest(self) -> HeldUp | None:
        """Give the call that waits for longest; None: none is under way."""
        under_way = list(self._under_way.copy().items())
        if not under_way:
            return None
        number, (began, path) = min(under_way)
        return HeldUp(call=number, path=path, seconds=time.monotonic() - began)
