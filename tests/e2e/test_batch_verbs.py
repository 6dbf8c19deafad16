"""`retry` without a daemon, `pipeline`, and what a run looks like on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable
from contextlib import contextmanager

import pytest
from batch_hand import LINE, Hand
from between import GoBetween
from daemon import SCRIPTS, WAIT_SECONDS
from receivers import answer, receiving
from s3_servers import Reply, error_xml

BAD = "C2/950349/00001.WAV"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def refusing_store(by_hand: Hand, endpoint_url: str, refusals: Callable[[], int]):
    """A store that refuses one file so many times, and takes it then."""
    tries: list[str] = []

    def refuse(method: str, path: str) -> Reply | None:
        if method != "PUT" or not path.endswith(BAD):
            return None
        tries.append(path)
        if len(tries) > refusals():
            return None
        return Reply(status=400, body=error_xml("InvalidRequest", "not today"))

    with GoBetween(endpoint_url, refuse) as between:
        by_hand.write(endpoint_url=between.endpoint_url, retry_delay_seconds=0.1, times_to_retry=1)
        yield tries


def test_retry_does_the_work_itself_where_no_daemon_runs(hand, moto):
    stored = hand.record(3)
    with refusing_store(hand, moto.endpoint_url, lambda: 4) as tries:
        assert hand.upload().returncode == 1
        (session,) = hand.ledger.sessions()
        number = str(session["id"])
        assert len(tries) == 2, "the first try and one more"
        # How it is stored is known from the ledger: no file is named.
        done = hand.run("--session-id", number, "--auto-retry", "--retry-wait", "0", verb="retry")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Tried again: 1 file that failed before" in done.stdout
        assert "Round 1 of 3: 1 failed, tried again in 0 s" in done.stdout
        assert len(tries) == 5
        nothing = hand.run("--session-id", number, "--file", "950349/00001.WAV", verb="retry")
        assert nothing.returncode == 0, nothing.stdout + nothing.stderr
    assert hand.bucket.digests() == stored
    assert [row["asked_by"] for row in hand.ledger.rows("SELECT * FROM retries")]


def test_a_pipeline_goes_on_only_where_a_step_ended_well(hand, moto):
    stored = hand.record(2)
    refusals = [1_000]
    flags = ("--config", hand.file.name, "--rounds", "1", "--retry-wait", "0")
    with (
        refusing_store(hand, moto.endpoint_url, lambda: refusals[0]) as tries,
        receiving() as receiver,
    ):
        stopped = hand.run(*flags, verb="pipeline")
        assert stopped.returncode == 1, stopped.stdout + stopped.stderr
        assert "stopped at step retry: the endpoint was not told" in stopped.stdout
        assert "rejected: 1 file, such as 950349/00001.WAV" in stopped.stdout
        assert "Step 3" not in stopped.stdout
        refusals[0] = len(tries)
        done = hand.run(*flags, verb="pipeline")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No endpoint is configured: there is nobody to tell" in done.stdout

        hand.write(
            endpoint={"url": receiver.url, "allow_private_addresses": True},
            endpoint_url=moto.endpoint_url,
        )
        stored |= hand.record(1, first=10)
        receiver.always = answer(403)
        unheard = hand.run(*flags, verb="pipeline")
        assert unheard.returncode == 1, unheard.stdout + unheard.stderr
        assert "403" in unheard.stdout.partition("Step 3")[2], "the step says what was answered"
        assert "stopped at step trigger: the endpoint was not told" in unheard.stdout
        assert len(receiver.heard) == 2, "the run's own try, and the step's"
        receiver.always, receiver.script = answer(200), [answer(503)]
        again = hand.run(*flags, verb="pipeline")
        assert again.returncode == 1, "nothing is new, but that session is owed"
        assert "answered 503" in again.stdout.partition("Step 3")[2]
        owed = hand.run(*flags, verb="pipeline")
        assert owed.returncode == 0, owed.stdout + owed.stderr
        assert len({heard.key for heard in receiver.heard}) == 1
        nothing = hand.run(*flags, verb="pipeline")
        assert nothing.returncode == 0, nothing.stdout + nothing.stderr
        assert "Nothing was new: there is nothing to tell" in nothing.stdout
        stored |= hand.record(1, first=11)
        told = hand.run(*flags, verb="pipeline")
        assert told.returncode == 0, told.stdout + told.stderr
        last = receiver.heard[-1].told
        assert f"The endpoint was told of session {last['session_id']}" in told.stdout
        assert (last["total_files"], last["files_uploaded"]) == (1, 1)
    assert hand.bucket.digests() == stored


def on_a_terminal(
    by_hand: Hand,
    *arguments: str,
    watch: Callable[[str], None],
    columns: int = 200,
    term: str = "xterm-256color",
) -> tuple[int, str]:
    """Run a verb on a terminal of its own; give its exit code and all that it wrote there.

    `watch` is shown all that was written so far whenever something was.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [str(SCRIPTS / "sensordrop"), *arguments],
        env=by_hand.environment | {"TERM": term},
        cwd=by_hand.folder, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
    )  # fmt: skip
    os.close(theirs)
    written = bytearray()
    try:
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # EIO: nobody has the other end any more
                break
            if not piece:
                break
            written += piece
            watch(written.decode("utf-8", "replace"))
        process.wait(WAIT_SECONDS)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return process.returncode, written.decode("utf-8", "replace")


