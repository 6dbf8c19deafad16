"""The rows about sweeps and about the ledger's size."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class

from figures import Better, Goal, Row, make_row, per_thousand
from plan import KIB, MIB, PEAK, Bench, about_store

# Private, and still the right one: what is compared with must be the very listing that a sweep
# makes, also after that has changed.
from sensordrop.adapters.finder import _find_arguments
from sensordrop.adapters.ledger.embedded import EmbeddedPostgres
from station import Station, new_station, upload_all
from stores import Store
from trees import Tree, tree, wait_until_settled

LISTED_BYTES = 100_000
LISTED_FOLDERS = 300
SMALL_LEDGER_ROWS = 10_000
SEED_BATCH = 1_000_000
QUIET_SECONDS = 1.0
"""`quiet_seconds` of the ledger's rows: their files are linked anew for every round."""
NOWHERE = Store(
    endpoint_url="http://127.0.0.1:9",
    ca_file=None,
    words="none: nothing listens there, so that only the sweep works",
)


def sweeps(bench: Bench) -> list[Row]:
    """Measure sweeps of a season's folder: its first, and later ones that find nothing new."""
    spec = Tree(
        files=bench.sizes.listed_files, size_bytes=LISTED_BYTES, folders=LISTED_FOLDERS,
        content=False,
    )  # fmt: skip
    print(f"    making {spec.files:,} files, unless they are there", flush=True)
    folder = tree(bench.work, spec)
    _find(folder)  # now it is in the page cache, for both
    wait_until_settled(folder)
    find: list[float] = []
    first: list[float] = []
    known: list[float] = []
    peaks: list[float] = []
    for number in range(1, bench.sizes.rounds + 1):
        with new_station(bench.work, "sweep", folder, NOWHERE) as station:
            find.append(_find(folder))
            first.append(_sweep(station, peaks))
            with _database(station) as cursor:
                _all_stored(cursor)
            find.append(_find(folder))
            known.append(_sweep(station, peaks))
            print(f"    round {number}: find {find[-2]:.2f} and {find[-1]:.2f} s, first sweep "
                  f"{first[-1]:.2f} s, all known {known[-1]:.2f} s, peak {peaks[-1]:.0f} MiB",
                  flush=True)  # fmt: skip
    title = f"sweep of {spec.files:,} files"
    rows = [
        make_row(
            measure=f"{title}, all known", group="sweeps", unit="s", ours=known, peer=find,
            peer_name="find", goal=Goal(better=Better.LESS, must=4, reach=2),
            note="the peer is `find` alone with the same -printf, its output thrown away",
        ),
        make_row(
            measure=f"first {title}, on the books", group="sweeps", unit="s", ours=first,
            peer=find, peer_name="find", goal=Goal(better=Better.LESS, must=12, reach=6),
            note="durable: every row is committed with fsync",
        ),
        make_row(
            measure=f"{title}: peak memory of the daemon", group="sweeps", unit="MiB", ours=peaks,
            goal=PEAK,
        ),
    ]  # fmt: skip
    return about_store(rows, NOWHERE)


def _find(folder: Path) -> float:
    began = time.monotonic()
    subprocess.run(
        ["find", *_find_arguments()],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        check=True,
    )
    return time.monotonic() - began


def _sweep(station: Station, peaks: list[float]) -> float:
    """Let the daemon sweep at its start; give the seconds that it says it took."""
    station.start()
    (told, *_) = station.wait_for(lambda: station.told("sweep_finished"), "the end of the sweep")
    peaks.append(station.peak_bytes() / MIB)
    station.stop()
    return float(told["seconds"])


def _all_stored(cursor: Cursor) -> None:
    """Make the ledger of a season that is stored: what every later sweep finds."""
    cursor.execute("UPDATE file_uploads SET state = 'uploaded', finished_at = now(),"
                   " object_key = 'C1/' || path, sha256 = sha256(path_bytes)")  # fmt: skip
    cursor.execute("TRUNCATE upload_queue")
    cursor.execute("VACUUM ANALYZE")
    cursor.execute("CHECKPOINT")


@contextmanager
def _database(station: Station) -> Iterator[Cursor]:
    """Open a stopped station's ledger; every statement is its own transaction."""
    with (
        EmbeddedPostgres(station.state / "postgresql") as server,
        closing(psycopg2.connect(server.dsn)) as connection,
    ):
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


# --- the ledger's size --------------------------------------------------------------------


