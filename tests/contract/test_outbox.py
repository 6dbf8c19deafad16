"""The outbox in the ledger: what is to be told about sessions is never lost, and sent by one."""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator
from test_ledger import NOW, ask, binding, receipt, register, row, sweep

from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.ledger.outbox import KEPT_ATTEMPTS
from sensordrop.control.answers import ANSWERS
from sensordrop.control.refusal import RefusedError
from sensordrop.control.service import Operations
from sensordrop.core.failure import Failure, FailureScope
from sensordrop.core.letters import Answer, LetterKind, LetterPlan, LetterState
from sensordrop.core.lifecycle import Quarantine, RecordUploaded
from sensordrop.core.principal import Principal, Role
from sensordrop.engine.sender import Route, Sender
from sensordrop.ports.records import Commit, EndpointBinding, SessionReceipt
from sensordrop.ports.telling import AskedAgain

REFUSED = Failure(scope=FailureScope.FILE, error_class="rejected", message="no", hint="ask")
TOLD = LetterPlan(state=LetterState.TOLD)
LATER = LetterPlan(state=LetterState.WAITING, retry_seconds=3600.0, problem="not yet")
AT_ONCE = LetterPlan(state=LetterState.WAITING, problem="not yet")


def endpoint(digest: str = "there", kind: LetterKind = LetterKind.REGISTRATION) -> EndpointBinding:
    return EndpointBinding(kind=kind, endpoint=f"https://{digest}/", digest=digest)


def telling(**changes):
    return binding(**{"endpoints": [endpoint()], **changes})


def work(
    ledger, place, delivery_id: int, *paths: bytes, fail: bool = False, receipt_digest: str = ""
) -> int:
    """Have files stored (or quarantined) in a session that ends; give its number."""
    sweep(ledger, delivery_id, *(row(path) for path in paths))
    action = Quarantine(failure=REFUSED) if fail else RecordUploaded(receipt=receipt())
    claims = ledger.claim(place.daemon_id, delivery_id, 100)
    ledger.commit(place.daemon_id, [Commit(claim=c, action=action) for c in claims], NOW)
    made = None
    if receipt_digest:
        made = SessionReceipt(mark=ledger.begin_verifying(delivery_id), digest=receipt_digest)
    return ledger.finish_session(delivery_id, receipt=made).session_id


def lease(ledger, place, digest="there", kind=LetterKind.REGISTRATION, *, busy=(), seconds=60.0):
    wanted = [(delivery_id, kind, digest) for delivery_id in place.delivery_ids.values()]
    return ledger.lease_letter(place.daemon_id, wanted, busy=busy, lease_seconds=seconds)


def note(ledger, letter, plan=TOLD, status=200) -> bool:
    return ledger.note_answer(letter, Answer(status=status, text="ok"), plan, took_seconds=0.5)


def test_the_end_of_a_session_writes_what_is_to_be_told_and_nothing_else_does(ledger, database):
    place = register(ledger, telling(), binding("south"))
    north, south = place.delivery_ids["north"], place.delivery_ids["south"]
    sweep(ledger, north, row(b"S/a"))
    assert lease(ledger, place) is None, "the session runs"
    session = work(ledger, place, north, b"S/a", b"S/b", b"T/c")
    work(ledger, place, south, b"S/a")
    letter = lease(ledger, place)
    told = json.loads(letter.body)
    assert (letter.session_id, letter.attempts, told["session_id"]) == (session, 0, session)
    assert (told["bucket_name"], told["s3_prefix"]) == ("birds", "C1")
    assert (told["total_files"], told["files_uploaded"], told["total_bytes"]) == (3, 3, 30)
    assert [(s["sensor"], s["files"], s["bytes"]) for s in told["sensors"]] == [
        ("S", 2, 20),
        ("T", 1, 10),
    ]
    assert (told["station"], told["delivery"], told["receipt_digest"]) == ("hut", "north", None)
    assert ask(database, "SELECT count(*) FROM outbox") == [(1,)], "south has nobody to tell"


def test_a_session_that_has_a_receipt_is_told_with_its_digest(ledger):
    place = register(ledger, telling())
    north = place.delivery_ids["north"]
    work(ledger, place, north, b"S/a", receipt_digest="d" * 64)
    assert json.loads(lease(ledger, place).body)["receipt_digest"] == "d" * 64


def test_a_session_without_a_file_is_told_to_nobody(ledger, database):
    place = register(ledger, telling(endpoints=[endpoint(), endpoint(kind=LetterKind.START)]))
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"))
    ask(database, "DELETE FROM upload_queue")
    ask(database, "DELETE FROM file_uploads")
    assert ledger.finish_session(delivery).files == 0
    assert ask(database, "SELECT count(*) FROM outbox") == [(0,)]


