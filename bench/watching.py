"""The rows about watching: how soon a file is stored, a flood of files, and what idling costs."""

from __future__ import annotations

import hashlib
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from figures import Better, Goal, Row, make_row, percentile
from plan import KIB, MIB, PEAK, Bench, about_store
from station import STORED, Station, StationError, new_station
from trees import Tree, tree, wait_until_settled

LATENCY_LOOK_SECONDS = 0.001
"""How often the ledger is asked for a single file: the error of its latency."""
PAUSE_SECONDS = 0.3
"""Longest pause between two single files; each is a random share, so that no rhythm is met."""
NO_TIMER_SECONDS = 604_800
"""`sweep_interval_seconds` where the timer must not help: a week."""
FLOOD_SECONDS = 1800.0
"""After this a file that was moved in counts as never stored."""
REST_SECONDS = 20.0
"""How long the daemon may tidy up before its idling is measured."""
FOLDERS_IN_FOLDER = 100

STORED_FILE = (
    "SELECT 1 FROM file_uploads WHERE path_digest = %s AND is_current AND state = 'uploaded'"
)


@contextmanager
def _watching(bench: Bench, name: str, drop: Path, **keys: object) -> Iterator[Station]:
    """Give a station whose daemon has swept its folder and watches it now."""
    assert bench.sink is not None
    bench.sink.forget()
    with new_station(bench.work, name, drop, bench.sink.near, max_workers=16, **keys) as station:
        station.start()
        station.wait_for(lambda: station.told("sweep_finished"), "the first sweep")
        yield station


@contextmanager
def _empty_drop(bench: Bench, name: str) -> Iterator[Path]:
    drop = bench.work / "drops" / name
    shutil.rmtree(drop, ignore_errors=True)
    drop.mkdir(parents=True)
    try:
        yield drop
    finally:
        shutil.rmtree(drop)


def single(bench: Bench) -> list[Row]:
    """Measure how long one file takes from its writer's close to its committed row."""
    assert bench.sink is not None
    dice = random.Random(1)  # noqa: S311 — to be repeated
    seconds = []
    with _empty_drop(bench, "single") as drop:
        (drop / "950000").mkdir()
        with _watching(bench, "single", drop) as station, station.ledger() as connection:
            with connection.cursor() as cursor:
                cursor.execute("SELECT min(id) FROM deliveries")
                for number in range(bench.sizes.single_files):
                    path = f"950000/20250901_{number:06d}.WAV"
                    digest = hashlib.sha256(path.encode()).digest()[:16]
                    (drop / path).write_bytes(dice.randbytes(64 * KIB))
                    closed = time.monotonic()

                    def stored(digest: bytes = digest) -> bool:
                        cursor.execute(STORED_FILE, (digest,))
                        return cursor.rowcount > 0

                    station.wait_for(stored, path, look_seconds=LATENCY_LOOK_SECONDS)
                    seconds.append(time.monotonic() - closed)
                    time.sleep(PAUSE_SECONDS * dice.random())
            peak = station.peak_bytes() / MIB
    title = f"{len(seconds):,} single files, close to committed"
    rows = []
    for share, must, reach in ((0.5, 150.0, 40.0), (0.99, 1000.0, 200.0)):
        rows.append(
            make_row(
                measure=f"{title}: p{share * 100:.0f}", group="single", unit="ms",
                ours=[percentile(seconds, share) * 1000],
                goal=Goal(better=Better.LESS, must=must, reach=reach, of="ours", unit="ms"),
            )
        )  # fmt: skip
    rows.append(
        make_row(measure=f"{title}: peak memory of the daemon", group="single", unit="MiB",
                 ours=[peak], goal=PEAK)
    )  # fmt: skip
    return about_store(rows, bench.sink.near, max_workers=16)


def moved(bench: Bench) -> list[Row]:
    """Move a full folder into the watched one: every file must be stored without the timer."""
    assert bench.sink is not None
    spec = Tree(files=bench.sizes.moved_files, size_bytes=KIB, folders=100, seed=2)
    folder = tree(bench.work, spec)
    wait_until_settled(folder)
    title = f"{spec.files:,} files moved in at once while watching"
    found, note = spec.files, ""
    with (
        _empty_drop(bench, "moved") as drop,
        _watching(bench, "moved", drop, sweep_interval_seconds=NO_TIMER_SECONDS) as station,
        station.ledger() as connection,
        connection.cursor() as cursor,
    ):

        def stored() -> int:
            cursor.execute(STORED)
            ((count,),) = cursor.fetchall()
            return int(count)

        began = time.monotonic()
        folder.rename(drop / "card")
        try:
            station.wait_for(lambda: stored() >= spec.files, "all files", seconds=FLOOD_SECONDS)
        except StationError as error:
            found, note = stored(), str(error).splitlines()[0]
        finally:
            (drop / "card").rename(folder)  # it is used again
        seconds = time.monotonic() - began
        peak = station.peak_bytes() / MIB
        sweeps = sorted({str(told["why"]) for told in station.told("sweep_finished")} - {"start"})
    found = min(found, bench.sink.objects())
    why = f"the sweeps that took part were begun by: {', '.join(sweeps)}" if sweeps else ""
    row = make_row(
        measure=f"{title}: stored without the timer sweep", group="moved", unit="files",
        ours=[found], note="; ".join(words for words in (note, why) if words),
    )  # fmt: skip
    rows = [
        replace(row, must=f"all {spec.files:,}", met=found == spec.files),
        make_row(measure=f"{title}: until all are stored", group="moved", unit="s",
                 ours=[seconds]),
        make_row(measure=f"{title}: peak memory of the daemon", group="moved", unit="MiB",
                 ours=[peak], goal=PEAK),
    ]  # fmt: skip
    return about_store(
        rows, bench.sink.near, max_workers=16, sweep_interval_seconds=NO_TIMER_SECONDS
    )


def idle(bench: Bench) -> list[Row]:
    """Measure what the daemon and its PostgreSQL take while nothing happens."""
    assert bench.sink is not None
    with _empty_drop(bench, "idle") as drop:
        for number in range(bench.sizes.watched_folders // FOLDERS_IN_FOLDER):
            for inner in range(FOLDERS_IN_FOLDER - 1):
                (drop / f"{950000 + number}" / f"1{inner:02d}MEDIA").mkdir(parents=True)
        with _watching(bench, "idle", drop) as station:
            time.sleep(REST_SECONDS)
            began, before, before_daemon = time.monotonic(), station.cpu(), station.daemon_cpu()
            time.sleep(bench.sizes.idle_seconds)
            seconds = time.monotonic() - began
            share = 100 * (station.cpu() - before) / seconds
            share_daemon = 100 * (station.daemon_cpu() - before_daemon) / seconds
            peak = station.peak_bytes() / MIB
    title = f"idle, {bench.sizes.watched_folders:,} folders watched"
    rows = [
        make_row(
            measure=f"{title}: CPU of daemon and PostgreSQL", group="idle", unit="% of a core",
            ours=[share],
            goal=Goal(better=Better.LESS, must=0.5, reach=0.05, of="ours", unit="%"),
            note=f"the daemon alone: {share_daemon:.2f} %; over {seconds:.0f} s",
        ),
        make_row(measure=f"{title}: peak memory of the daemon", group="idle", unit="MiB",
                 ours=[peak], goal=PEAK),
    ]  # fmt: skip
    return about_store(rows, bench.sink.near, max_workers=16)
