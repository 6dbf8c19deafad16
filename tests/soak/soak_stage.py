"""What a soak plays on: a PostgreSQL, an S3 server, the faulty way to it, and the daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg2
import yaml
from s3_servers import S3Server
from soak_oracle import ledger_says

import sensordrop
from sensordrop.adapters.ledger.embedded import find_binaries

SCRIPTS = Path(sysconfig.get_path("scripts"))
SOURCES = str(Path(sensordrop.__file__).parents[1])
NOBODY = 65534
START_SECONDS = 120.0
VERB_SECONDS = 120.0
TOLD_BUG = ("bug", "service_failed", "service_stuck")
"""What the daemon calls a mistake of its own."""


def as_nobody() -> list[str]:
    """Give what makes a program run as an ordinary user, if we are root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]


def give_away(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)


class Postgres:
    """A server of its own, that can be stopped, killed and started again."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._binaries = find_binaries()[0].folder
        self._data = folder / "data"
        self._socket = folder / "s"
        self._socket.mkdir(parents=True)
        for each in (folder, self._socket):
            give_away(each)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", str(self._data), "-U", "soak", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip

    @property
    def dsn(self) -> str:
        return f"host={self._socket} user=soak dbname=postgres"

    @property
    def url(self) -> str:
        return f"postgresql://soak@/postgres?host={self._socket}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *as_nobody(),
                    str(self._binaries / "postgres"),
                    "-D",
                    str(self._data),
                    *("-k", str(self._socket), "-h", ""),
                    *("-c", "shared_buffers=32MB", "-c", "max_connections=60"),
                    *("-c", "max_wal_size=64MB"),  # it may live in memory
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self._socket,
            )
        self._wait(time.monotonic() + START_SECONDS)

    def recover(self) -> None:
        """Wait until it answers, and start it where it ended by itself: so does one without room."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        else:
            self._wait(time.monotonic() + START_SECONDS, start=True)

    def _wait(self, give_up: float, *, start: bool = False) -> None:
        while True:
            try:
                ledger_says(self.dsn, "SELECT 1")
            except psycopg2.Error:
                if time.monotonic() > give_up:
                    raise
                if start and self._process is not None and self._process.poll() is not None:
                    return self.start()
                time.sleep(0.1)
            else:
                return None

    def stop(self) -> None:
        """Stop it in order: clients are told, connections end."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End all its processes at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def cut_connections(self) -> int:
        rows = ledger_says(
            self.dsn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        return len(rows)

    def read_only(self, *, on: bool) -> None:
        """Refuse all writing, or take it again."""
        connection = psycopg2.connect(self.dsn, options="-c default_transaction_read_only=off")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                value = "on" if on else "off"
                cursor.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
                cursor.execute("SELECT pg_reload_conf()")
        finally:
            connection.close()

    def locked(self, seconds: float) -> None:
        """Hold the table that everything writes to, so that whoever writes waits."""
        connection = psycopg2.connect(self.dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE file_uploads IN EXCLUSIVE MODE")
                time.sleep(seconds)
        finally:
            connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*as_nobody(), str(self._binaries / program), *arguments],
            check=True,
            capture_output=True,
            cwd=self._socket,
        )


class Daemon:
    """The real `sensordropd`, started and ended as often as the soak likes."""

    def __init__(
        self,
        folder: Path,
        station: str,
        server: S3Server,
        database: str,
        endpoint_url: str,
        *,
        most_descriptors: int | None = None,
    ) -> None:
        folder.mkdir()
        self._folder = folder
        self._endpoint_url = endpoint_url
        self._launcher: list[str] = []
        if most_descriptors is not None:
            self._launcher = ["sh", "-c", f'ulimit -n {most_descriptors}; exec "$@"', "sh"]
        self._bucket = ""
        self.configuration = folder / "etc"
        (self.configuration / "conf.d").mkdir(parents=True)
        self._state = folder / "state"
        self._home = folder / "home"
        self._logs = folder / "logs"
        for each in (self._state, self._home, self._logs):
            each.mkdir()
            give_away(each)
        self._write(
            "sensordrop.yaml",
            {
                "station": station,
                "database": database,
                "state_directory": str(self._state),
                "log_format": "json",
            },
        )
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": SOURCES,
            "HOME": str(self._home),
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False
        self._lock = threading.RLock()
        self.starts = 0
        self.trouble: list[str] = []
        """What the daemon must never do: end by itself, call something a mistake of its own."""
        self.outcomes: Counter[int] = Counter()
        """How the verbs ended."""

    # --- configuring ----------------------------------------------------------------------

    def deliver(
        self, name: str, root: Path, bucket: str, prefix: str, workers: int, *, shared: bool
    ) -> None:
        self._write(
            f"conf.d/{name}.yaml",
            {
                "local_directory": str(root),
                "bucket_name": bucket,
                "s3_prefix": prefix,
                "endpoint_url": self._endpoint_url,
                "max_workers": workers,
                "quiet_seconds": 1,
                "sweep_interval_seconds": 5,
                "retry_delay_seconds": 0.5,
                "retry_cap_seconds": 4,
                "pause_after_failures": 0,  # no human is here to resume it
                "stall_seconds": 3,
                "multipart_threshold_bytes": 5 * 1024 * 1024,
                "shares_prefix": True,
                "shared": shared,
            },
        )

    def _write(self, name: str, keys: dict[str, object]) -> None:
        (self.configuration / name).write_text(yaml.safe_dump(keys), encoding="utf-8")

    # --- living ---------------------------------------------------------------------------

    def start(self) -> None:
        with self._lock:
            self.starts += 1
            self._log = self._logs / f"daemon-{self.starts:04}.log"
            with self._log.open("wb") as output:
                self._process = subprocess.Popen(
                    [
                        *self._launcher,
                        *as_nobody(),
                        str(SCRIPTS / "sensordropd"),
                        "--config",
                        str(self.configuration),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    cwd=self._home,
                    start_new_session=True,
                )
            self._wanted = True

    def kill9(self) -> None:
        self._end(signal.SIGKILL, 30)

    def stop(self) -> None:
        """Stop it in order. It must end within its time, with 0."""
        code = self._end(signal.SIGTERM, 90)
        if code not in (0, -signal.SIGTERM):  # the latter: before it was up
            self.trouble.append(f"the daemon that was stopped in order ended with {code}")

    def _end(self, number: signal.Signals, seconds: float) -> int:
        with self._lock:
            self.look()
            self._wanted = False
            process = self._process
            assert process is not None
            process.send_signal(number)
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.trouble.append(f"the daemon did not end within {seconds:.0f} s")
                process.kill()
                code = process.wait()
            self._read_log()
            return code

    def frozen(self, seconds: float) -> None:
        """Stop its clock for a while, as a machine that sleeps does."""
        with self._lock:
            process = self._process
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            process.send_signal(signal.SIGCONT)

    def look(self) -> None:
        """Note whether it ended by itself, and start it again then, as systemd would."""
        with self._lock:
            if not self._wanted or self._process is None or self._process.poll() is None:
                return
            said = self._log.read_text(errors="replace")[-2000:]
            self.trouble.append(f"the daemon ended with {self._process.returncode}: {said}")
            self._read_log()
            self.start()

    def _read_log(self) -> None:
        for line in self._log.read_text(errors="replace").splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                if line.startswith("Traceback"):
                    self.trouble.append(f"{self._log.name} has a traceback")
                continue
            if told.get("event") in TOLD_BUG:
                self.trouble.append(f"{self._log.name}: {line[:3000]}")

    def verb(self, *arguments: str) -> int:
        """Run a verb of the command line. Trouble may befall it, but no mistake of its own."""
        verb, *rest = arguments
        done = subprocess.run(
            [
                *as_nobody(),
                str(SCRIPTS / "sensordrop"),
                verb,
                "--config",
                str(self.configuration),
                *rest,
            ],
            env=self._environment,
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=VERB_SECONDS,
            check=False,
        )
        self.outcomes[done.returncode] += 1
        if done.returncode not in (0, 1, 3) or "Traceback" in done.stderr:
            self.trouble.append(
                f"sensordrop {arguments} ended with {done.returncode}: {done.stderr[-2000:]}"
            )
        return done.returncode

    def close(self) -> None:
        with self._lock:
            self._wanted = False
            if self._process is not None:
                with suppress(ProcessLookupError):
                    self._process.kill()
                self._process.wait()


def see_objects(
    client: Any, bucket: str, seen: dict[str, str], stop: threading.Event, every: float = 3.0
) -> None:
    """Note the ETag of every object as it is first seen, until told to stop."""
    from soak_oracle import etags_in

    while not stop.wait(every):
        for key, etag in etags_in(client, bucket).items():
            seen.setdefault(key, etag)


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()
