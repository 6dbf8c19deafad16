"""Whose failure was it? And what a service says of a ledger that is away."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sensordrop.core.failure import Failure, FailureScope, LedgerUnavailableError
from sensordrop.engine.breakers import Breakers
from sensordrop.engine.patience import REASONS_TOLD, LedgerPatience

FILE, NEIGHBOUR = 1, 2


class Clock:
    """A clock that stands still."""

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def breakers() -> Breakers:
    return Breakers(Clock(), lambda: 0.5)  # type: ignore[arg-type]


DELIVERY = SimpleNamespace(
    settings=SimpleNamespace(
        breaker_keys={FailureScope.PROJECT: "project", FailureScope.DESTINATION: "store"},
        client="Acme",
    )
)
OTHERS = SimpleNamespace(
    settings=SimpleNamespace(breaker_keys={FailureScope.DESTINATION: "store"}, client="Beta")
)


def scope_after(
    breakers: Breakers, scope: FailureScope, evidence, rounds: int = 20
) -> FailureScope:
    """Give whose failure it is held to be after one file failed oddly again and again."""
    odd = Failure(scope=scope, error_class="odd", message="no", odd=True)
    for _ in range(rounds):
        breakers.fail(DELIVERY, odd, FILE)  # type: ignore[arg-type]
        evidence()
    return breakers.judged(DELIVERY, odd, FILE).scope  # type: ignore[arg-type]


@pytest.mark.parametrize("stored_before", [False, True])
def test_a_store_that_answers_questions_and_takes_no_bytes_blames_no_file(breakers, stored_before):
    if stored_before:
        breakers.succeed(DELIVERY, NEIGHBOUR)
    found = scope_after(breakers, FailureScope.DESTINATION, lambda: breakers.answered(DELIVERY))
    assert found is FailureScope.DESTINATION


def test_a_policy_that_lets_nobody_write_blames_no_file(breakers):
    found = scope_after(breakers, FailureScope.PROJECT, lambda: breakers.answered(DELIVERY))
    assert found is FailureScope.PROJECT


def test_a_key_that_is_forbidden_alone_is_known_where_others_were_stored(breakers):
    breakers.succeed(DELIVERY, NEIGHBOUR)
    found = scope_after(breakers, FailureScope.PROJECT, lambda: breakers.answered(DELIVERY))
    assert found is FailureScope.FILE


def test_what_another_clients_file_met_stops_a_delivery_without_naming_that_file(breakers):
    down = Failure(
        scope=FailureScope.DESTINATION, error_class="unreachable",
        message="putting beta-bucket/secret.wav: refused", hint="look at the network",
    )  # fmt: skip
    breakers.fail(OTHERS, down, FILE)  # type: ignore[arg-type]
    free, _, reason = breakers.verdict(DELIVERY)  # type: ignore[arg-type]
    assert (free, reason) == (
        False,
        "store: unreachable, which a file of another client met — look at the network",
    )
    assert "secret.wav" in (breakers.verdict(OTHERS)[2] or "")  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", [FailureScope.PROJECT, FailureScope.DESTINATION])
def test_others_that_get_through_each_time_show_that_it_is_the_files_own(breakers, scope):
    found = scope_after(breakers, scope, lambda: breakers.succeed(DELIVERY, NEIGHBOUR))
    assert found is FailureScope.FILE


def test_an_outage_is_told_once_and_again_where_another_reason_shows(capsys):
    patience = LedgerPatience("scout", Clock())  # type: ignore[arg-type]
    for problem in ("cut off", "cut off", "read-only", "cut off", "read-only"):
        patience.lost(LedgerUnavailableError(problem))
    told = capsys.readouterr().out
    assert (told.count("cut off"), told.count("read-only")) == (1, 1)
    patience.back()
    patience.lost(LedgerUnavailableError("cut off"))
    assert "cut off" in capsys.readouterr().out, "the next outage is another one"


def test_reasons_with_a_number_in_them_do_not_flood_the_journal(capsys):
    patience = LedgerPatience("scout", Clock())  # type: ignore[arg-type]
    for port in range(50):
        patience.lost(LedgerUnavailableError(f"port {port}"))
    assert capsys.readouterr().out.count("ledger_unavailable") == REASONS_TOLD
