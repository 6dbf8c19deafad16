"""What docker-compose.yml hands to others' programs, shown to those programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from prometheus_servers import needs_prometheus
from test_ledger import ask

from sensordrop.adapters.ledger.embedded import find_binaries

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "packaging" / "compose"
AWKWARD = "it's $HOME \"so\" \\ '; DROP ROLE x; --"


def test_grafana_is_let_in_with_its_password_and_no_other(database):
    words = dict(word.split("=", 1) for word in database.split())
    folder = next(each.folder for each in find_binaries() if (each.folder / "psql").exists())
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PGHOST": words["host"].replace("/self/", f"/{os.getpid()}/"),
        "PGPORT": words["port"],
        "POSTGRES_USER": words["user"],
        "POSTGRES_DB": words["dbname"],
        "GRAFANA_READER_PASSWORD": AWKWARD,
    }
    role = "SELECT rolcanlogin, rolsuper, rolcreaterole, rolpassword FROM pg_authid WHERE rolname = 'sensordrop_grafana'"
    try:
        for _ in range(2):  # in a database that has the role already, too
            done = subprocess.run(
                [COMPOSE / "grafana-reader.sh"], env=environment, capture_output=True, text=True,
                check=False, timeout=120,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (0, "")
            ((can_log_in, rules, makes_roles, password),) = ask(database, role)
            assert (can_log_in, rules, makes_roles) == (True, False, False)
            assert password.startswith("SCRAM-SHA-256$")
    finally:
        # Roles are the server's: what other tests see must be as sensordrop makes it.
        if ask(database, role):
            ask(database, "ALTER ROLE sensordrop_grafana NOLOGIN PASSWORD NULL")


@needs_prometheus
def test_prometheus_and_alertmanager_read_their_configuration():
    for arguments in (
        ["promtool", "check", "config", "--syntax-only", COMPOSE / "prometheus.yml"],
        ["amtool", "check-config", COMPOSE / "alertmanager.yml"],
    ):
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
