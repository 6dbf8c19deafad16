"""A delivery that was halted goes on when its pause was ended, even if the pause was never seen."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from sensordrop.core.controls import PAUSED, Control, ControlKind
from sensordrop.core.failure import Failure, FailureScope
from sensordrop.core.lifecycle import RetryPolicy
from sensordrop.engine.delivery import Delivery, DeliverySettings
from sensordrop.engine.halts import Halts
from sensordrop.engine.pauses import HALT_LOOKS, Pauses

BAD = Failure(scope=FailureScope.FILE, error_class="rejected", message="no")


class Book:
    """A ledger that takes pauses down, and can be away."""

    def __init__(self) -> None:
        self.paused: list[int] = []

    def pause_delivery(self, delivery_id: int, *, set_by: str, reason: str) -> None:
        self.paused.append(delivery_id)


def halted(book: Book, *, written: bool = True) -> tuple[Delivery, Pauses, list[str]]:
    settings = SimpleNamespace(name="north", delivery_id=7, policy=RetryPolicy())
    delivery = Delivery(settings=cast(DeliverySettings, settings))
    halts = Halts(cast(Any, book))
    for upload_id in range(100):
        halts.failed(delivery, upload_id, BAD)
    assert delivery.halted
    if written:
        halts.write_down()
        assert book.paused == [7]
    rung: list[str] = []
    return delivery, Pauses([delivery], wake=[lambda: rung.append("rung")]), rung


def pause() -> Control:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    return Control(
        kind=ControlKind.PAUSE, delivery_id=7, value=PAUSED, reason="too many",
        set_by="sensordropd", set_at=now, until=None,
    )  # fmt: skip


def test_a_pause_that_was_ended_before_it_was_seen_leaves_nothing_halted():
    delivery, pauses, rung = halted(Book())
    for _ in range(HALT_LOOKS - 1):
        pauses.take_up([])
        assert delivery.halted, "the look may have begun before the pause was written"
    pauses.take_up([])
    assert not delivery.halted
    assert rung, "nobody is told that it goes on"


def test_a_pause_that_is_not_written_yet_keeps_it_halted():
    delivery, pauses, _ = halted(Book(), written=False)
    for _ in range(10 * HALT_LOOKS):
        pauses.take_up([])
    assert delivery.halted


def test_the_pause_takes_over_and_its_end_lets_it_go_on():
    delivery, pauses, _ = halted(Book())
    pauses.take_up([pause()])
    assert not delivery.halted
    assert delivery.paused_reason is not None
    pauses.take_up([])
    assert delivery.paused_reason is None
    assert not delivery.halted
