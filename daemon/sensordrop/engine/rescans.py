"""Sweeps that people asked for: done at once, and then ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sensordrop.core.controls import Control, ControlKind


class Rescans:
    """Takes up what the control desk hands on. `sweep` may get the same control many times."""

    def __init__(self, sweep: Callable[[int, Control], None]) -> None:
        """`sweep` is given a delivery's id and the control that asks for its sweep."""
        self._sweep = sweep

    def take_up(self, controls: Sequence[Control]) -> None:
        """Have the sweeps done that are asked for."""
        for control in controls:
            if control.kind is ControlKind.RESCAN and control.delivery_id is not None:
                self._sweep(control.delivery_id, control)
