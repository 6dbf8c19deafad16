"""What happens to a dropped card, seen from outside: the real daemon, ledger and S3 server."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from between import GoBetween, Wire
from daemon import QUIET_SECONDS, age, drop_files, sha256, under_prefix

from sensordrop.core.keys import path_text

WAV = b"RIFF" + bytes(range(256)) * 300
JPG = b"\xff\xd8\xff" + b"a picture " * 500
MP4 = b"\0\0\0\x18ftypmp42" + b"a film " * 900

CARD = {
    "950349/20250909_092000.WAV": WAV,
    "950349/20250909_093000.WAV": WAV[::-1],
    "950349/CONFIG.TXT": b"Device ID : 950349\n",
    "cam1/DCIM/100RECNX/IMG_0001.JPG": JPG,
    "cam1/DCIM/101RECNX/IMG_0001.JPG": JPG[::-1],
    "cam1/DCIM/101RECNX/IMG_0002.MP4": MP4,
    "cam2/empty.wav": b"",
    "in the root.txt": b"who put me here\n",
}

JUNK = {
    "950349/System Volume Information/IndexerVolumeGuid": b"junk",
    "950349/.Trashes/501/x.WAV": b"junk",
    "cam1/DCIM/100RECNX/._IMG_0001.JPG": b"junk",
    ".DS_Store": b"junk",
    "cam1/Thumbs.db": b"junk",
}


@pytest.fixture(params=["moto", "rclone"])
def either_station(request):
    """Give a station on each kind of S3 server in turn."""
    name = "station" if request.param == "moto" else "rclone_station"
    return request.getfixturevalue(name)


# --- the main job -------------------------------------------------------------------------


def test_a_dropped_card_arrives_byte_for_byte(either_station):
    station = either_station
    before = drop_files(station.drop, {path: CARD[path] for path in list(CARD)[:3]})
    station.start()
    station.wait_for_states(dict.fromkeys(before, "uploaded"))
    whole = drop_files(station.drop, CARD)  # the rest is dropped while the daemon watches
    station.wait_for_states(dict.fromkeys(whole, "uploaded"))
    assert station.bucket.digests() == under_prefix(whole)
    rows = {row["path"]: row for row in station.ledger.uploads()}
    assert {path: row["digest"] for path, row in rows.items() if row["is_current"]} == whole
    assert rows["950349/CONFIG.TXT"]["sensor"] == "950349"
    assert rows["cam1/DCIM/100RECNX/IMG_0001.JPG"]["sensor"] == "cam1"
    assert not rows["in the root.txt"]["sensor"]
    assert [rows[path]["kind"] for path in list(CARD)[1:6]] == [
        "audio",
        "sidecar",
        "image",
        "image",
        "video",
    ]
    assert {path: (station.drop / path).read_bytes() for path in CARD} == CARD


def test_junk_is_listed_with_its_reason_counted_and_not_stored(station):
    digests = drop_files(station.drop, CARD)
    drop_files(station.drop, JUNK)
    (station.drop / "cam1" / "link.JPG").symlink_to("/etc/hostname")
    os.mkfifo(station.drop / "cam1" / "pipe.wav")
    station.delivery(exclude=["*.bak"])
    drop_files(station.drop, {"950349/old.bak": b"not wanted"})
    station.start()
    station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    station.wait_for_session_end()
    assert station.bucket.digests() == under_prefix(digests)
    assert station.ledger.ignored() == {
        **dict.fromkeys(JUNK, "junk"),
        "cam1/link.JPG": "symbolic link",
        "cam1/pipe.wav": "not a regular file",
        "950349/old.bak": "excluded",
    }
    counts = station.delivery_status()["counts"]
    assert (counts["uploaded"], counts["ignored"]) == (len(CARD), len(JUNK) + 3)


def test_status_json_has_exactly_the_promised_keys(station):
    digests = drop_files(station.drop, CARD)
    with GoBetween(station.server.endpoint_url) as between:
        between.gate.clear()
        station.configure(station="highlands")
        station.delivery(
            endpoint_url=between.endpoint_url, client="Acme", project="Owls", cycle="C1"
        )
        station.delivery("other", local_directory=str(station.folder / "away"), s3_prefix="C2")
        station.start()
        station.wait_for(lambda: between.waiting == 4, what="uploads at the gate")
        station.wait_for_published("watching")
        station.wait_for_published("offline", name="other")
        status = station.status_json()
        between.gate.set()
        station.wait_for_session_end()
    assert set(status) == {"version", "station", "deliveries", "breakers", "configuration"}
    assert status["station"] == "highlands"
    card, other = status["deliveries"]
    assert (card["name"], other["name"]) == ("card", "other")
    keys = {"name", "client", "project", "cycle", "state", "reason", "counts", "bytes", "session"}
    keys |= {"mismatches", "progress", "daemon_alive", "letters"}
    states = {
        "settling", "pending", "uploading", "uploaded", "skipped", "failed", "superseded",
        "vanished", "ignored",
    }  # fmt: skip
    for delivery in status["deliveries"]:
        assert set(delivery) == keys
        assert set(delivery["counts"]) == states
        assert set(delivery["bytes"]) == {"pending", "uploaded"}
    assert (card["client"], card["project"], card["cycle"]) == ("Acme", "Owls", "C1")
    assert (card["state"], card["reason"]) == ("watching", None)
    assert set(card["session"]) == {"id", "started_at"}
    assert card["counts"]["pending"] + card["counts"]["uploading"] == len(CARD)
    assert card["bytes"] == {"pending": sum(map(len, CARD.values())), "uploaded": 0}
    assert (other["state"], other["session"]) == ("offline", None)
    assert str(station.folder / "away") in other["reason"]
    after = station.delivery_status()
    assert after["counts"] == {**dict.fromkeys(states, 0), "uploaded": len(digests)}
    assert after["bytes"] == {"pending": 0, "uploaded": sum(map(len, CARD.values()))}
    assert after["session"] is None


def test_the_portable_walk_does_the_same_job(station):
    digests = drop_files(station.drop, CARD)
    drop_files(station.drop, JUNK)
    age(station.drop)
    station.delivery(use_find="no")
    station.start()
    station.wait_for_session_end()
    assert station.ledger.states() == dict.fromkeys(digests, "uploaded")
    assert station.bucket.digests() == under_prefix(digests)
    assert station.ledger.ignored() == dict.fromkeys(JUNK, "junk")


# --- sessions -----------------------------------------------------------------------------


def test_a_session_ends_with_counts_that_are_its_files_and_a_quiet_restart_opens_none(station):
    digests = drop_files(station.drop, CARD)
    station.bucket.put("C1/cam2/empty.wav", b"")
    station.start()
    station.wait_for_session_end()
    (session,) = station.ledger.sessions()
    assert session["files_total"] == len(digests)
    assert (session["files_uploaded"], session["files_skipped"]) == (len(digests) - 1, 1)
    assert session["bytes_total"] == session["bytes_uploaded"] == sum(map(len, CARD.values()))
    assert session["ended_at"] > session["started_at"]
    assert {row["session_id"] for row in station.ledger.uploads()} == {session["id"]}
    ended = station.daemon.wait_for_log("session_ended", session=session["id"])
    assert (ended["files"], ended["uploaded"], ended["skipped"]) == (8, 7, 1)
    assert station.daemon.stop() == 0

    station.start()
    assert station.wait_for_sweep()["last_sweep_files"] == len(CARD)
    assert station.daemon.logs("session_opened") == []
    assert station.daemon.stop() == 0
    assert len(station.ledger.sessions()) == 1

    drop_files(station.drop, {"950349/late.WAV": b"RIFF late"})
    station.start()
    station.wait_for_session_end(sessions=2)
    assert station.ledger.sessions()[1]["files_total"] == 1


def test_two_deliveries_have_sessions_and_prefixes_of_their_own(station):
    second = station.folder / "drop2"
    one = drop_files(station.drop, CARD)
    two = drop_files(second, {path: content + b"!" for path, content in CARD.items()})
    station.delivery("second", local_directory=str(second), s3_prefix="C2", cycle="round two")
    station.start()
    station.wait_for_session_end(sessions=2)
    assert station.bucket.digests() == under_prefix(one) | under_prefix(two, "C2")
    assert {s["delivery"]: s["files_uploaded"] for s in station.ledger.sessions()} == {
        "card": len(one),
        "second": len(two),
    }
    assert station.delivery_status("second")["cycle"] == "round two"


def test_the_delivery_with_the_higher_priority_is_served_first(station):
    urgent = station.folder / "urgent"
    drop_files(station.drop, {f"s/{n:02}.wav": b"low %d" % n for n in range(20)})
    drop_files(urgent, {f"s/{n:02}.wav": b"high %d" % n for n in range(20)})
    with GoBetween(station.server.endpoint_url) as between:
        between.gate.clear()
        station.delivery("a-low", endpoint_url=between.endpoint_url, max_workers=2)
        (station.configuration.path / "conf.d" / "card.yaml").unlink()
        station.delivery(
            "z-urgent", endpoint_url=between.endpoint_url, max_workers=2, priority=5,
            local_directory=str(urgent), s3_prefix="C2",
        )  # fmt: skip
        station.start()
        station.wait_for(lambda: len(station.ledger.uploads()) == 40, what="all on the books")
        station.wait_for(lambda: between.waiting == 2, what="two uploads at the gate")
        between.gate.set()
        station.wait_for_session_end(sessions=2)
        order = ["high" if "/C2/" in path else "low" for path in between.puts(".wav")]
    assert len(order) == 40
    # What was at the gate already goes first; after that no low one before the last high one.
    assert order[2:22].count("high") >= 18, order


# --- settled files only -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pause", "pieces"),
    [
        pytest.param(0.5, 8, id="bytes every half second"),
        pytest.param(2.5 * QUIET_SECONDS, 3, id="pauses longer than the quiet time"),
    ],
)
def test_a_slow_writer_is_uploaded_once_whole_after_it_ended(station, pause, pieces):
    with GoBetween(station.server.endpoint_url) as between:
        station.delivery(endpoint_url=between.endpoint_url)
        station.start()
        station.wait_for_sweep()
        file = station.drop / "950349" / "slow.WAV"
        file.parent.mkdir()
        written = b""
        with file.open("wb", buffering=0) as writer:
            for number in range(pieces):
                piece = b"piece %d " % number * 1000
                writer.write(piece)
                written += piece
                time.sleep(pause)
            seen_by_then = [path for path in between.puts() if path.endswith(".WAV")]
        station.wait_for_states({"950349/slow.WAV": "uploaded"})
        station.wait_for_session_end()
        assert seen_by_then == [], "it was uploaded while it was still being written"
        assert len(between.puts("slow.WAV")) == 1
    (row,) = station.ledger.uploads()
    assert row["digest"] == sha256(written)
    assert station.bucket.digests() == {"C1/950349/slow.WAV": sha256(written)}


def test_a_file_appended_to_again_and_again_ends_with_its_final_content_current(station):
    station.start()
    station.wait_for_sweep()
    path = "gps/track.csv"
    file = station.drop / path
    file.parent.mkdir()
    versions = []
    for number in range(5):
        with file.open("ab") as writer:
            writer.write(b"fix number %d\n" % number)
        versions.append(file.read_bytes())
        if number:
            time.sleep(0.7 * QUIET_SECONDS)
        else:
            station.wait_for_states({path: "uploaded"})
    station.wait_for(
        lambda: (station.ledger.current(path) or {}).get("digest") == sha256(versions[-1]),
        what="the final content is current",
    )
    station.wait_for(
        lambda: all(s["state"] == "ended" for s in station.ledger.sessions()), what="sessions end"
    )
    *older, current = station.ledger.uploads(path)
    assert current["is_current"]
    assert current["state"] == "uploaded"
    assert current["conflict"], "the first version holds the plain key, so this one is beside it"
    assert {row["state"] for row in older} == {"superseded"}
    assert {row["digest"] for row in older} <= {sha256(version) for version in versions[:-1]}
    objects = station.bucket.digests()
    beside = f"C1/gps/track~{sha256(versions[-1])[:16]}.csv"
    assert current["object_key"] == beside
    assert objects[beside] == sha256(versions[-1])
    assert objects["C1/gps/track.csv"] == sha256(versions[0]), "the first version is kept"
    assert set(objects.values()) <= {sha256(version) for version in versions}
    counts = station.delivery_status()["counts"]
    assert (counts["uploaded"], counts["superseded"]) == (1, len(older))


@pytest.mark.parametrize("mebibytes", [3, 12], ids=["sent from memory", "streamed from disk"])
def test_a_file_that_changes_during_its_upload_is_never_recorded_with_the_old_content(
    station, mebibytes
):
    path = "950349/changing.WAV"
    old = os.urandom(1024 * 1024) * mebibytes
    new = old[:-5] + b"final"
    with Wire(station.server.endpoint_url) as wire:
        wire.bytes_per_second = 1024 * 1024 * mebibytes / 8
        station.delivery(endpoint_url=wire.endpoint_url)
        drop_files(station.drop, {path: old})
        station.start()
        station.wait_for(lambda: wire.sent_bytes > len(old) / 4, what="the upload is under way")
        with (station.drop / path).open("r+b") as writer:
            writer.seek(-5, os.SEEK_END)
            writer.write(b"final")
        assert wire.sent_bytes < len(old), "the file changed too late for this test"
        wire.bytes_per_second = None
        station.wait_for_states({path: "uploaded"})
        station.wait_for_session_end()
    assert [row["digest"] for row in station.ledger.uploads()] == [sha256(new)]
    (row,) = station.ledger.uploads()
    assert station.bucket.digests()[row["object_key"]] == sha256(new)
    assert station.ledger.failures(path) == [], "nothing was wrong with the file"
    assert row["attempts"] == 0


# --- how files come -----------------------------------------------------------------------


def test_files_that_are_renamed_into_the_folder_arrive(station):
    station.start()
    station.wait_for_sweep()
    (station.drop / "950349").mkdir()
    elsewhere = station.folder / "copying"
    digests = drop_files(elsewhere, {"moved.WAV": WAV, "other.part": JPG})
    (elsewhere / "moved.WAV").rename(station.drop / "950349" / "moved.WAV")
    (elsewhere / "other.part").rename(station.drop / "950349" / "other.JPG")
    station.wait_for_states({"950349/moved.WAV": "uploaded", "950349/other.JPG": "uploaded"})
    assert station.bucket.digests() == {
        "C1/950349/moved.WAV": digests["moved.WAV"],
        "C1/950349/other.JPG": digests["other.part"],
    }


def test_a_folder_of_2000_files_that_is_moved_in_at_once_arrives(rclone_station):
    station = rclone_station
    station.delivery(max_workers=8)
    station.start()
    station.wait_for_sweep()
    elsewhere = station.folder / "copying"
    files = {f"DCIM/{n // 500}EK113/EK{n:06}.JPG": b"picture %d" % n for n in range(2000)}
    digests = drop_files(elsewhere, files)
    elsewhere.rename(station.drop / "cam7")
    expected = {f"cam7/{path}": digest for path, digest in digests.items()}
    station.wait_for_states(dict.fromkeys(expected, "uploaded"), seconds=120)
    station.wait_for_session_end()
    assert {row["path"]: row["digest"] for row in station.ledger.uploads()} == expected
    assert station.bucket.keys() == sorted(under_prefix(expected))
    assert station.daemon.logs("session_opened") != []
    # A store that fails once (this one answers 500 when two files want the same new folder) is
    # told with the file it failed on as the example: a line about the store, not about files.
    lines = [line for line in station.daemon.logs() if line["event"] != "breaker_opened"]
    about_files = [line for line in lines if "EK000" in str(line)]
    assert about_files == [], "an operator does not want a line for each of 300,000 files"
    assert len(station.daemon.logs()) < 50


def test_files_in_folders_that_are_made_while_watching_arrive(station):
    station.start()
    station.wait_for_sweep()
    files = {f"deep/{'/'.join('abcdefgh'[:n])}/{n}.wav": b"%d" % n for n in range(1, 9)}
    digests = drop_files(station.drop, files)
    station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    time.sleep(QUIET_SECONDS)
    more = drop_files(station.drop, {path + ".txt": content for path, content in files.items()})
    station.wait_for_states(dict.fromkeys(digests | more, "uploaded"))
    assert station.bucket.digests() == under_prefix(digests | more)


# --- names --------------------------------------------------------------------------------

NAMES = [
    b"Audiomoth 1/ two  spaces .WAV",
    b"SM3/S_0+1_20160823.wav",
    b"100%25/a%2Fb%.wav",
    b"why?/#1.jpg",
    b"a&b=c;d,e@f:g!.wav",
    b"tab\there\rand.wav",
    b"bell\x07escape\x1b[31m\x7f.wav",
    b"C:\\DCIM\\100RECNX\\IMG_0001.JPG",
    b"not\\xffinvalid.wav",
    b"caf\xe9/\xff\xfe.wav",
    "Käuzchen/日本語/Ω≈ç.wav".encode(),
    b"x" * 251 + b".wav",
    b"-rf/--delete.wav",
    b".hidden/..data/....wav",
    b".config",
    b"~/*.wav",
]
NEWLINE = b"two\nlines.wav"


def test_every_name_that_linux_allows_arrives(either_station):
    station = either_station
    # moto answers 400 to a newline in a key; rclone, like AWS, takes it.
    names = NAMES if station.server.capabilities.conditional_put else [*NAMES, NEWLINE]
    root = os.fsencode(station.drop)
    station.start()
    station.wait_for_sweep()
    for number, name in enumerate(names):
        half = root if number % 2 else os.fsencode(station.folder) + b"/copying"
        file = half + b"/" + name
        os.makedirs(os.path.dirname(file), exist_ok=True)  # noqa: PTH103, PTH120 — names as bytes
        Path(os.fsdecode(file)).write_bytes(b"the content of " + name)
    # Half are found by the watcher, the other half by the sweep of a restart.
    texts = [path_text(name) for name in names]
    station.wait_for_states(dict.fromkeys(texts[1::2], "uploaded"))
    assert station.daemon.stop() == 0
    for entry in (station.folder / "copying").iterdir():
        entry.rename(station.drop / entry.name)
    station.start()
    station.wait_for_states(dict.fromkeys(texts, "uploaded"))
    expected = {path_text(name): sha256(b"the content of " + name) for name in names}
    assert station.bucket.digests() == under_prefix(expected)
    exact = {bytes(row["path_bytes"]): row["path"] for row in station.ledger.uploads()}
    assert exact == {name: path_text(name) for name in names}


def test_a_key_beyond_1024_bytes_fails_by_name_and_its_neighbours_arrive(station):
    folders = "/".join(["d" * 240] * 4)
    just = f"{folders}/{'a' * (1024 - len('C1//') - len(folders))}"
    over = f"{folders}/{'b' * (1025 - len('C1//') - len(folders))}"
    far = f"{folders}/{'é' * 100}.wav"
    digests = drop_files(station.drop, {just: b"fits", "950349/next.wav": b"fine"})
    drop_files(station.drop, {over: b"too long", far: b"far too long"})
    station.start()
    states = dict.fromkeys(digests, "uploaded") | {over: "failed", far: "failed"}
    station.wait_for_states(states)
    station.wait_for_session_end()
    for path in (over, far):
        (failure,) = station.ledger.failures(path)
        assert failure["error_class"] == "key-too-long"
        assert failure["final"]
        assert "1024" in failure["message"]
    assert station.bucket.digests() == under_prefix(digests)
    assert station.delivery_status()["counts"]["failed"] == 2
    (session,) = station.ledger.sessions()
    assert (session["files_uploaded"], session["files_failed"]) == (2, 2)


# --- nothing twice, nothing over ----------------------------------------------------------


def test_what_is_in_the_bucket_already_is_neither_sent_again_nor_overwritten(either_station):
    station = either_station
    files = {
        "s/same.wav": b"the same content",
        "s/longer.wav": b"other content, and longer",
        "s/equal size.wav": b"content of a fixed length: AAAA",
        "s/new.wav": b"not there yet",
    }
    digests = drop_files(station.drop, files)
    station.bucket.put("C1/s/same.wav", b"the same content")
    station.bucket.put("C1/s/longer.wav", b"was there first")
    station.bucket.put("C1/s/equal size.wav", b"content of a fixed length: BBBB")
    station.remember_objects()
    with GoBetween(station.server.endpoint_url) as between:
        station.delivery(endpoint_url=between.endpoint_url)
        station.start()
        states = dict.fromkeys(files, "uploaded") | {"s/same.wav": "skipped"}
        station.wait_for_states(states)
        assert between.puts("same.wav") == []
    rows = {row["path"]: row for row in station.ledger.uploads()}
    assert {path for path, row in rows.items() if row["conflict"]} == {
        "s/longer.wav",
        "s/equal size.wav",
    }
    assert station.bucket.digests() == {
        "C1/s/same.wav": digests["s/same.wav"],
        "C1/s/longer.wav": sha256(b"was there first"),
        f"C1/s/longer~{digests['s/longer.wav'][:16]}.wav": digests["s/longer.wav"],
        "C1/s/equal size.wav": sha256(b"content of a fixed length: BBBB"),
        f"C1/s/equal size~{digests['s/equal size.wav'][:16]}.wav": digests["s/equal size.wav"],
        "C1/s/new.wav": digests["s/new.wav"],
    }
    conflicts = {line["path"]: line["stored_as"] for line in station.daemon.logs("conflict")}
    assert conflicts == {path: rows[path]["object_key"] for path in conflicts}
    assert len(conflicts) == 2


def test_new_times_alone_upload_nothing(station):
    path = "950349/touched.WAV"
    digests = drop_files(station.drop, {path: WAV, "950349/other.WAV": JPG})
    with GoBetween(station.server.endpoint_url) as between:
        station.delivery(endpoint_url=between.endpoint_url)
        station.start()
        station.wait_for_session_end()
        before = station.delivery_status()["counts"]
        then = 1_600_000_000
        os.utime(station.drop / path, (then, then))
        station.daemon.stop()
        station.start()

        def noted() -> bool:
            row = station.ledger.current(path)
            return row is not None and row["mtime_ns"] == then * 10**9 and row["state"] != "pending"

        station.wait_for(noted, what="the new times are in the ledger")
        assert len(between.puts("touched.WAV")) == 1
    station.wait_for_session_end()
    assert len(station.ledger.uploads()) == 2
    assert station.delivery_status()["counts"] == before
    assert station.bucket.digests() == under_prefix(digests)


def test_same_size_and_same_time_but_other_bytes_is_a_new_version(station):
    """Size and modification time are equal, as with a card that was rewritten by a tool."""
    path = "950349/rewritten.WAV"
    drop_files(station.drop, {path: b"AAAA"})
    age(station.drop)
    station.start()
    station.wait_for_session_end()
    file = station.drop / path
    times = file.stat()
    file.write_bytes(b"BBBB")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    station.wait_for(
        lambda: (station.ledger.current(path) or {}).get("digest") == sha256(b"BBBB"),
        what="the new content is current",
    )
    station.wait_for_session_end(sessions=2)
    assert station.bucket.digests() == {
        f"C1/{path}": sha256(b"AAAA"),
        f"C1/950349/rewritten~{sha256(b'BBBB')[:16]}.WAV": sha256(b"BBBB"),
    }


# --- gone and back ------------------------------------------------------------------------


def test_a_file_deleted_before_its_upload_has_vanished_and_is_stored_when_it_is_back(station):
    digests = drop_files(station.drop, {"s/stays.wav": b"stays", "s/goes.wav": b"goes"})
    with Wire(station.server.endpoint_url) as wire:
        wire.cut()
        station.delivery(endpoint_url=wire.endpoint_url)
        station.start()
        station.wait_for_states(dict.fromkeys(digests, "pending"))
        station.wait_for_published("blocked")
        (station.drop / "s/goes.wav").unlink()
        wire.mend()
        station.wait_for_states({"s/stays.wav": "uploaded", "s/goes.wav": "vanished"})
        station.wait_for_session_end()
        (session,) = station.ledger.sessions()
        assert (session["files_uploaded"], session["files_vanished"]) == (1, 1)
        drop_files(station.drop, {"s/goes.wav": b"goes"})
        station.wait_for_states(dict.fromkeys(digests, "uploaded"))
        station.wait_for_session_end(sessions=2)
    assert station.bucket.digests() == under_prefix(digests)
    counts = station.delivery_status()["counts"]
    assert (counts["uploaded"], counts["vanished"]) == (2, 0)


def test_a_stored_file_that_is_deleted_from_the_folder_stays_stored(station):
    digests = drop_files(station.drop, {"s/one.wav": b"1", "s/two.wav": b"2"})
    station.start()
    station.wait_for_session_end()
    (station.drop / "s/one.wav").unlink()
    assert station.daemon.stop() == 0
    station.start()
    assert station.wait_for_sweep()["last_sweep_files"] == 1
    assert station.ledger.states() == dict.fromkeys(digests, "uploaded")
    assert station.bucket.digests() == under_prefix(digests)


def test_many_writers_at_once_arrive_whole(station):
    """Several cards are copied at the same time, each file in several writes."""
    station.start()
    station.wait_for_sweep()
    expected: dict[str, str] = {}

    def copy(card: int) -> None:
        for number in range(25):
            path = f"card{card}/{number:03}.wav"
            content = os.urandom(700) * 100
            file = station.drop / path
            file.parent.mkdir(exist_ok=True)
            with file.open("wb", buffering=0) as writer:
                for at in range(0, len(content), 20_000):
                    writer.write(content[at : at + 20_000])
                    time.sleep(0.002)
            expected[path] = sha256(content)

    cards = [threading.Thread(target=copy, args=(card,)) for card in range(4)]
    for card in cards:
        card.start()
    for card in cards:
        card.join()
    station.wait_for_states(dict.fromkeys(expected, "uploaded"))
    assert {r["path"]: r["digest"] for r in station.ledger.uploads() if r["is_current"]} == expected
    assert station.bucket.digests() == under_prefix(expected)
