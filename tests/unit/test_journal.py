"""Log events as fields of systemd's journal."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from sensordrop.adapters.journal import (
    MESSAGE_IDS,
    JournalLogger,
    datagram,
    fields_of,
    is_our_stderr,
)

DAEMON = Path(__file__).parents[2] / "daemon"


def read(message: bytes) -> dict[str, str]:
    """Read the native protocol as its documentation says, independently of the code under test."""
    fields = {}
    while message:
        line, _, rest = message.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            (length,) = struct.unpack("<Q", rest[:8])
            name, value = line, rest[8 : 8 + length]
            assert rest[8 + length : 9 + length] == b"\n"
            rest = rest[9 + length :]
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
        message = rest
    return fields


def test_facts_become_fields_that_journalctl_can_ask_for():
    fields = fields_of(
        {
            "event": "file_quarantined",
            "level": "error",
            "delivery": "highlands-c2",
            "path": "950349/a b.WAV",
            "session_id": 7,
        }
    )
    assert fields == {
        "MESSAGE": 'file_quarantined delivery=highlands-c2 path="950349/a b.WAV" session_id=7',
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "sensordropd",
        "EVENT": "file_quarantined",
        "MESSAGE_ID": MESSAGE_IDS["file_quarantined"],
        "DELIVERY": "highlands-c2",
        "PATH": "950349/a b.WAV",
        "SESSION": "7",
    }


@pytest.mark.parametrize("path", ["a\nPRIORITY=0", "a\nb=c\n", "\n", "a=b", "", "ü\u2028x"])
def test_no_file_name_can_add_a_field_and_every_one_comes_whole(path):
    event = {"event": "file_failed", "level": "warning", "path": path}
    fields = read(datagram(fields_of(event)))
    assert fields["PATH"] == path
    assert fields["PRIORITY"] == "4"
    assert "\n" not in fields["MESSAGE"]


def test_a_fact_can_neither_pose_as_a_field_of_ours_nor_have_a_name_that_is_refused():
    fields = fields_of(
        {"event": "e", "level": "info", "priority": "0", "_pid": 1, "9lives": 2, "é": 3}
    )
    assert fields["PRIORITY"] == "6"
    assert fields["PID"] == "1"
    assert all(re.fullmatch("[A-Z][A-Z0-9_]*", name) for name in fields)


def test_a_message_id_is_given_once_and_is_what_journalctl_expects():
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in MESSAGE_IDS.values())


def test_every_event_with_a_message_id_is_one_that_the_daemon_logs():
    sources = "".join(file.read_text() for file in DAEMON.rglob("*.py") if file.stem != "journal")
    assert [name for name in MESSAGE_IDS if f'"{name}"' not in sources] == []


def test_an_event_longer_than_a_datagram_arrives_as_a_sealed_file(tmp_path):
    address = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(address)
        long = "x" * 4_000_000
        JournalLogger(address).error(datagram({"MESSAGE": "m", "EXCEPTION": long}))
        message, files, _, _ = socket.recv_fds(journal, 64, 1)
        assert message == b""
        with os.fdopen(files[0], "rb") as file:
            file.seek(0)
            assert read(file.read()) == {"MESSAGE": "m", "EXCEPTION": long}


def test_without_a_journal_nothing_is_lost(tmp_path, capsys):
    JournalLogger(str(tmp_path / "nobody")).error(datagram({"MESSAGE": "disk full"}))
    assert "MESSAGE=disk full" in capsys.readouterr().err


def test_only_the_stream_that_systemd_named_is_the_journal(tmp_path):
    with (tmp_path / "log").open("w") as file:
        found = os.fstat(file.fileno())
        assert is_our_stderr(f"{found.st_dev}:{found.st_ino}", file.fileno())
        assert not is_our_stderr(f"{found.st_dev}:{found.st_ino + 1}", file.fileno())
        assert not is_our_stderr("", file.fileno())


def test_elsewhere_the_format_journal_writes_lines_with_priorities():
    code = (
        "from sensordrop.adapters.logs import configure; import structlog\n"
        "configure('journal', 'info'); structlog.get_logger().warning('conflict', path='a\\nb')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(DAEMON), "JOURNAL_STREAM": "1:1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.startswith("<4>event=conflict")
    assert done.stderr.count("\n") == 1


def test_the_documents_list_the_message_ids_as_they_are():
    text = (DAEMON.parent / "docs" / "operating" / "systemd.md").read_text()
    table = text.partition("<!-- message-ids:begin -->")[2].partition("<!-- message-ids:end")[0]
    told = re.findall(r"^\| `(\w+)` \| `([0-9a-f]+)` \|$", table, re.MULTILINE)
    assert told == list(MESSAGE_IDS.items())
