"""What is said of a delivery whose folder was not swept yet since the daemon began."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sensordrop.core.model import DeliveryState
from sensordrop.engine.scout import _state


def folder(**changes: object) -> SimpleNamespace:
    values = {
        "settings": SimpleNamespace(enabled=True), "paused_reason": None, "offline_reason": None,
        "blocked_reason": None, "taking_problem": None, "sweeping": False, "swept": False,
    }  # fmt: skip
    delivery = SimpleNamespace(**(values | changes))
    return SimpleNamespace(delivery=delivery, sweep_problem=None, held=0, watch_problem=None)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, DeliveryState.SWEEPING),
        ({"sweeping": True}, DeliveryState.SWEEPING),
        ({"swept": True}, DeliveryState.WATCHING),
        ({"swept": True, "sweeping": True}, DeliveryState.SWEEPING),
        ({"offline_reason": "no disk"}, DeliveryState.OFFLINE),
        ({"paused_reason": "bob"}, DeliveryState.PAUSED),
    ],
)
def test_a_folder_counts_as_watched_only_after_its_first_sweep(changes, state):
    assert _state(folder(**changes))[0] is state