NEWS = [LetterKind.START, LetterKind.FAILURE, LetterKind.DONE]


def notifying(**changes):
    return telling(endpoints=[endpoint(kind=kind) for kind in NEWS], **changes)


def letters(database) -> list[tuple[int, str]]:
    return ask(database, "SELECT session_id, kind FROM outbox ORDER BY id")


def test_start_failure_and_end_are_told_to_those_who_want_to_hear_of_them(ledger, database):
    place = register(ledger, notifying())
    delivery = place.delivery_ids["north"]
    work(ledger, place, delivery, b"S/a")
    work(ledger, place, delivery, b"S/a", b"S/b", fail=True)
    assert letters(database) == [
        (1, "start"),
        (1, "done"),
        (2, "start"),
        (2, "failure"),
        (2, "done"),
    ]


def test_a_failure_is_told_once_in_a_session_at_once_with_the_counts_so_far(ledger, database):
    place = register(ledger, notifying())
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"), row(b"S/b"), row(b"T/c"))
    claims = ledger.claim(place.daemon_id, delivery, 3)
    stored, *bad = claims
    done = Commit(claim=stored, action=RecordUploaded(receipt=receipt()))
    ledger.commit(place.daemon_id, [done], NOW)
    for claim in bad:
        commit = Commit(claim=claim, action=Quarantine(failure=REFUSED))
        ledger.commit(place.daemon_id, [commit], NOW)
    assert letters(database) == [(1, "start"), (1, "failure")], "the session runs"
    ((body,),) = ask(database, "SELECT body FROM outbox WHERE kind = 'failure'")
    told = json.loads(body)
    assert told["reason"] == f"{bad[0].path_text}: no"
    assert (told["total_files"], told["files_uploaded"], told["files"]["failed"]) == (3, 1, 1)
    assert (told["ended_at"], told["sensors"]) == (None, [])
    ledger.finish_session(delivery)
    ((body,),) = ask(database, "SELECT body FROM outbox WHERE kind = 'done'")
    told = json.loads(body)
    assert (told["files"]["failed"], told["reason"], len(told["sensors"])) == (2, None, 2)


def test_a_delivery_that_is_held_up_is_told_once_and_only_while_a_session_runs(ledger, database):
    place = register(ledger, notifying())
    delivery = place.delivery_ids["north"]
    ledger.tell_trouble(delivery, "the bucket is gone")
    assert letters(database) == [], "nothing waits for it"
    sweep(ledger, delivery, row(b"S/a"))
    for _ in range(2):
        ledger.tell_trouble(delivery, "the bucket is gone")
    assert letters(database) == [(1, "start"), (1, "failure")]
    ((body,),) = ask(database, "SELECT body FROM outbox WHERE kind = 'failure'")
    assert json.loads(body)["reason"] == "the bucket is gone"


def test_what_the_configuration_no_longer_asks_for_is_nobody_notified_of(ledger, database):
    place = register(ledger, telling(endpoints=[endpoint(), endpoint(kind=LetterKind.DONE)]))
    work(ledger, place, place.delivery_ids["north"], b"S/a")
    assert sorted(letters(database)) == [(1, "done"), (1, "registration")]
    register(ledger, binding())
    assert letters(database) == [(1, "registration")], "that one is owed"


def test_a_leased_letter_is_nobody_elses_until_the_lease_ends_and_only_its_holder_notes(ledger):
    place = register(ledger, telling(shared=True))
    second = register(ledger, telling(shared=True), station="other", instance=uuid.UUID(int=2))
    work(ledger, place, place.delivery_ids["north"], b"S/a")
    first = lease(ledger, place, seconds=0.0)
    again = lease(ledger, second)
    assert again.letter_id == first.letter_id
    assert (again.idempotency_key, again.body) == (first.idempotency_key, first.body)
    assert lease(ledger, place) is None, "it is leased"
    assert not note(ledger, first), "its lease was over"
    assert note(ledger, again)
    assert not note(ledger, again), "an answer is written down once"
    assert lease(ledger, place) is None


def test_daemons_that_look_at_once_lease_each_letter_once(ledger):
    place = register(ledger, telling())
    delivery = place.delivery_ids["north"]
    sessions = [work(ledger, place, delivery, b"S/%d" % n) for n in range(12)]
    got: list[int] = []

    def take() -> None:
        while letter := lease(ledger, place):
            got.append(letter.session_id)
            assert note(ledger, letter)
        ledger.close_own()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever looks while another holds the row sees nothing: the rest is for the next look.
    take()
    assert sorted(got) == sessions


