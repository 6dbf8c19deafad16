"""`sensordrop reload` and a daemon that was started with --local: its SIGHUP would mean "stop"."""

from __future__ import annotations

import os

from click.testing import CliRunner

from sensordrop.cli.reload import command
from sensordrop.local import local_folder


def test_a_local_daemon_is_never_signalled_and_it_is_said_why(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "kill", lambda *_: pytest_fail())
    folder = local_folder(tmp_path)
    folder.make()
    folder.state.mkdir()
    (folder.state / "daemon.lock").write_text(str(os.getpid()))
    for named in (("--local", str(tmp_path)), ("--state-directory", str(folder.state))):
        done = CliRunner().invoke(command, list(named))
        assert done.exit_code == 2, done.output
        assert f"sensordropd --local {tmp_path} has no configuration to read again" in done.output


def pytest_fail() -> None:
    raise AssertionError("somebody was signalled")