def ledger(bench: Bench) -> list[Row]:
    """Measure what a file costs in a small ledger and in one that has grown for years."""
    assert bench.sink is not None
    spec = Tree(files=bench.sizes.ledger_files, size_bytes=64 * KIB, folders=100)
    files = tree(bench.work, spec)
    cpu: dict[int, list[float]] = {SMALL_LEDGER_ROWS: [], bench.sizes.ledger_rows: []}
    wall: dict[int, list[float]] = {rows: [] for rows in cpu}
    peaks = []
    with ExitStack() as stack:
        stations = {}
        for rows in cpu:
            drop = bench.work / "drops" / f"ledger{rows}"
            shutil.rmtree(drop, ignore_errors=True)
            drop.mkdir(parents=True)
            stack.callback(shutil.rmtree, drop, ignore_errors=True)
            stations[rows] = stack.enter_context(
                new_station(
                    bench.work, f"ledger{rows}", drop, bench.sink.near,
                    max_workers=16, quiet_seconds=QUIET_SECONDS,
                )
            )  # fmt: skip
            _seed(stations[rows], rows)
        for number in range(1, bench.sizes.rounds + 1):
            for rows, station in stations.items():
                bench.sink.forget()
                _drop_anew(files, station.drop, f"round{number}")
                time.sleep(2 * QUIET_SECONDS)
                before = rows + (number - 1) * spec.files
                whole = upload_all(station, spec.files, already=before)
                cpu[rows].append(per_thousand(whole.cost.cpu_seconds, spec.files))
                wall[rows].append(spec.files / whole.cost.wall_seconds)
                peaks.append(whole.cost.peak_bytes / MIB)
                print(f"    round {number}, {rows:,} rows: {cpu[rows][-1]:.3f} CPU s per 1,000,"
                      f" {wall[rows][-1]:,.0f} files/s", flush=True)  # fmt: skip
    many = bench.sizes.ledger_rows
    title = f"{spec.files:,} × 64 KiB with {many:,} rows in the ledger"
    name = f"with {SMALL_LEDGER_ROWS:,} rows"
    rows_made = [
        make_row(
            measure=f"{title}: CPU", group="ledger", unit="CPU s / 1,000 files", ours=cpu[many],
            peer=cpu[SMALL_LEDGER_ROWS], peer_name=name,
            goal=Goal(better=Better.LESS, must=1.3, reach=1.0),
            note="all rows are stored files of the same delivery, which are no longer on the disk",
        ),
        make_row(
            measure=f"{title}: speed", group="ledger", unit="files/s", ours=wall[many],
            peer=wall[SMALL_LEDGER_ROWS], peer_name=name,
        ),
        make_row(
            measure=f"{title}: peak memory of the daemon", group="ledger", unit="MiB", ours=peaks,
            goal=PEAK,
        ),
    ]  # fmt: skip
    return about_store(rows_made, bench.sink.near, max_workers=16, quiet_seconds=QUIET_SECONDS)


def _drop_anew(files: Path, drop: Path, name: str) -> None:
    """Put the same files into the folder under other names, in place of the last round's."""
    for old in drop.iterdir():
        shutil.rmtree(old)
    shutil.copytree(files, drop / name, copy_function=os.link)


def _seed(station: Station, rows: int) -> None:
    """Fill a ledger by SQL: without its triggers and indexes, which are then made anew."""
    print(f"    seeding {rows:,} rows", flush=True)
    station.start()
    station.wait_for(lambda: station.told("sweep_finished"), "the delivery's row")
    station.stop()
    text = (Path(__file__).parent / "seed.sql").read_text(encoding="utf-8")
    sensors, session, files, counts = text.split("\n----\n")
    with _database(station) as cursor:
        cursor.execute("SELECT id FROM deliveries WHERE retired_at IS NULL")
        ((delivery_id,),) = cursor.fetchall()
        values = {"delivery_id": delivery_id, "rows": rows}
        cursor.execute(sensors, values)
        cursor.execute(session, values)
        cursor.execute("ALTER TABLE file_uploads DISABLE TRIGGER USER")
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid = 'file_uploads'::regclass AND NOT indisprimary"
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        for first in range(1, rows + 1, SEED_BATCH):
            last = min(first + SEED_BATCH - 1, rows)
            cursor.execute(files, {**values, "first": first, "last": last})
        for _, definition in indexes:
            cursor.execute(definition)
        cursor.execute("ALTER TABLE file_uploads ENABLE TRIGGER USER")
        cursor.execute(counts)
        cursor.execute("VACUUM (FREEZE, ANALYZE)")
        cursor.execute("CHECKPOINT")