def test_what_a_dead_daemon_leased_is_free_as_soon_as_it_is_known_to_be_dead(ledger):
    place = register(ledger, telling())
    work(ledger, place, place.delivery_ids["north"], b"S/a")
    first = lease(ledger, place, seconds=600.0)
    successor = register(ledger, telling())
    second = lease(ledger, successor)
    assert (second.idempotency_key, second.body) == (first.idempotency_key, first.body)
    assert not note(ledger, first)


def test_a_letter_that_is_given_back_counts_no_attempt(ledger, database):
    place = register(ledger, telling())
    work(ledger, place, place.delivery_ids["north"], b"S/a")
    ledger.give_letter_back(lease(ledger, place))
    assert lease(ledger, place).attempts == 0
    assert ask(database, "SELECT count(*) FROM outbox_attempts") == [(0,)]


def test_an_answer_says_when_it_is_due_again_and_the_newest_are_kept(ledger, database):
    place = register(ledger, telling())
    work(ledger, place, place.delivery_ids["north"], b"S/a")
    for number in range(KEPT_ATTEMPTS + 3):
        assert note(ledger, lease(ledger, place), AT_ONCE, status=500 + number)
    kept = ask(database, "SELECT status FROM outbox_attempts ORDER BY id")
    assert [status for (status,) in kept] == list(range(503, 503 + KEPT_ATTEMPTS))
    last = lease(ledger, place)
    assert last.attempts == KEPT_ATTEMPTS + 3
    assert note(ledger, last, LATER, status=503)
    assert lease(ledger, place) is None, "it is due in an hour"


def test_what_a_clock_that_was_ahead_put_off_is_due_at_once(ledger, database):
    place = register(ledger, telling())
    work(ledger, place, place.delivery_ids["north"], b"S/a")
    note(ledger, lease(ledger, place), LATER)
    ask(database, "UPDATE outbox SET next_at = now() + interval '3 years'")
    assert lease(ledger, place) is not None
    assert lease(ledger, place) is None
    ask(database, "UPDATE outbox SET leased_until = now() + interval '3 years'")
    assert lease(ledger, place) is not None


def test_an_endpoint_that_is_busy_holds_up_no_other(ledger):
    place = register(ledger, telling(), telling(name="south", endpoints=[endpoint("elsewhere")]))
    for name in ("north", "south"):
        work(ledger, place, place.delivery_ids[name], b"S/a")
    assert lease(ledger, place, busy=["there"]) is None
    assert lease(ledger, place, "elsewhere", busy=["there"]) is not None


def test_endpoints_that_are_dead_leave_a_place_for_those_that_live(ledger):
    dead = [f"dead{number}" for number in range(4)]
    bindings = [binding(name, endpoints=[endpoint(name)]) for name in (*dead, "live")]
    place = register(ledger, *bindings)
    tried: list[str] = []
    released = threading.Event()

    class Endpoints:
        """The dead refuse their first letter at once, and take for ever over the others."""

        def send(self, letter, _stop) -> Answer | None:
            again = letter.endpoint_digest in tried
            tried.append(letter.endpoint_digest)
            if letter.endpoint_digest == "live":
                return Answer(status=200)
            if again:
                released.wait(300)
            return Answer(problem="nobody is there")

    routes = [
        Route(
            delivery_id=place.delivery_ids[name], delivery=name, kind=LetterKind.REGISTRATION,
            digest=name, timeout_seconds=30.0, give_up_seconds=1000.0,
        )
        for name in (*dead, "live")
    ]  # fmt: skip
    sender = Sender(
        ledger=ledger, clock=SystemClock(), notifier=Endpoints(), routes=routes,
        daemon_id=lambda: place.daemon_id, dice=lambda: 1.0,
    )  # fmt: skip
    stop = threading.Event()
    thread = threading.Thread(target=sender.run, args=(stop,))
    for name in dead:
        work(ledger, place, place.delivery_ids[name], b"S/a")
    thread.start()
    try:
        until(lambda: set(tried) == set(dead))
        for name in dead:
            work(ledger, place, place.delivery_ids[name], b"S/b")
        until(lambda: len(tried) >= 7)
        number = work(ledger, place, place.delivery_ids["live"], b"S/a")
        until(lambda: [each.state for each in ledger.letters_of(number)] == [LetterState.TOLD])
    finally:
        released.set()
        stop.set()
        sender.wake()
        thread.join(60)


def until(happened) -> None:
    give_up = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_what_was_not_told_goes_to_where_the_configuration_points_now(ledger, database):
    place = register(ledger, telling())
    delivery = place.delivery_ids["north"]
    work(ledger, place, delivery, b"S/a")
    told = lease(ledger, place)
    note(ledger, told)
    work(ledger, place, delivery, b"S/b")
    before = lease(ledger, place)
    moved = replace(telling(), endpoints=[endpoint("moved")])
    place = register(ledger, moved)
    after = lease(ledger, place, "moved")
    assert (after.session_id, after.idempotency_key) == (before.session_id, before.idempotency_key)
    assert after.endpoint == "https://moved/"
    assert ask(database, "SELECT endpoint FROM outbox WHERE state = 'told'") == [
        ("https://there/",)
    ]


