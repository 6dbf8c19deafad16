"""Whom `control_principals` names, and what is said where it can't be meant so."""

from __future__ import annotations

import json

import pytest

from sensordrop.config import ConfigurationError, load
from sensordrop.core.principal import Grant, Role

WHOLE = """
control_principals:
  - {user: anna, role: admin, clients: [Acme, Beta]}
  - {group: "1007", role: viewer, clients: all}
"""
DELIVERY = "local_directory: /drop/north\nbucket_name: recordings\nclient: Acme\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "north.yaml").write_text(DELIVERY)
    return tmp_path


def loaded(folder, text: str, **environ: str):
    (folder / "sensordrop.yaml").write_text(text)
    return load(folder, environ=environ)


def test_users_and_groups_are_read_in_their_order_and_shown_as_they_were_written(folder):
    configuration, _ = loaded(folder, WHOLE)
    assert configuration.daemon.control_principals == (
        Grant(user="anna", role=Role.ADMIN, clients=("Acme", "Beta")),
        Grant(group="1007", role=Role.VIEWER, clients=None),
    )
    shown = configuration.daemon.public_dict()["control_principals"]
    assert json.loads(json.dumps(shown)) == [
        {"user": "anna", "role": "admin", "clients": ["Acme", "Beta"]},
        {"group": "1007", "role": "viewer", "clients": "all"},
    ]
    again, _ = load(folder, environ={"SENSORDROP_CONTROL_PRINCIPALS": json.dumps(shown)})
    assert again.daemon.control_principals == configuration.daemon.control_principals
    assert loaded(folder, "")[0].daemon.control_principals == ()
    assert loaded(folder, "control_principals: []")[0].daemon.control_principals == ()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("anna", "mappings of user or group"),
        ("[anna]", "mappings of user or group"),
        ("[{role: viewer, clients: all}]", "either a user or a group"),
        ("[{user: a, group: b, role: viewer, clients: all}]", "either a user or a group"),
        ("[{user: a, clients: all}]", "the role of a is viewer or admin"),
        ("[{user: a, role: [viewer], clients: all}]", "the role of a is viewer or admin"),
        ("[{user: a, role: stranger, clients: all}]", "the role of a is viewer or admin"),
        ("[{user: a, role: viewer}]", "which clients a may see"),
        ("[{user: a, role: viewer, clients: Acme}]", "a list of 1 to 100 names, or all"),
        ("[{user: a, role: viewer, clients: []}]", "a list of 1 to 100 names, or all"),
        ("[{user: a, role: viewer, clients: ['']}]", "1 to 200 characters"),
        ("[{user: a, role: viewer, client: all}]", "did you mean 'clients'?"),
        ("[{user: 'a b', role: viewer, clients: all}]", "the name of a user, or its number"),
        ("[{user: a, role: viewer, clients: [x]}, {user: a, role: admin, clients: all}]",
         "user a stands there twice"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_a_mistake_that_says_what_to_write(folder, written, said):
    with pytest.raises(ConfigurationError) as refused:
        loaded(folder, f"control_principals: {written}")
    (problem,) = refused.value.problems
    assert (problem.file, problem.key) == ("sensordrop.yaml", "control_principals")
    assert said in str(problem)


def test_a_client_that_no_delivery_is_of_is_told(folder):
    _, notices = loaded(folder, WHOLE.replace("Acme", "Acmee"))
    begins = "sensordrop.yaml: control_principals: user anna may see the client"
    assert [str(notice) for notice in notices] == [
        f"{begins} 'Acmee', and no delivery is of it: did you mean 'Acme'?",
        f"{begins} 'Beta', and no delivery is of it",
    ]