def test_a_terminal_shows_one_line_that_is_updated_in_place(hand, moto):
    stored = hand.record(40)
    stored |= hand.record(1, first=40, size=12_000_000)
    for number in range(3):
        hand.bucket.put(
            f"C2/950349/{number:05}.WAV", (hand.card / f"950349/{number:05}.WAV").read_bytes()
        )
    refused = "C2/950349/00039.WAV"

    def refuse(method: str, path: str) -> Reply | None:
        if method != "PUT" or not path.endswith(refused):
            return None
        return Reply(status=400, body=error_xml("InvalidRequest", "not today"))

    with GoBetween(moto.endpoint_url, refuse) as between:
        between.gate.clear()
        hand.write(endpoint_url=between.endpoint_url, times_to_retry=0)

        def watch(written: str) -> None:
            if "/41 |" in written:  # it was drawn once: the uploads may go on
                between.gate.set()

        code, written = on_a_terminal(hand, "upload", "--config", hand.file.name, watch=watch)
    assert code == 1, written
    assert hand.bucket.digests() == {k: v for k, v in stored.items() if k != refused}
    (session,) = hand.ledger.sessions()
    shown = ESCAPES.sub("", written)
    openings = [
        f"🆔 Session: {session['id']} (highlands)", "🔁 Auto-retry: off",
        f"📁 Directory: {hand.card}", "🔑 Profile: field", f"🪣 Bucket: {hand.bucket.name}/C2",
        "identity: ", "bucket: ", "📦 Previously uploaded files loaded: 0",
    ]  # fmt: skip
    places = [shown.find(words) for words in openings]
    assert -1 not in places, openings[places.index(-1)] + "\n" + shown
    assert places == sorted(places), "in the order of the old tool"
    assert "🔍 Found 41 files" in shown
    assert "❌ 950349/00039.WAV: rejected" in shown
    lines = [match.groups() for match in LINE.finditer(shown)]
    last = 0
    for percent, uploaded, total, skipped, size, successful, failed, _speed, eta in lines:
        finished = int(uploaded)
        assert total == "41"
        assert finished == int(skipped) + int(successful) + int(failed)
        assert last <= finished, "it never goes back"
        assert percent == f"{int(1000 * finished / 41) / 10:.1f}"
        assert float(size) <= 0.01
        assert (eta == "00:00") == (finished == 41)
        last = finished
    figures, speed = lines[-1], float(lines[-1][7])
    assert figures[:7] == ("100.0", "41", "41", "3", "0.01", "37", "1")
    assert speed > 0
    # Drawn where it stood before: what is between two states of it erases the line.
    assert "\x1b[2K" in written[written.index("/41 |") : written.rindex("/41 |")]
    assert "41 files: 37 uploaded (13.0 MiB), 3 skipped, 1 failed, 0 remaining" in shown
    assert "❌ rejected: 1 file, such as 950349/00039.WAV" in shown
    assert f"sensordrop retry --session-id {session['id']} --config highlands.json" in shown


def test_a_terminal_that_moves_no_cursor_gets_plain_lines_while_the_work_goes_on(hand, moto):
    hand.record(6)
    with GoBetween(moto.endpoint_url) as between:
        between.gate.clear()
        hand.write(endpoint_url=between.endpoint_url)

        def watch(written: str) -> None:
            if "Uploaded: 0/6" in written:
                between.gate.set()

        flags = ("upload", "--config", hand.file.name)
        code, written = on_a_terminal(hand, *flags, watch=watch, term="dumb", columns=30)
    assert code == 0, written
    assert "\x1b" not in written
    assert "Uploaded: 6/6" in written


@pytest.mark.parametrize("flag", ["--verbose", "--json"])
def test_a_reader_that_goes_away_stops_no_upload(hand, flag):
    stored = hand.record(30)
    flags = ("--config", hand.file.name, flag)
    process = subprocess.Popen(
        [str(SCRIPTS / "sensordrop"), "upload", *flags], env=hand.environment, cwd=hand.folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    try:
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
        process.wait(WAIT_SECONDS)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert (process.returncode, told) == (0, "")
    assert hand.bucket.digests() == stored


def test_events_hold_nothing_that_a_terminal_obeys_and_any_encoding_takes_them(hand):
    name = "gr\u00fc\u00df \x9b31m \x7f\u202e.WAV"
    folder = hand.card / "950349"
    folder.mkdir()
    (folder / name).write_bytes(b"dawn")
    done = hand.upload("--json", "--verbose", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.replace("\n", "").isprintable()
    assert done.stdout.isascii()
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["path"] for e in events if e["event"] == "file_stored"] == [f"950349/{name}"]
