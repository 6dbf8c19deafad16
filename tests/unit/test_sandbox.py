"""What the service's unit lets the daemon write, and the lines that let it write more."""

from __future__ import annotations

import pytest

from sensordrop.adapters import unit
from sensordrop.adapters.unit import sandbox_of_unit
from sensordrop.core.sandbox import Sandbox, drop_in

STRICT = Sandbox(
    user="sensordrop",
    protect_system="strict",
    protect_home="read-only",
    writable=("/var/lib/sensordrop", "/srv/cards", "/home/ann/drop"),
    read_only=("/srv/cards/archive",),
)


@pytest.mark.parametrize(
    ("sandbox", "path", "writable"),
    [
        (STRICT, "/srv/cards", True),
        (STRICT, "/srv/cards/950349", True),
        (STRICT, "/srv/cards/archive/2024", False),
        (STRICT, "/srv/cards2", False),
        (STRICT, "/srv", False),
        (STRICT, "/var/lib/sensordrop/done", True),
        (STRICT, "/home/ann/drop/C1", True),
        (STRICT, "/home/ann", False),
        (STRICT, "/proc/self", True),
        (Sandbox(), "/srv/cards", True),
        (Sandbox(protect_system="full"), "/srv/cards", True),
        (Sandbox(protect_system="full"), "/etc/cards", False),
        (Sandbox(protect_system="yes"), "/etc/cards", True),
        (Sandbox(protect_system="yes"), "/usr/share", False),
        (Sandbox(protect_home="yes"), "/home/ann/drop", False),
    ],
)
def test_the_nearest_folder_above_decides(sandbox, path, writable):
    assert sandbox.may_write(path) is writable


def test_a_drop_in_quotes_what_systemd_would_read_otherwise():
    assert drop_in(["/srv/cards", "/srv/done"]) == "[Service] ReadWritePaths=/srv/cards /srv/done"
    assert drop_in(["/srv/100% ours"]) == '[Service] ReadWritePaths="/srv/100%% ours"'


def told_by_systemctl(monkeypatch, tmp_path, said):
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n", encoding="utf-8")
    systemctl.chmod(0o755)
    monkeypatch.setattr(unit.shutil, "which", lambda _: str(systemctl))
    return sandbox_of_unit()


def test_what_systemd_says_is_understood(monkeypatch, tmp_path):
    said = (
        "LoadState=loaded\nUser=sensordrop\nProtectSystem=strict\nProtectHome=read-only\n"
        "SupplementaryGroups=cardreaders\nAmbientCapabilities=cap_lease\n"
        'ReadWritePaths=-/srv/cards "/srv/field data"\nReadOnlyPaths=\nInaccessiblePaths=/srv/x\n'
        "StateDirectory=sensordrop\nRuntimeDirectory=sensordrop\nCacheDirectory=\nLogsDirectory="
    )
    found = told_by_systemctl(monkeypatch, tmp_path, said)
    assert found == Sandbox(
        user="sensordrop",
        protect_system="strict",
        protect_home="read-only",
        writable=("/srv/cards", "/srv/field data", "/var/lib/sensordrop", "/run/sensordrop"),
        read_only=("/srv/x",),
        groups=["cardreaders"],
    )


@pytest.mark.parametrize(
    ("capabilities", "everything"),
    [("cap_lease", False), ("cap_dac_read_search cap_lease", True), ("cap_dac_override", True)],
)
def test_a_capability_that_opens_all_files_is_known(
    monkeypatch, tmp_path, capabilities, everything
):
    said = f"LoadState=loaded\nAmbientCapabilities={capabilities}"
    assert told_by_systemctl(monkeypatch, tmp_path, said).reads_everything is everything


@pytest.mark.parametrize("said", ["LoadState=not-found", "", "Failed to connect to bus"])
def test_where_there_is_no_unit_there_is_no_sandbox(monkeypatch, tmp_path, said):
    assert told_by_systemctl(monkeypatch, tmp_path, said) is None


def test_where_there_is_no_systemd_there_is_no_sandbox(monkeypatch):
    monkeypatch.setattr(unit.shutil, "which", lambda _: None)
    assert sandbox_of_unit() is None
