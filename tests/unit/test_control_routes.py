"""Who may ask for what, and how a request is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensordrop.control import server
from sensordrop.control.answers import ANSWERS
from sensordrop.control.client import request_of
from sensordrop.control.reference import rewritten
from sensordrop.control.refusal import STATUS, Reason, RefusedError
from sensordrop.control.routes import BASE, BY_NAME, ROUTES, find_route
from sensordrop.core.principal import Peer, Principal, Role, principal_of
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
    assert f"{server.MOST_CONNECTIONS} connections" in text
    assert f"{server.MOST_OF_A_USER} of one user" in text
    assert server.LARGEST_BODY == 1024 * 1024
    assert (server.ASK_SECONDS, server.MOST_AT_WORK) == (10.0, 4)
