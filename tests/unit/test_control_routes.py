"""Who may ask for what, and how a request is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensordrop.control import handler, visits
from sensordrop.control.answers import ANSWERS
from sensordrop.control.client import request_of
from sensordrop.control.reference import rewritten
from sensordrop.control.refusal import STATUS, Reason, RefusedError
from sensordrop.control.routes import BASE, BY_NAME, ROUTES, find_route
from sensordrop.core import admission
from sensordrop.core.admission import is_admitted
from sensordrop.core.principal import (
    Grant,
    KnownGrant,
    Peer,
    Principal,
    Rank,
    Role,
    principal_of,
)
from sensordrop.exits import MEANINGS, Exit

DOCUMENT = Path(__file__).parents[2] / "docs" / "control.md"

SOMEBODY, DAEMON, GROUP = 1000, 900, 77


@pytest.mark.parametrize(
    ("user_id", "groups", "group", "behalf", "name", "role"),
    [
        (0, {0}, None, "", "anna@hut", Role.ADMIN),
        (0, {0}, None, "bert", "bert@hut", Role.ADMIN),
        (DAEMON, {DAEMON}, None, "", "anna@hut", Role.ADMIN),
        (SOMEBODY, {SOMEBODY, GROUP}, GROUP, "", "anna@hut", Role.ADMIN),
        (SOMEBODY, {SOMEBODY, GROUP}, GROUP, "root", "anna@hut", Role.ADMIN),
        (SOMEBODY, {SOMEBODY}, GROUP, "", "anna@hut", Role.VIEWER),
        (SOMEBODY, {SOMEBODY, GROUP}, None, "", "anna@hut", Role.VIEWER),
        (SOMEBODY, {0}, GROUP, "root", "anna@hut", Role.VIEWER),
    ],
)
def test_root_the_daemons_user_and_the_group_control_and_others_look(
    user_id, groups, group, behalf, name, role
):
    peer = Peer(user_id=user_id, user="anna", groups=groups, behalf=behalf)
    found = principal_of(peer, host="hut", own_user_id=DAEMON, group=group)
    assert (found.name, found.role, found.clients) == (name, role, None)


ACME = KnownGrant(user_id=SOMEBODY, grant=Grant(user="anna", role=Role.VIEWER, clients=("Acme",)))
FIELD = KnownGrant(group_id=88, grant=Grant(group="field", role=Role.ADMIN, clients=("Beta",)))
ALL = KnownGrant(group_id=89, grant=Grant(group="office", role=Role.ADMIN, clients=None))


@pytest.mark.parametrize(
    ("user_id", "groups", "grants", "role", "clients"),
    [
        (SOMEBODY, {GROUP}, [ACME], Role.VIEWER, ("Acme",)),
        (SOMEBODY, {88}, [ACME, FIELD], Role.VIEWER, ("Acme",)),
        (SOMEBODY, {88}, [FIELD, ACME], Role.ADMIN, ("Beta",)),
        (1001, {GROUP, 88}, [ACME, FIELD], Role.ADMIN, ("Beta",)),
        (1001, {89}, [ACME, FIELD, ALL], Role.ADMIN, None),
        (1001, {GROUP}, [ACME, FIELD], Role.ADMIN, None),
        (1001, {1001}, [ACME, FIELD], Role.STRANGER, None),
        (1001, {1001}, [], Role.VIEWER, None),
        (0, {88}, [KnownGrant(user_id=0, grant=ACME.grant), FIELD], Role.ADMIN, None),
        (DAEMON, {88}, [FIELD], Role.ADMIN, None),
    ],
)
def test_the_first_grant_that_fits_holds_for_all_but_root_and_the_daemons_user(
    user_id, groups, grants, role, clients
):
    peer = Peer(user_id=user_id, user="anna", groups=groups)
    found = principal_of(
        peer, host="hut", own_user_id=DAEMON, group=GROUP, grants=grants, named_only=bool(grants)
    )
    assert (found.role, found.clients) == (role, clients)


def test_a_stranger_may_do_nothing():
    stranger = Principal(name="zoe@hut", role=Role.STRANGER)
    for route in ROUTES:
        with pytest.raises(RefusedError, match="may not ask this daemon anything") as refused:
            route.perform(None, stranger, {})  # type: ignore[arg-type]  # never asked
        assert refused.value.reason is Reason.NOT_PERMITTED


@pytest.mark.parametrize(
    ("rank", "open_now", "of_the_user", "admitted"),
    [
        (Rank.ANYBODY, 0, 0, True),
        (Rank.ANYBODY, 19, 7, True),
        (Rank.ANYBODY, 8, 8, False),
        (Rank.ANYBODY, 20, 0, False),
        (Rank.CONTROLLER, 20, 0, True),
        (Rank.CONTROLLER, 27, 7, True),
        (Rank.CONTROLLER, 28, 0, False),
        (Rank.TRUSTED, 31, 0, True),
        (Rank.TRUSTED, 31, 8, False),
        (Rank.TRUSTED, 32, 0, False),
    ],
)
def test_who_looks_gives_way_to_who_controls_and_these_to_root(
    rank, open_now, of_the_user, admitted
):
    assert is_admitted(rank, open_now=open_now, of_the_user=of_the_user) is admitted


def test_the_routes_are_sorted_named_once_and_all_described():
    order = [(route.path, route.method) for route in ROUTES]
    assert order == sorted(set(order))
    assert len(BY_NAME) == len(ROUTES)
    assert set(ANSWERS) == set(BY_NAME)
    assert all(route.path.startswith(BASE + "/") for route in ROUTES)
    assert {route.role for route in ROUTES if route.method == "POST"} == {Role.ADMIN}
    assert {route.role for route in ROUTES if route.method == "GET"} == {Role.VIEWER}


def test_who_may_only_look_changes_nothing():
    viewer = Principal(name="bert@hut", role=Role.VIEWER)
    for route in ROUTES:
        if route.role is not Role.ADMIN:
            continue
        with pytest.raises(RefusedError, match="bert@hut may look") as refused:
            route.perform(None, viewer, {})  # type: ignore[arg-type]  # never asked
        assert refused.value.reason is Reason.NOT_PERMITTED


@pytest.mark.parametrize("name", ["north", "ä b", "a/b", "%2F", "..", "?x=1#y"])
def test_a_name_in_a_path_is_read_as_it_was_written(name):
    method, target, body = request_of("known", {"delivery": name, "path": "S/a b&c"})
    assert body is None
    found = find_route(method, target.partition("?")[0])
    assert found is not None
    assert (found[0].name, found[1]) == ("known", {"delivery": name})


def test_a_request_has_what_was_given_and_nothing_else():
    assert request_of("pause", {"delivery": None, "for_seconds": 60.0, "reason": ""}) == (
        "POST", "/api/v1/pause", b'{"for_seconds": 60.0, "reason": ""}',
    )  # fmt: skip
    assert request_of("session", {"session_id": 7}) == ("GET", "/api/v1/sessions/7", None)
    assert request_of("files", {"limit": 5, "state": "failed"})[1] == (
        "/api/v1/files?state=failed&limit=5"
    )


def test_the_tables_of_the_document_are_those_of_the_code():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert rewritten(text) == text, "run: python -m sensordrop.control.reference docs/control.md"
    assert set(MEANINGS) == set(Exit)
    for reason, status in STATUS.items():
        assert f"`{reason.value}`" in text
        assert str(status) in text
    with pytest.raises(ValueError, match="routes"):
        rewritten("no tables here")


def test_the_document_tells_the_limits_that_hold():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"{admission.MOST_CONNECTIONS} connections" in text
    assert f"{admission.MOST_OF_A_USER} of one user" in text
    assert f"{admission.KEPT_FOR_CONTROLLERS} are kept for admins" in text
    assert f"{admission.KEPT_FOR_TRUSTED} more for root" in text
    assert handler.LARGEST_BODY == 1024 * 1024
    assert (visits.ASK_SECONDS, admission.MOST_AT_WORK) == (10.0, 4)
    assert admission.MOST_AT_WORK_FOR_ANYBODY == 3
