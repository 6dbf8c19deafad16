"""A season's folder: many files, little memory, and sweeps that cost no more than they must.

Minutes long, so it runs by `make test-scale`. Figures are printed; only what must hold on every
machine is asserted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "contract"), str(TESTS / "e2e")]

from daemon import RunningDaemon, Station, embedded_processes, sha256  # noqa: E402
from s3_servers import RcloneServer, closed_port  # noqa: E402

from sensordrop.adapters.finder import FindFinder, WalkFinder  # noqa: E402

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]

FOLDERS = 300
MANY = 300_000
FEW = MANY // 10
UPLOADED = 20_000
ONE_FOLDER = 100_000
STORED = {"uploaded", "skipped"}
WAIT_SECONDS = 600.0
MOST_GROWTH = 1.3
"""How much more memory ten times the files may take: next to none, but allocators vary."""
MIB = 1024 * 1024


@pytest.fixture
def place(tmp_path) -> Iterator[Path]:
    """Give a folder that is emptied at once: pytest would keep these trees for three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def show(capsys: pytest.CaptureFixture[str], figures: str) -> None:
    """Print figures past pytest's capturing."""
    with capsys.disabled():
        print("\n" + figures)  # noqa: T201 — these are what one runs it for


def make_sensors(drop: Path, files: int) -> None:
    """Make a few bytes for each sensor, under as many names as make up the number.

    The names of a folder are links to one file: to the daemon each is a file, and making them
    takes a tenth of the time.
    """
    each = files // FOLDERS
    for number in range(FOLDERS):
        folder = drop / f"{950000 + number}"
        folder.mkdir(parents=True)
        first = folder / "20250901_000000.WAV"
        first.write_bytes(b"sensor %d" % number)
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        for n in range(1, each):
            os.link(first.name, f"20250901_{n:06d}.WAV", src_dir_fd=at, dst_dir_fd=at)
        os.close(at)


