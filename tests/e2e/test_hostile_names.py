"""File names that attack: terminals, log lines, tables, shells, pages and keys all just show them."""

from __future__ import annotations

import json
import os

from daemon import drop_files, under_prefix

from sensordrop.core.keys import path_text

NAMES = [
    b"\x1b]0;owned\x07\x1b[2J.wav",
    b'new\nline {"event": "forged"}.wav',
    b"car\rriage.wav",
    b"\xe2\x80\xae gpj.wav",  # turns the text around
    b"\xff\xfe.wav",
    b"back\\x41slash.wav",
    b"..\\..\\up.wav",
    b"%2e%2e%2f%2e%2e%2fup.wav",
    b"'; DROP TABLE file_uploads; --.wav",
    b"$(touch hit)`touch hit`.wav",
    b"<script>alert(1)</script>.wav",
    b"[bold red]markup[/].wav",
    b"-rf.wav",
    b"{0.__class__}%s%n.wav",
]
FOLDER = "950349"


def test_no_name_reaches_a_terminal_a_log_or_a_key_as_more_than_a_name(station, rclone):
    station.server = rclone  # moto can't keep a line feed in a key
    station.bucket.server = rclone
    station.bucket.make()
    station.delivery(retry_delay_seconds=0)
    names = [os.fsdecode(name) for name in NAMES]
    digests = drop_files(
        station.drop,
        {f"{FOLDER}/{name}": name.encode("utf-8", "surrogateescape") for name in names},
    )
    hopeless = f"{FOLDER}/" + "/".join(["\x1b[31m" + "x" * 200] * 5) + "/\x1b[5m.wav"
    drop_files(station.drop, {hopeless: b"its key is too long"})
    station.start()
    stored = {path_text(os.fsencode(path)): digest for path, digest in digests.items()}
    station.wait_for_states(dict.fromkeys(stored, "uploaded") | {hopeless: "failed"})
    station.wait_for_session_end()
    assert station.bucket.digests() == under_prefix(stored)
    assert len(station.ledger.uploads()) == len(NAMES) + 1

    told = [
        station.sensordrop(*words)
        for words in (
            ("status",),
            ("deliveries",),
            ("files",),
            ("files", "--state", "failed"),
            ("sessions",),
            ("session", "1"),
            ("why", hopeless),
            *(("why", path) for path in [*stored][:4]),
            ("verify",),
            ("retry", hopeless, "--delivery", "card"),
        )
    ]
    for done in told:
        assert "Traceback" not in done.stderr, done.stderr
        shown = (done.stdout + done.stderr).replace("\n", "")
        assert shown.isprintable(), (done.args, [c for c in shown if not c.isprintable()])
        assert done.returncode in (0, 1), done
    listed = json.loads(station.sensordrop("files", "--json").stdout)["files"]
    assert {line["path"] for line in listed} == {*stored, hopeless}
    for line in station.daemon.output().splitlines():
        assert json.loads(line)["event"] != "forged"
    assert not list(station.folder.rglob("hit"))
