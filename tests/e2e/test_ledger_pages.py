"""What docs/operating/ledger.md and moving.md say, done step by step on a station that works.

Whether anything is sent for nothing is counted on the way to the store.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from between import GoBetween
from daemon import Station, age, drop_files, settle_accounts, under_prefix

from postgres_versions import MAJORS
from sensordrop.adapters.ledger.embedded import find_binaries

PAGES = Path(__file__).parents[2] / "docs" / "operating"
PROGRAMS = next(
    each.folder
    for each in find_binaries()
    if each.major == MAJORS[-1] and (each.folder / "pg_restore").exists()
)
MEBIBYTE = 1024 * 1024
CARD = {
    "950349/1.WAV": b"first recording",
    "950349/2.WAV": b"second recording",
    "950349/odd \xe4 +%.WAV": b"a name",
    "950349/empty.WAV": b"",
    "cam/long.MP4": bytes(range(256)) * (4 * 6 * 1024),  # sent in parts
}
LATER = {"950349/9.WAV": b"recorded after the backup"}
NEW = {"950349/10.WAV": b"recorded after the loss"}


@pytest.fixture
def between(moto):
    with GoBetween(moto.endpoint_url) as made:
        yield made


def stand_up(station: Station, between: GoBetween) -> Station:
    station.configure()
    station.delivery(endpoint_url=between.endpoint_url, multipart_threshold_bytes=5 * MEBIBYTE)
    return station


def store(station: Station, files: dict[str, bytes], sessions: int) -> None:
    """Drop files, and wait until they are stored and their session has ended."""
    running = station.has_daemon and station.daemon.running
    before = station.ledger.states() if running else {}
    drop_files(station.drop, files)
    age(station.drop)
    if not running:
        station.start()
    station.wait_for_states({**before, **dict.fromkeys(files, "uploaded")})
    station.wait_for_session_end(sessions)


def sent(between: GoBetween) -> list[str]:
    """Give the keys for which a body went by, whatever the store answered."""
    return [
        each.path.partition("/C1/")[2]
        for each in between.requests
        if each.method in ("PUT", "POST") and "/C1/" in each.path
    ]


def wait_until_all_have_ended(station: Station) -> None:
    """Wait until no session runs; how many there were is not the point."""
    station.wait_for(
        lambda: {each["state"] for each in station.ledger.sessions()} == {"ended"},
        what="all sessions have ended",
    )


def verified(station: Station) -> str:
    done = station.sensordrop("verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return str(json.loads(done.stdout)["verdict"])


# --- the programs that the page names -----------------------------------------------------


def on_the_page(page: str, program: str) -> list[str]:
    """Give the options that a page tells to call a program with, without what is this machine's."""
    text = re.sub(r"\\\n\s*", "", (PAGES / page).read_text(encoding="utf-8"))
    line = re.search(rf"sudo (?:-u postgres )?{program} (.*)", text)
    assert line is not None, f"{page} tells nothing of {program}"
    return [word for word in line.group(1).split() if word.startswith("--")]