def seconds_of_find(drop: Path) -> float:
    """Say how long the listing alone takes."""
    began = time.monotonic()
    subprocess.run(
        ["find", str(drop), "-printf", "%s/%T@/%C@/%i/%P\\0"],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began


def peak_bytes(pid: int) -> int:
    """Give the most memory that a process had so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def wait_for_sweeps(daemon: RunningDaemon, count: int) -> list[dict[str, Any]]:
    """Wait for so many ended sweeps and give what they said."""

    def ended() -> list[dict[str, Any]]:
        assert not daemon.logs("sweep_partial"), daemon.story()
        found = daemon.logs("sweep_finished")
        return found if len(found) >= count else []

    told: list[dict[str, Any]] = daemon.wait_for(
        ended, what=f"{count} sweeps", seconds=WAIT_SECONDS
    )
    return told


def books(station: Station) -> list[dict[str, Any]]:
    """Give a digest of all files' rows, with when and where each was last written."""
    return station.ledger.rows(
        "SELECT count(*) AS rows, count(DISTINCT path_digest) AS paths,"
        " sum(hashtextextended(ctid::text || xmin::text || f::text, 0)) AS digest"
        " FROM file_uploads AS f"
    )


def states(station: Station) -> dict[str, int]:
    rows = station.ledger.rows("SELECT state, count(*) AS n FROM file_uploads GROUP BY state")
    return {row["state"]: row["n"] for row in rows}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one run took."""

    files: int
    find_seconds: float
    first_seconds: float
    second_seconds: float
    gone_seconds: float
    peak: int
    peak_after_gone: int
    database_peak: int

    def __str__(self) -> str:
        return (
            f"{self.files:>9,} files: find alone {self.find_seconds:.1f} s,"
            f" first sweep {self.first_seconds:.1f} s, second {self.second_seconds:.1f} s,"
            f" all gone {self.gone_seconds:.1f} s;"
            f" most memory {self.peak / MIB:.0f} MiB, after all were gone"
            f" {self.peak_after_gone / MIB:.0f} MiB;"
            f" PostgreSQL's largest process {self.database_peak / MIB:.0f} MiB"
        )


def sweep_thrice(place: Path, files: int) -> Figures:
    """Sweep a folder twice and once more when it is empty, with a store that is never there."""
    server = RcloneServer(place / "never started")
    station = Station(place / f"{files}", server=server, database="embedded")
    try:
        station.configure(log_level="debug")
        station.delivery(
            endpoint_url=f"http://127.0.0.1:{closed_port()}",
            sweep_interval_seconds=5,
            vanish_share=1,  # nobody is here to confirm that all of them are gone
        )
        make_sensors(station.drop, files)
        find_seconds = seconds_of_find(station.drop)
        time.sleep(2)  # all must be settled
        daemon = station.start()
        first = wait_for_sweeps(daemon, 1)[0]
        assert (first["files"], first["new"], first["settling"]) == (files, files, 0)
        before = books(station)
        assert (before[0]["rows"], before[0]["paths"]) == (files, files)
        assert states(station) == {"pending": files}
        (session,) = station.ledger.sessions()

        seen = len(wait_for_sweeps(daemon, 1))
        second = wait_for_sweeps(daemon, seen + 1)[-1]
        assert second["files"] == files
        assert {second[key] for key in ("new", "changed", "gone", "settling")} == {0}
        assert books(station) == before, "a sweep that finds nothing new changed rows"
        assert [s["id"] for s in station.ledger.sessions()] == [session["id"]]
        peak = peak_bytes(daemon.pid)

        for folder in station.drop.iterdir():
            shutil.rmtree(folder)
        station.wait_for_session_end(1, seconds=WAIT_SECONDS)
        last = max(daemon.logs("sweep_finished"), key=lambda told: told["gone"])
        assert states(station) == {"vanished": files}
        assert station.ledger.miscounted() == []
        assert station.ledger.sessions_miscounted() == []
        figures = Figures(
            files=files,
            find_seconds=find_seconds,
            first_seconds=first["seconds"],
            second_seconds=second["seconds"],
            gone_seconds=last["seconds"],
            peak=peak,
            peak_after_gone=peak_bytes(daemon.pid),
            database_peak=max(peaks_of_database(station)),
        )
        assert daemon.stop() == 0, daemon.story()
        return figures
    finally:
        station.close()


def peaks_of_database(station: Station) -> list[int]:
    """Give the most memory that each of the embedded PostgreSQL's processes had, in bytes."""
    peaks = []
    for process in embedded_processes(station.state):
        if process.info["name"] == "postgres":
            # Its workers come and go; one that is ending has no memory to tell of.
            with suppress(FileNotFoundError, ProcessLookupError, ValueError):
                peaks.append(peak_bytes(process.pid))
    return peaks


def test_memory_stays_flat_and_a_second_sweep_does_nothing(place, capsys):
    few = sweep_thrice(place, FEW)
    many = sweep_thrice(place, MANY)
    show(capsys, f"{few}\n{many}")
    assert many.peak < few.peak * MOST_GROWTH
    assert many.peak_after_gone < few.peak_after_gone * MOST_GROWTH


def test_many_files_are_uploaded_each_once_in_one_session(place, capsys):
    server = RcloneServer(place / "s3")
    station = Station(place / "station", server=server, database="embedded")
    try:
        server.start()
        station.bucket.make()
        station.configure(log_level="debug")
        station.delivery(sweep_interval_seconds=5, max_workers=15)
        digests = {}
        for number in range(UPLOADED):
            path = f"{950000 + number % FOLDERS}/20250901_{number:06d}.WAV"
            content = b"%d" % number
            digests[f"C1/{path}"] = sha256(content)
            file = station.drop / path
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        began = time.monotonic()
        daemon = station.start()
        station.wait_for(
            lambda: {*states(station)} <= STORED and sum(states(station).values()) == UPLOADED,
            what="all files stored",
            seconds=WAIT_SECONDS,
        )
        seconds = time.monotonic() - began
        station.wait_for_session_end(1)
        swept = len(daemon.logs("sweep_finished"))
        last = wait_for_sweeps(daemon, swept + 1)[-1]
        assert (last["files"], last["new"], last["changed"]) == (UPLOADED, 0, 0)
        (session,) = station.ledger.sessions()
        assert session["state"] == "ended"
        assert session["files_total"] == UPLOADED
        # rclone may answer 500 to a file that is among the first of its folder, and keep it all
        # the same; the next attempt finds it there.
        assert session["files_skipped"] == UPLOADED - session["files_uploaded"]
        (noted,) = station.ledger.rows(
            "SELECT count(DISTINCT upload_id) AS files FROM upload_failures"
        )
        assert session["files_skipped"] <= noted["files"]
        show(
            capsys,
            f"{UPLOADED:,} files uploaded in {seconds:.0f} s, {UPLOADED / seconds:.0f} files/s;"
            f" most memory {peak_bytes(daemon.pid) / MIB:.0f} MiB",
        )
        assert daemon.stop() == 0, daemon.story()
        assert_all_stored(server.folder / "objects" / station.bucket.name, digests)
    finally:
        station.close()
        server.kill()


def assert_all_stored(bucket: Path, digests: dict[str, str]) -> None:
    """Assert that the bucket, kept as plain files, holds exactly these."""
    found = {
        str(file.relative_to(bucket)): sha256(file.read_bytes())
        for file in bucket.rglob("*")
        if file.is_file()
    }
    assert len(found) == len(digests)
    assert found == digests


@pytest.mark.parametrize("make_finder", [FindFinder, WalkFinder], ids=["find", "walk"])
def test_a_hundred_thousand_files_in_one_folder_are_listed(place, make_finder):
    for number in range(ONE_FOLDER):
        os.close(os.open(place / f"{number:040}.wav", os.O_CREAT | os.O_WRONLY))
    finder = make_finder()
    found = sum(
        chunk.entries for chunk in finder.list(str(place), threading.Event(), lambda _: None)
    )
    assert finder.report.complete, finder.report.problem
    assert found == finder.report.files == ONE_FOLDER
