"""What is taken from a configuration with mistakes, and what never is: a ledger by chance."""

from __future__ import annotations

import pytest

from sensordrop.config import ConfigurationError, Problem, ProblemCode, salvage

URL = "postgresql://sensordrop@127.0.0.1/books"
WHOLE = f"station: north\ndatabase: {URL}\nstate_directory: /srv/state\n"
EMBEDDED = "station: north\nstate_directory: /srv/state\n"


@pytest.mark.parametrize(
    ("daemon", "environ", "where", "who"),
    [
        (WHOLE, {}, True, True),
        (EMBEDDED, {}, True, True),
        (WHOLE + "log_level: loud\n", {}, True, True),
        (EMBEDDED + "log_level: loud\n", {}, True, True),
        # A misspelt key may be any; it is not the database where that is named.
        (WHOLE + "stat_directory: /srv/other\n", {}, True, False),
        (EMBEDDED + f"databse: {URL}\n", {}, False, False),
        (EMBEDDED, {"SENSORDROP_DATABSE": URL}, False, False),
        (EMBEDDED, {"SENSORDROP_DELIVERY_MAX_WORKERS": "many"}, True, True),
        (WHOLE.replace("north", "[a, b]"), {}, True, False),
        (WHOLE.replace("postgresql", "mysql"), {}, False, False),
        (EMBEDDED.replace("/srv/state", "state"), {}, False, False),
        (WHOLE + "database: embedded\n", {}, False, False),
        (WHOLE + "  - :\n", {}, False, False),
        ("just words\n", {}, False, False),
    ],
)
def test_which_ledger_is_meant_is_only_said_where_it_can_be_known(
    tmp_path, daemon, environ, where, who
):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "wrong.yaml").write_text("max_workers: many\n")
    (tmp_path / "sensordrop.yaml").write_text(daemon)
    saved = salvage(tmp_path, environ=environ)
    assert (saved.where, saved.who) == (where, who)
    assert saved.problems
    if where and "database" in daemon:
        assert saved.daemon.database == URL


def test_a_ledger_named_on_the_command_line_is_the_one_that_is_meant(tmp_path):
    (tmp_path / "sensordrop.yaml").write_text("database: [\n")
    saved = salvage(tmp_path, environ={}, flags={"database": URL})
    assert (saved.where, saved.daemon.database) == (True, URL)
    with pytest.raises(ConfigurationError):
        salvage(tmp_path, environ={}, flags={"database": "mysql://books"})


def test_a_path_that_is_no_configuration_is_a_mistake_of_whoever_named_it(tmp_path):
    (tmp_path / "sensordrop.yaml").write_text(WHOLE)
    for path in (tmp_path / "nothing", tmp_path / "sensordrop.yaml"):
        with pytest.raises(ConfigurationError):
            salvage(path, environ={})


def test_mistakes_in_credentials_leave_the_ledger_unknown(tmp_path):
    (tmp_path / "sensordrop.yaml").write_text(EMBEDDED)
    stray = Problem(file="credential", key="databse_url", code=ProblemCode.UNKNOWN)
    saved = salvage(tmp_path, environ={}, more=(stray,))
    assert (saved.where, saved.who, saved.problems) == (False, False, (stray,))