def postgres(station: Station, program: str, *arguments: str, database: str = "postgres") -> None:
    url = urlsplit(station.database)
    environment = {
        "PATH": os.environ["PATH"],
        "PGHOST": parse_qs(url.query)["host"][0],
        "PGUSER": "sensordrop",
        "PGDATABASE": database,
    }
    done = subprocess.run(
        [PROGRAMS / program, *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def name_of_database(station: Station) -> str:
    return urlsplit(station.database).path.lstrip("/")


def tar(*arguments: str) -> None:
    done = subprocess.run(["tar", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


class Yours:
    """A PostgreSQL that somebody else runs."""

    not_sent_again = frozenset(LATER)

    def back_up(self, station: Station) -> None:
        name = name_of_database(station)
        options = on_the_page("ledger.md", "pg_dump")
        kept = [each for each in options if not each.startswith("--file=")]
        assert "--format=custom" in kept
        postgres(station, "pg_dump", *kept, f"--file={station.folder / 'ledger.dump'}", name)

    def lose(self, station: Station) -> None:
        name = name_of_database(station)
        postgres(station, "dropdb", "--if-exists", "--force", name)
        postgres(station, "createdb", "--owner", "sensordrop", name)

    def restore(self, station: Station) -> None:
        self.lose(station)
        name = name_of_database(station)
        options = on_the_page("ledger.md", "pg_restore")
        kept = [each for each in options if not each.startswith("--dbname=")]
        assert "--exit-on-error" in kept
        postgres(station, "pg_restore", *kept, f"--dbname={name}", str(station.folder / "ledger.dump"))  # fmt: skip


class Embedded:
    """The PostgreSQL that the daemon runs itself."""

    not_sent_again: frozenset[str] = frozenset()
    """Its copy is exact: it believes that it knows what is in the bucket."""

    def back_up(self, station: Station) -> None:
        assert station.daemon.stop() == 0
        options = on_the_page("ledger.md", "tar")
        assert options[:2] == ["--create", "--gzip"]
        archive, state = station.folder / "ledger.tar.gz", station.state
        tar("--create", "--gzip", f"--file={archive}", f"--directory={state.parent}", state.name)
        station.start()

    def lose(self, station: Station) -> None:
        (station.state / "postgresql").rename(station.folder / "lost")

    def restore(self, station: Station) -> None:
        station.state.rename(station.folder / "state.old")
        archive = station.folder / "ledger.tar.gz"
        tar("--extract", "--gzip", f"--file={archive}", f"--directory={station.folder}")


@pytest.fixture(params=["yours", "embedded"])
def kept(request, make_station, moto, between):
    """Give a station that has stored a card, with the hands that look after its ledger."""
    database = None if request.param == "yours" else "embedded"
    station = stand_up(make_station(moto, database=database), between)
    store(station, CARD, sessions=1)
    yield station, Yours() if database is None else Embedded()
    settle_accounts(station)


# --- the pages ----------------------------------------------------------------------------


def test_a_ledger_is_restored_from_its_backup_and_built_again_when_it_is_lost(kept, between):
    station, hands = kept
    hands.back_up(station)
    drop_files(station.drop, LATER)
    age(station.drop)
    (version,) = drop_files(station.drop, {"950349/1.WAV": b"rewritten on the card"}).values()
    station.wait_for(
        lambda: (
            station.ledger.states() == dict.fromkeys([*CARD, *LATER], "uploaded")
            and (station.ledger.current("950349/1.WAV") or {})["digest"] == version
        ),
        what="the new file and the new version are stored",
    )
    objects = station.bucket.digests()
    assert len(objects) == len(CARD) + 2, "the old version is kept beside the new one"
    assert station.daemon.stop() == 0

    hands.restore(station)
    between.requests.clear()
    station.start()
    later = {"950349/1.WAV": "skipped", "950349/9.WAV": "skipped"}
    station.wait_for_states({**dict.fromkeys(CARD, "uploaded"), **later})
    wait_until_all_have_ended(station)
    assert [each for each in sent(between) if each in hands.not_sent_again] == []
    assert station.bucket.digests() == objects, "nothing is doubled, nothing written over"
    assert verified(station) == "SAFE"
    reads = station.ledger.rows(
        "SELECT has_table_privilege('sensordrop_grafana', 'grafana.file_status', 'SELECT') AS may"
    )
    assert reads == [{"may": True}], "the dashboards' role may read again"
    assert station.daemon.stop() == 0

    hands.lose(station)
    between.requests.clear()
    between.listings.clear()  # no listing helps: what is asked is asked file by file
    station.start()
    skipped = dict.fromkeys([*CARD, *LATER], "skipped")
    station.wait_for_states(skipped)
    wait_until_all_have_ended(station)
    assert sent(between) == [], "nothing is sent that is there already"
    between.listings.set()
    assert station.bucket.digests() == objects, "nothing is doubled, nothing written over"
    assert verified(station) == "SAFE"
    drop_files(station.drop, NEW)
    age(station.drop)
    station.wait_for_states({**skipped, **dict.fromkeys(NEW, "uploaded")})
    assert sent(between) == list(NEW)


def test_a_station_goes_on_on_another_machine(make_station, moto, between):
    old = stand_up(make_station(moto, database="embedded"), between)
    store(old, CARD, sessions=1)
    assert old.daemon.stop() == 0
    drop_files(old.drop, LATER)  # waits: the old machine has ended

    new = make_station(moto, database="embedded", bucket=old.bucket.name)
    archive = old.folder / "station.tar.gz"
    tar("--create", "--gzip", f"--file={archive}", f"--directory={old.folder}", "etc", "state")
    shutil.rmtree(new.folder / "etc")
    tar("--extract", "--gzip", f"--file={archive}", f"--directory={new.folder}")
    shutil.rmtree(new.drop)
    shutil.copytree(old.drop, new.drop)  # with its times
    for file in (new.configuration.path / "sensordrop.yaml", *new.configuration.path.glob("*/*")):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(str(old.folder), str(new.folder)), encoding="utf-8")
    looked = new.sensordrop("doctor")
    assert looked.returncode == 0, looked.stdout

    between.requests.clear()
    new.start()
    new.wait_for_states(dict.fromkeys([*CARD, *LATER], "uploaded"))
    new.wait_for_session_end(2)
    assert sent(between) == list(LATER), "what was stored is not sent again"
    assert new.bucket.digests() == under_prefix(drop_files(new.folder / "same", {**CARD, **LATER}))
    (stations,) = new.ledger.rows("SELECT array_agg(name ORDER BY name) AS names FROM stations")
    assert stations["names"] == ["teststation"]
    assert verified(new) == "SAFE"
    settle_accounts(new)
