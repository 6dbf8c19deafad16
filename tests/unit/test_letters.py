"""What an answer means for a letter, how it is signed, and where it may go."""

from __future__ import annotations

import pytest

from sensordrop.core.letters import (
    FIRST_RETRY_SECONDS,
    LONGEST_ASKED_SECONDS,
    LONGEST_RETRY_SECONDS,
    Answer,
    LetterPlan,
    LetterState,
    address_problem,
    plan_letter,
    signature,
    trouble_of,
)

DAY = 86_400.0


def planned(answer: Answer, *, attempts: int = 0, waited: float = 0.0, dice: float = 1.0):
    return plan_letter(
        answer, attempts=attempts, waited_seconds=waited, give_up_seconds=3 * DAY, dice=dice
    )


def test_the_waits_are_those_of_the_documentation():
    assert (FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, LONGEST_ASKED_SECONDS) == (5, 900, DAY)


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("::1", "::1"),
        ("::", "::"),
        ("::2", "0.0.0.2"),
        ("64:ff9b::7f00:1", "127.0.0.1"),
        ("2002:a00:1::1", "10.0.0.1"),
        ("2001:0:808:808:0:0:f5ff:fffa", "10.0.0.5"),
    ],
)
def test_the_address_that_is_refused_is_the_one_that_it_leads_to(address, named):
    assert f"the address {named} is" in str(address_problem(address, allow_private=False))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_success_is_heard(status):
    plan = planned(Answer(status=status))
    assert plan == LetterPlan(state=LetterState.TOLD, retry_seconds=0.0, problem=None, hint="")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (199, "ask whoever runs the endpoint"),
        (300, "give the address that it points to"),
        (399, "give the address that it points to"),
        (400, "ask whoever runs the endpoint"),
        (401, "check token"),
        (402, "ask whoever runs the endpoint"),
        (403, "check token"),
        (404, "ask whoever runs the endpoint"),
        (429, "tried again by itself"),
        (499, "ask whoever runs the endpoint"),
        (500, "tried again by itself"),
        (600, "tried again by itself"),
    ],
)
def test_an_answer_that_is_no_success_comes_with_what_helps(status, words):
    problem, hint = trouble_of(Answer(status=status))
    assert str(status) in str(problem)
    assert words in hint
    plan = planned(Answer(status=status))
    assert (plan.problem, plan.hint) == (problem, hint)
    # What is said to be tried again is, and nothing else.
    waits = plan.state is LetterState.WAITING
    assert waits is ("tried again" in hint)
    assert waits is (plan.retry_seconds > 0)


def test_an_answer_without_a_status_is_no_answer():
    plan = planned(Answer())
    assert plan.state is LetterState.WAITING
    assert plan.problem == "the endpoint answered 0"
    assert trouble_of(Answer(status=200)) == (None, "")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again(status):
    plan = planned(Answer(status=status))
    assert plan.state is LetterState.WAITING
    assert plan.retry_seconds == FIRST_RETRY_SECONDS
    assert str(status) in str(plan.problem)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 400, 401, 403, 404, 409, 410, 422])
def test_what_nobody_would_answer_otherwise_is_not_repeated(status):
    plan = planned(Answer(status=status))
    assert plan.state is LetterState.FAILED
    assert str(status) in str(plan.problem)
    assert plan.hint


def test_nobody_there_is_tried_again_and_so_is_an_answer_that_broke_off():
    plan = planned(Answer(problem="it does not answer", hint="look"))
    assert (plan.state, plan.problem, plan.hint) == ("waiting", "it does not answer", "look")
    assert planned(Answer(status=200, problem="cut")).state is LetterState.WAITING


def test_waits_double_up_to_a_limit_and_are_spread():
    waits = [planned(Answer(status=500), attempts=n).retry_seconds for n in range(12)]
    assert waits[:4] == [5.0, 10.0, 20.0, 40.0]
    assert waits[-1] == LONGEST_RETRY_SECONDS
    assert planned(Answer(status=500), attempts=10_000).retry_seconds == LONGEST_RETRY_SECONDS
    spread = [planned(Answer(status=500), dice=dice).retry_seconds for dice in (0.0, 0.2, 0.5)]
    assert spread == [2.5, 3.0, 3.75]