def test_a_delivery_that_is_pointed_elsewhere_leaves_its_letters_to_the_new_one(ledger):
    place = register(ledger, telling())
    delivery = place.delivery_ids["north"]
    sweep(ledger, delivery, row(b"S/a"))
    claims = ledger.claim(place.daemon_id, delivery, 1)
    action = RecordUploaded(receipt=receipt())
    ledger.commit(place.daemon_id, [Commit(claim=claims[0], action=action)], NOW)
    place = register(ledger, telling(s3_prefix="C2", cycle="C2"))
    letter = lease(ledger, place)
    assert letter.delivery_id == place.delivery_ids["north"] != delivery
    assert json.loads(letter.body)["cycle"] == "C1", "what happened stays true"


def test_a_registration_is_asked_for_again_under_its_key_and_of_sessions_from_before(ledger):
    place = register(ledger, binding())
    delivery = place.delivery_ids["north"]
    old = work(ledger, place, delivery, b"S/a")
    assert ledger.ask_letter_again(old, None) is AskedAgain.NOBODY
    place = register(ledger, telling())
    new = work(ledger, place, delivery, b"S/b")
    first = lease(ledger, place)
    note(ledger, first, LetterPlan(state=LetterState.FAILED, problem="gone"), status=410)
    operations = Operations(ledger=ledger, station="hut", zone=NOW.tzinfo)
    somebody = Principal(name="ann@hut", role=Role.ADMIN)
    told = operations.trigger(somebody, session_id=new)
    Draft202012Validator(ANSWERS["trigger"]).validate(told)
    assert [(each["state"], each["status"]) for each in told["letters"]] == [("waiting", 410)]
    again = lease(ledger, place)
    assert (again.idempotency_key, again.body) == (first.idempotency_key, first.body)
    assert again.attempts == 0, "its waits begin anew"
    operations.trigger(somebody, session_id=old)
    before = lease(ledger, place)
    assert json.loads(before.body)["session_id"] == old
    sweep(ledger, delivery, row(b"S/c"))
    with pytest.raises(RefusedError, match="has not ended"):
        operations.trigger(somebody, session_id=new + 1)


def test_a_session_has_one_key_whichever_address_it_is_told_at(ledger):
    place = register(ledger, telling())
    number = work(ledger, place, place.delivery_ids["north"], b"S/a")
    first = lease(ledger, place)
    note(ledger, first)
    place = register(ledger, telling(endpoints=[endpoint("renamed")]))
    assert ledger.ask_letter_again(number, endpoint("renamed")) is AskedAgain.ASKED
    again = lease(ledger, place, "renamed")
    assert (again.idempotency_key, again.body) == (first.idempotency_key, first.body)


def test_what_was_not_told_is_counted_where_people_look(ledger, database):
    place = register(ledger, telling())
    delivery = place.delivery_ids["north"]
    for path in (b"S/a", b"S/b", b"S/c", b"S/d"):
        work(ledger, place, delivery, path)
    note(ledger, lease(ledger, place), LetterPlan(state=LetterState.FAILED, problem="gone"))
    note(ledger, lease(ledger, place), LATER)
    note(ledger, lease(ledger, place))
    ask(database, "UPDATE outbox SET asked_at = timestamptz 'epoch' + interval '9 s' WHERE id = 4")
    (counts,) = ledger.status("hut")
    assert (counts.letters_delayed, counts.letters_failed) == (1, 1)
    reading = ledger.read_vitals(place.daemon_id, [delivery]).deliveries[delivery]
    assert (reading.letters_waiting, reading.letters_failed) == (2, 1)
    assert reading.oldest_letter_at == 9.0
    ask(database, "UPDATE outbox SET asked_at = now() - interval '31 days' WHERE state = 'failed'")
    (counts,) = ledger.status("hut")
    assert counts.letters_failed == 0
    ask(database, "UPDATE outbox SET kind = 'done', asked_at = now() WHERE state = 'failed'")
    assert ledger.status("hut")[0].letters_failed == 1
    ask(database, "UPDATE outbox SET asked_at = now() - interval '2 days' WHERE state = 'failed'")
    assert ledger.status("hut")[0].letters_failed == 0, "yesterday's news"
    reading = ledger.read_vitals(place.daemon_id, [delivery]).deliveries[delivery]
    assert reading.letters_failed == 0
