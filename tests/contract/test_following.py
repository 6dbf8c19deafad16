"""What a run by hand says of the work that it handed over: nothing is done before it is."""

from __future__ import annotations

import pytest
from test_ledger import NOW, WALL_NS, ask, listing, receipt, register, row

from sensordrop.adapters.clock import SystemClock
from sensordrop.core.batch import RunEnd
from sensordrop.core.controls import ControlKind, Rescan
from sensordrop.core.lifecycle import RecordUploaded
from sensordrop.core.model import SweepSummary
from sensordrop.core.selection import Selection
from sensordrop.engine.following import Following
from sensordrop.ports.records import Commit, DeliveryStatus, EnrollRules

RULES = EnrollRules(selection=Selection(), sensor_level=1, quiet_seconds=10.0)


class Daemon:
    """What a daemon would do with the delivery that somebody follows."""

    def __init__(self, ledger) -> None:
        self.ledger = ledger
        self.registration = register(ledger)
        self.delivery_id = self.registration.delivery_ids["north"]
        self.says("watching")
        (place,) = ledger.delivery_places("hut")
        self.following = Following(ledger=ledger, clock=SystemClock(), place=place, station="hut")
        ledger.set_control(
            ControlKind.RESCAN, Rescan.SWEEP.value, station="hut", delivery="north", set_by="ann"
        )

    def says(self, state: str, reason: str | None = None, *, settling: int = 0) -> None:
        status = DeliveryStatus(
            delivery_id=self.delivery_id, state=state, reason=reason, settling=settling
        )
        self.ledger.publish([status])

    def finds(self, *paths: bytes, complete: bool = True) -> None:
        """Sweep: what was asked for has been done once the folder was listed to its end."""
        self.says("sweeping")
        rows = listing(*(row(path) for path in paths))
        self.ledger.enroll_listing(
            self.delivery_id, rows, RULES, wall_ns=WALL_NS, most_unsettled=100
        )
        summary = SweepSummary(
            started_at=NOW, files=len(paths), new=0, changed=0, unsettled=0, gone=0,
            complete=complete, problem=None if complete else "no access to b",
        )  # fmt: skip
        self.ledger.publish_sweep(self.delivery_id, summary)
        if complete:
            for each in self.ledger.settings_in_force(ControlKind.RESCAN, "hut"):
                if each.control is not None:
                    self.ledger.end_control(each.control, "sensordropd")

    def stores(self) -> None:
        claims = self.ledger.claim(self.registration.daemon_id, self.delivery_id, 100)
        done = RecordUploaded(receipt=receipt())
        commits = [Commit(claim=claim, action=done) for claim in claims]
        self.ledger.commit(self.registration.daemon_id, commits, NOW)

    def look(self) -> RunEnd | None:
        ended = self.following.look()
        return None if ended is None else ended.how


@pytest.fixture
def daemon(ledger) -> Daemon:
    return Daemon(ledger)


def test_it_is_done_when_what_the_sweep_found_is_stored_and_the_session_has_ended(daemon):
    assert daemon.look() is None, "it has not swept yet"
    daemon.finds(b"S/a")
    assert daemon.look() is None
    daemon.says("watching")
    assert daemon.look() is None, "a file waits"
    daemon.stores()
    assert daemon.look() is None, "the session runs"
    daemon.ledger.finish_session(daemon.delivery_id)
    assert daemon.look() is RunEnd.DONE
    assert daemon.following.session.counts["uploaded"] == 1


def test_files_that_still_settle_are_waited_for(daemon):
    daemon.finds()
    assert daemon.look() is None, "what the sweep found is not told yet"
    daemon.says("watching", settling=3)
    assert daemon.look() is None
    daemon.says("watching")
    assert daemon.look() is RunEnd.DONE


def test_a_folder_that_could_not_be_listed_is_neither_done_nor_waited_for_without_end(daemon):
    assert daemon.look() is None
    daemon.finds(complete=False)
    daemon.says("watching", "the last sweep was partial")
    ended = daemon.following.look()
    assert (ended.how, ended.words) == (RunEnd.PARTIAL, "no access to b")


@pytest.mark.parametrize(
    ("state", "how"),
    [("paused", RunEnd.PAUSED), ("offline", RunEnd.OFFLINE), ("disabled", RunEnd.BLOCKED)],
)
def test_a_delivery_that_does_nothing_is_not_waited_for_without_a_word(daemon, state, how):
    daemon.says(state, "by ann: the line is needed")
    ended = daemon.following.look()
    assert (ended.how, ended.words) == (how, "by ann: the line is needed")


def test_a_daemon_that_has_ended_is_told(daemon, database):
    ask(database, "UPDATE daemons SET ended_at = now()")
    assert daemon.look() is RunEnd.BLOCKED