def test_the_endpoint_may_ask_for_a_longer_wait_but_not_for_a_shorter_one_nor_for_ever():
    asked = Answer(status=429, retry_after_seconds=120.0)
    assert planned(asked).retry_seconds == 120.0
    assert planned(asked, attempts=10).retry_seconds == LONGEST_RETRY_SECONDS
    for_ever = Answer(status=503, retry_after_seconds=1e9)
    assert planned(for_ever).retry_seconds == LONGEST_ASKED_SECONDS


def test_after_days_it_is_given_up_and_the_last_problem_stays():
    nobody = Answer(problem="it does not answer")
    assert planned(nobody, attempts=50, waited=3 * DAY - 1000).state is LetterState.WAITING
    plan = planned(nobody, attempts=50, waited=3 * DAY - 800)
    assert plan.state is LetterState.FAILED
    assert plan.problem == "it does not answer; it was tried for 71.8 hours"
    assert "sensordrop trigger" in plan.hint


def test_it_is_given_up_when_the_next_attempt_would_be_too_late_and_says_for_how_long():
    nobody = Answer(problem="it does not answer")
    last = planned(nobody, attempts=50, waited=3 * DAY - 900)
    assert last.state is LetterState.WAITING, "the attempt at the very end is made"
    plan = plan_letter(nobody, attempts=50, waited_seconds=3.6e6, give_up_seconds=3.6e6, dice=0.0)
    assert (plan.state, plan.retry_seconds) == (LetterState.FAILED, 0.0)
    assert "for 1000.0 hours" in str(plan.problem)


def test_the_signature_is_that_of_timestamp_and_body():
    # Computed beside it: printf '1757408400.{"a": 1}' | openssl dgst -sha256 -hmac secret
    assert signature("secret", 1757408400, b'{"a": 1}') == KNOWN
    assert signature("secret", 1757408401, b'{"a": 1}') != KNOWN
    assert signature("secret", 1757408400, b'{"a": 2}') != KNOWN
    assert signature("Secret", 1757408400, b'{"a": 1}') != KNOWN


KNOWN = "5dda4c70bb432eb9a9af7e810ff67a98ae1f897715ab80190832ac271fd322a2"


@pytest.mark.parametrize(
    ("address", "by_default", "if_allowed"),
    [
        ("8.8.8.8", True, True),
        ("2a00:1450:4001:82a::200e", True, True),
        ("10.0.0.5", False, True),
        ("192.168.1.1", False, True),
        ("172.16.0.9", False, True),
        ("100.64.0.1", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("fd00::1", False, True),
        ("::ffff:10.0.0.5", False, True),
        ("::ffff:169.254.169.254", False, False),
        ("169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
        ("fd00:ec2::254", False, False),
        ("168.63.129.16", False, False),
        ("100.100.100.200", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("64:ff9b::7f00:1", False, True),
        ("64:ff9b::808:808", True, True),
        ("2002:a9fe:a9fe::1", False, False),
        ("2002:a00:1::1", False, True),
        ("2001:0:808:808:0:0:f5ff:fffe", False, True),
        ("::127.0.0.1", False, True),
        ("::8.8.8.8", True, True),
        ("::169.254.169.254", False, False),
        ("::0.0.0.2", False, True),
        ("::ffff:8.8.8.8", True, True),
        ("2002:808:808::1", True, True),
        ("2001:0:808:808:0:0:f5ff:fffa", False, True),
        ("2001:0:a00:1:0:0:f7f7:f7f7", True, True),
        ("64:ff9b:1::a00:5", False, True),
        ("64:ff9b::a9fe:a9ff", False, False),
        ("64:ff9b:1::a9fe:a9fe", False, False),
        ("fd20:ce::254", False, False),
        ("192.0.0.192", False, False),
        ("fec0::1", False, True),
    ],
)
def test_where_it_may_go(address, by_default, if_allowed):
    assert (address_problem(address, allow_private=False) is None) == by_default
    assert (address_problem(address, allow_private=True) is None) == if_allowed
