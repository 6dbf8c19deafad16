"""Writes log events into systemd's journal with their facts as fields of their own.

One datagram per event in the journal's native protocol, which systemd documents as stable. So
`journalctl DELIVERY=highlands-c2 -p warning` answers without reading any text.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sensordrop.core.terminal import printable

with suppress(ModuleNotFoundError):  # Windows has none, and no journal
    import fcntl

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "sensordropd"
LONGEST_FIELD_NAME = 64
"""journald drops fields with longer names (systemd.journal-fields(7))."""

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Levels as syslog priorities (sd-daemon(3))."""

MESSAGE_IDS = {
    "daemon_started": "5d0f6c64b2a9470e8a5d3c0a1d6f7b01",
    "predecessor_crashed": "5d0f6c64b2a9470e8a5d3c0a1d6f7b02",
    "ledger_unavailable": "5d0f6c64b2a9470e8a5d3c0a1d6f7b03",
    "breaker_opened": "5d0f6c64b2a9470e8a5d3c0a1d6f7b04",
    "file_quarantined": "5d0f6c64b2a9470e8a5d3c0a1d6f7b05",
    "delivery_offline": "5d0f6c64b2a9470e8a5d3c0a1d6f7b06",
    "object_missing": "5d0f6c64b2a9470e8a5d3c0a1d6f7b07",
    "object_different": "5d0f6c64b2a9470e8a5d3c0a1d6f7b08",
    "sweep_partial": "5d0f6c64b2a9470e8a5d3c0a1d6f7b09",
    "watch_failed": "5d0f6c64b2a9470e8a5d3c0a1d6f7b0a",
    "service_failed": "5d0f6c64b2a9470e8a5d3c0a1d6f7b0b",
    "service_silent": "5d0f6c64b2a9470e8a5d3c0a1d6f7b0c",
    "conflict": "5d0f6c64b2a9470e8a5d3c0a1d6f7b0d",
    "session_ended": "5d0f6c64b2a9470e8a5d3c0a1d6f7b0e",
    "predecessor_killed": "5d0f6c64b2a9470e8a5d3c0a1d6f7b20",
    "delivery_halted": "5d0f6c64b2a9470e8a5d3c0a1d6f7b21",
    "configuration_reloaded": "5d0f6c64b2a9470e8a5d3c0a1d6f7b22",
    "configuration_refused": "5d0f6c64b2a9470e8a5d3c0a1d6f7b23",
    "letter_failed": "5d0f6c64b2a9470e8a5d3c0a1d6f7b30",
    "files_taken_away": "5d0f6c64b2a9470e8a5d3c0a1d6f7b40",
    "taking_refused": "5d0f6c64b2a9470e8a5d3c0a1d6f7b41",
    "taking_failed": "5d0f6c64b2a9470e8a5d3c0a1d6f7b42",
}
"""What an alert may be built on, whatever the words of the message will be (docs/operating/systemd.md)."""

_OURS = {"event", "level"}
_NOT_IN_NAMES = re.compile("[^A-Z0-9_]")


def is_our_stderr(stream: str, descriptor: int) -> bool:
    """Tell whether a descriptor leads into the journal, as `JOURNAL_STREAM` says (systemd.exec(5))."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


def fields_of(event: Mapping[str, Any]) -> dict[str, str]:
    """Give the journal's fields of an event. Pure.

    Every fact is a field in capitals; `session_id` is SESSION. MESSAGE has all of them, for people.
    """
    name = str(event.get("event", ""))
    facts = {key: value for key, value in event.items() if key not in _OURS}
    words = [f"{key}={_shown(value)}" for key, value in facts.items() if key != "exception"]
    fields = {
        "MESSAGE": " ".join([name, *words]),
        "PRIORITY": str(PRIORITIES.get(str(event.get("level", "info")), 6)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "EVENT": name,
    }
    if name in MESSAGE_IDS:
        fields["MESSAGE_ID"] = MESSAGE_IDS[name]
    for key, value in facts.items():
        fields.setdefault(_field_name(key), _plain(value))
    return fields


def datagram(fields: Mapping[str, str]) -> bytes:
    """Write fields as the journal's socket takes them. Pure.

    A value with line ends in it is given by its length, so that no file name can add a field.
    """
    written = bytearray()
    for name, value in fields.items():
        content = value.encode("utf-8", "surrogateescape")
        if b"\n" in content:
            written += name.encode() + b"\n" + struct.pack("<Q", len(content)) + content + b"\n"
        else:
            written += name.encode() + b"=" + content + b"\n"
    return bytes(written)


class JournalLogger:
    """structlog's last step: sends what it is given, the datagram of one event. Thread-safe."""

    def __init__(self, address: str = SOCKET) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def msg(self, message: bytes) -> None:
        """Send an event. One that can't be sent goes to standard error, which systemd also keeps."""
        try:
            self._send(message)
        except OSError:
            sys.stderr.write(message.decode("utf-8", "backslashreplace").replace("\n", " ") + "\n")

    debug = info = warning = error = critical = exception = msg

    def _send(self, message: bytes) -> None:
        try:
            self._socket.sendto(message, self._address)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self._send_as_file(message)

    def _send_as_file(self, message: bytes) -> None:
        """Hand over a sealed file in memory: what does not fit into a datagram goes this way."""
        file = os.memfd_create("journal-entry", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(file), "wb") as writer:
                writer.write(message)
            all_seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, all_seals | fcntl.F_SEAL_SEAL)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", file))
            self._socket.sendmsg([b""], [rights], 0, self._address)
        finally:
            os.close(file)


def _field_name(key: str) -> str:
    """Give a key as a field's name: capitals, digits and underscores, a letter first."""
    name = "SESSION" if key == "session_id" else _NOT_IN_NAMES.sub("_", key.upper())
    return name.lstrip("_0123456789")[:LONGEST_FIELD_NAME] or "FACT"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _shown(value: object) -> str:
    text = printable(_plain(value))
    return f'"{text}"' if " " in text or not text else text
