"""How many claims are let through at a time, of each delivery and in total."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sensordrop.engine.turnstile import Turnstile


def delivery(number: int, max_workers: int) -> Any:
    return SimpleNamespace(delivery_id=number, settings=SimpleNamespace(max_workers=max_workers))


def test_no_more_go_through_than_there_is_room_for():
    turnstile, north = Turnstile(2), delivery(1, 15)
    assert [turnstile.enter(claim, north) for claim in "abc"] == [True, True, False]
    assert turnstile.leave(north) == ("c", north)
    assert turnstile.leave(north) is None
    assert turnstile.enter("d", north)


def test_a_delivery_has_its_own_limit_and_holds_nobody_else_up():
    turnstile, north, south = Turnstile(10), delivery(1, 1), delivery(2, 2)
    assert [turnstile.enter(claim, north) for claim in "abc"] == [True, False, False]
    assert [turnstile.enter(claim, south) for claim in "xyz"] == [True, True, False]
    assert turnstile.leave(south) == ("z", south), "it passes those whose delivery is full"
    assert turnstile.leave(north) == ("b", north)


def test_what_waits_can_be_taken_back_and_is_not_begun_then():
    turnstile, north, south = Turnstile(1), delivery(1, 5), delivery(2, 5)
    turnstile.enter("a", north)
    for claim, place in (("b", north), ("x", south), ("c", north)):
        assert not turnstile.enter(claim, place)
    assert turnstile.recall(north) == ["b", "c"]
    assert turnstile.leave(north) == ("x", south)
    assert turnstile.recall(None) == []
