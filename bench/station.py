"""The whole product as it is measured: `sensordropd` on an embedded PostgreSQL, from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import yaml
from psycopg2.extensions import connection as Connection  # noqa: N812 — it is a class
from psycopg2.extensions import make_dsn

from costs import Cost, cpu_seconds, peak_bytes
from stores import BUCKET, Store

PROGRAM = Path(sys.executable).parent / "sensordropd"
PREFIX = "C1"
LOOK_SECONDS = 0.02
"""How often it is asked whether all is stored; the asking counts as sensordrop's cost."""
START_SECONDS = 120.0
STOP_SECONDS = 60.0
FINISH_SECONDS = 900.0
"""Longest wait for anything that is measured: what takes longer has gone wrong."""

STORED = """
    SELECT coalesce(sum(files), 0) FROM (
        SELECT files FROM file_counts WHERE state IN ('uploaded', 'skipped')
        UNION ALL
        SELECT files FROM counter_deltas WHERE state IN ('uploaded', 'skipped')
    ) AS kept
"""
"""How many files are on the books as stored, by the counts that are committed with them. Skipped
ones too: rclone's server may answer 500 and keep the file, which the next attempt then finds."""


class StationError(Exception):
    """The daemon did not do what was to be measured."""


@dataclass(kw_only=True)
class Station:
    """A state directory, a configuration with one delivery, and a daemon on them."""

    folder: Path
    drop: Path
    store: Store
    keys: dict[str, object] = field(default_factory=dict)
    """The delivery's settings beside the usual ones."""
    log_level: str = "info"
    _process: subprocess.Popen[bytes] | None = None
    _log: Path = Path(os.devnull)
    _starts: int = 0

    @property
    def state(self) -> Path:
        """The daemon's state directory."""
        return self.folder / "state"

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._process is not None
        return self._process.pid

    def delivery(self) -> dict[str, object]:
        """Give the delivery's file."""
        return {
            "local_directory": str(self.drop),
            "bucket_name": BUCKET,
            "s3_prefix": PREFIX,
            "endpoint_url": self.store.endpoint_url,
            "max_workers": 16,
            **self.keys,
        }

    def start(self) -> None:
        """Start the daemon and wait until it has its ledger and begins to work."""
        self._configure()
        self._starts += 1
        self._log = self.folder / f"sensordropd-{self._starts}.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(PROGRAM), "--config", str(self.folder / "etc")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.folder,
                start_new_session=True,
            )
        self.wait_for(lambda: self.told("daemon_started"), "the start", seconds=START_SECONDS)

    def stop(self) -> None:
        """Stop the daemon in order, and its PostgreSQL with it. Without one it does nothing."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise StationError(f"sensordropd did not stop\n{self.story()}") from None
        finally:
            self._process = None

    def cpu(self) -> float:
        """Say how much processor time daemon and PostgreSQL took so far, in seconds."""
        return cpu_seconds(self.pid, self._postmaster())

    def daemon_cpu(self) -> float:
        """Say the same of the daemon alone, with its `find`."""
        return self.cpu() - cpu_seconds(self._postmaster())

    def peak_bytes(self) -> int:
        """Give the most memory that the daemon itself had so far."""
        return peak_bytes(self.pid)

    @contextmanager
    def ledger(self) -> Iterator[Connection]:
        """Connect to the ledger while the daemon runs; every statement is its own transaction."""
        at = os.open(self.state / "postgresql" / "socket", os.O_PATH | os.O_DIRECTORY)
        try:
            dsn = make_dsn(
                host=f"/proc/self/fd/{at}", port=5432, user="sensordrop", dbname="sensordrop"
            )
            connection = psycopg2.connect(dsn)
            connection.autocommit = True
            try:
                yield connection
            finally:
                connection.close()
        finally:
            os.close(at)

    def told(self, event: str) -> list[dict[str, Any]]:
        """Give the log lines of an event since the last start."""
        found = []
        for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines():
            if f'"{event}"' in line and line.endswith("}"):
                said = json.loads(line)
                if said.get("event") == event:
                    found.append(said)
        return found

    def story(self) -> str:
        """Give the last log lines, for a message."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def wait_for(
        self,
        happened: Callable[[], Any],
        what: str,
        *,
        seconds: float = FINISH_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> Any:
        """Wait until `happened()` gives something, and give that. Raises StationError."""
        give_up = time.monotonic() + seconds
        while not (found := happened()):
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > give_up:
                why = "sensordropd ended" if ended else f"not within {seconds:.0f} s"
                raise StationError(f"waited in vain for {what} ({why})\n{self.story()}")
            time.sleep(look_seconds)
        return found

    def _postmaster(self) -> int:
        file = self.state / "postgresql" / "data" / "postmaster.pid"
        return int(file.read_text(encoding="ascii").split()[0])

    def _configure(self) -> None:
        folder = self.folder / "etc" / "conf.d"
        folder.mkdir(parents=True, exist_ok=True)
        daemon = {
            "station": "bench",
            "state_directory": str(self.state),
            "log_format": "json",
            "log_level": self.log_level,
        }
        text = yaml.safe_dump(daemon)
        (folder.parent / "sensordrop.yaml").write_text(text, encoding="utf-8")
        (folder / "bench.yaml").write_text(yaml.safe_dump(self.delivery()), encoding="utf-8")

    def _environment(self) -> Mapping[str, str]:
        kept = ("PATH", "PYTHONPATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
        base = {name: os.environ[name] for name in kept if name in os.environ}
        return self.store.environment({**base, "HOME": str(self.folder)})


@contextmanager
def new_station(
    work: Path, name: str, drop: Path, store: Store, **keys: object
) -> Iterator[Station]:
    """Give a station with an empty ledger, not started. It is stopped and removed in any case.

    Making a database (initdb) is no part of what is measured, so it is made once and copied.
    """
    station = Station(folder=work / "stations" / name, drop=drop, store=store, keys=keys)
    with copied_station(work, station):
        yield station


@contextmanager
def copied_station(work: Path, station: Station) -> Iterator[None]:
    """Give a station of any kind the same empty ledger, and end it in any case."""
    shutil.rmtree(station.folder, ignore_errors=True)
    station.state.parent.mkdir(parents=True)
    _copy(_empty_state(work, station.store), station.state)
    try:
        yield
    finally:
        station.stop()
        shutil.rmtree(station.folder, ignore_errors=True)


def _empty_state(work: Path, store: Store) -> Path:
    folder = work / "stations" / "empty"
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "drop").mkdir(parents=True)
        station = Station(folder=folder, drop=folder / "drop", store=store)
        try:
            station.start()
        finally:
            station.stop()
        (folder / "made").touch()
    return folder / "state"


def _copy(state: Path, target: Path) -> None:
    # cp keeps owners and times; PostgreSQL refuses a folder that is not its user's.
    subprocess.run(["cp", "-a", str(state), str(target)], check=True)


# --- the measure --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What the whole product took, from the sweep's beginning to the last committed row."""

    cost: Cost
    start_cpu_seconds: float
    """What it took before that: Python, PostgreSQL's start, the schema's check."""


def upload_all(
    station: Station, files: int, *, already: int = 0, end: Callable[[], None] | None = None
) -> Whole:
    """Start the daemon on a folder that is full, and wait until all is on the books as stored.

    `already` files were stored before. The daemon is stopped afterwards, or by `end`.
    """
    station.start()
    began = time.monotonic()
    before = station.cpu()
    with station.ledger() as connection, connection.cursor() as cursor:

        def stored() -> bool:
            cursor.execute(STORED)
            ((count,),) = cursor.fetchall()
            return int(count) - already >= files

        station.wait_for(stored, f"{files} stored files")
    cost = Cost(
        wall_seconds=time.monotonic() - began,
        cpu_seconds=station.cpu() - before,
        peak_bytes=station.peak_bytes(),
    )
    (end or station.stop)()
    return Whole(cost=cost, start_cpu_seconds=before)
