"""The real `sensordropd` process for tests, with all it works on: a user's view of one station.

A `Station` has a drop folder, a configuration folder, a bucket on a real S3 server and a ledger on
a real PostgreSQL. Whatever a test looks at, it looks at as an outsider: objects through the S3
API, rows through SQL, the daemon through its log, its exit code and `sensordrop status --json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg2
import psycopg2.extras
import yaml
from s3_servers import S3Server

import sensordrop

WAIT_SECONDS = 60.0
"""How long a test waits for anything at all. Generous: a slow machine is no defect."""
POLL_SECONDS = 0.1
QUIET_SECONDS = 1.0
"""How long files must be left alone in these tests."""

SCRIPTS = Path(sysconfig.get_path("scripts"))
SOURCES = str(Path(sensordrop.__file__).parents[1])
"""The programs run the code that the tests import, wherever their scripts were installed from."""
FINISHED = ("uploaded", "skipped", "failed", "superseded", "vanished")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wait_until(
    happened: Callable[[], Any],
    *,
    what: str,
    seconds: float = WAIT_SECONDS,
    story: Callable[[], str] = str,
) -> Any:
    """Wait until `happened()` gives something true, and give that. Fails with the `story`."""
    give_up = time.monotonic() + seconds
    while True:
        if found := happened():
            return found
        if time.monotonic() > give_up:
            raise AssertionError(f"waited in vain for: {what}\n{story()}")
        time.sleep(POLL_SECONDS)


# --- where things are ---------------------------------------------------------------------


@contextmanager
def short_socket_folder(folder: Path) -> Iterator[str]:
    """Give a name for a PostgreSQL socket folder that is short enough, whatever its path."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def database_url(socket_folder: str, database: str, *, user: str = "sensordrop") -> str:
    """Give the URL that stands in a configuration for a database behind a unix socket."""
    return f"postgresql://{user}@/{database}?host={quote(socket_folder, safe='')}&port=5432"


class Bucket:
    """The objects of one bucket, as another S3 client sees them."""

    def __init__(self, server: S3Server, name: str) -> None:
        self.server = server
        self.name = name

    def make(self) -> None:
        self.server.client().create_bucket(Bucket=self.name)

    def keys(self) -> list[str]:
        """Give all keys that are files of a delivery, sorted."""
        pages = self.server.client().get_paginator("list_objects_v2").paginate(Bucket=self.name)
        found = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return sorted(key for key in found if not key.startswith("_sensordrop/"))

    def read(self, key: str) -> bytes:
        body: bytes = self.server.client().get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def put(self, key: str, content: bytes) -> None:
        """Put an object there as somebody else would have."""
        self.server.client().put_object(Bucket=self.name, Key=key, Body=content)

    def digests(self) -> dict[str, str]:
        """Give the SHA-256 of every object by its key, read through the S3 API."""
        client = self.server.client()
        return {
            key: sha256(client.get_object(Bucket=self.name, Key=key)["Body"].read())
            for key in self.keys()
        }


class LedgerView:
    """The ledger as SQL shows it to anybody."""

    def __init__(self, dsn: Callable[[], str]) -> None:
        self._dsn = dsn

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        with closing(psycopg2.connect(self._dsn(), connect_timeout=5)) as connection:
            connection.autocommit = True
            with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(sql, values or None)
                return [dict(row) for row in cursor.fetchall()]

    def exists(self) -> bool:
        """Tell whether a daemon has made its tables."""
        return bool(self.rows("SELECT to_regclass('file_uploads') IS NOT NULL AS made")[0]["made"])

    def uploads(self, path: str | None = None) -> list[dict[str, Any]]:
        """Give the rows of all files (or of one path), oldest version first."""
        if not self.exists():
            return []
        return self.rows(
            "SELECT f.*, d.name AS delivery, encode(f.sha256, 'hex') AS digest,"
            " s.serial AS sensor, q.claimed_by FROM file_uploads f"
            " JOIN deliveries d ON d.id = f.delivery_id JOIN sensors s ON s.id = f.sensor_id"
            " LEFT JOIN upload_queue q ON q.upload_id = f.id"
            " WHERE %s::text IS NULL OR f.path = %s ORDER BY f.id",
            path,
            path,
        )

    def current(self, path: str) -> dict[str, Any] | None:
        """Give the row of the file as it is now."""
        rows = [row for row in self.uploads(path) if row["is_current"]]
        return rows[0] if rows else None

    def states(self) -> dict[str, str]:
        """Give the state of the current version of every path."""
        return {row["path"]: row["state"] for row in self.uploads() if row["is_current"]}

    def sessions(self) -> list[dict[str, Any]]:
        if not self.exists():
            return []
        return self.rows(
            "SELECT s.*, d.name AS delivery FROM sync_sessions s"
            " JOIN deliveries d ON d.id = s.delivery_id ORDER BY s.id"
        )

    def ignored(self) -> dict[str, str]:
        """Give the reason of every path that is not uploaded."""
        if not self.exists():
            return {}
        rows = self.rows("SELECT path, reason FROM ignored_files ORDER BY path")
        return {row["path"]: row["reason"] for row in rows}

    def failures(self, path: str) -> list[dict[str, Any]]:
        return self.rows(
            "SELECT x.* FROM upload_failures x JOIN file_uploads f ON f.id = x.upload_id"
            " WHERE f.path = %s ORDER BY x.id",
            path,
        )

    def miscounted(self) -> list[dict[str, Any]]:
        """Recount every file and give what the kept counters say differently."""
        return self.rows(
            """
            SELECT delivery_id, sensor_id, kind, state, sum(files) AS files, sum(bytes) AS bytes
            FROM (
                SELECT delivery_id, sensor_id, kind, state, files, bytes FROM file_counts
                UNION ALL
                SELECT delivery_id, sensor_id, kind, state, files, bytes FROM counter_deltas
                UNION ALL
                SELECT delivery_id, sensor_id, kind, state::text, -1, -size_bytes
                FROM file_uploads
                UNION ALL
                SELECT delivery_id, 0, 'other', 'ignored', -1, -size_bytes FROM ignored_files
            ) AS difference
            GROUP BY delivery_id, sensor_id, kind, state
            HAVING sum(files) <> 0 OR sum(bytes) <> 0
            """
        )

    def sessions_miscounted(self) -> list[dict[str, Any]]:
        """Recount every session, while it runs and when it has ended, and give what differs."""
        running = self.rows(
            """
            SELECT session_id, state, sum(files) AS files, sum(bytes) AS bytes
            FROM (
                SELECT session_id, state, files, bytes FROM session_counts
                UNION ALL
                SELECT session_id, state, files, bytes FROM counter_deltas
                WHERE session_id IS NOT NULL
                UNION ALL
                SELECT session_id, state::text, -1, -size_bytes FROM file_uploads
            ) AS difference
            GROUP BY session_id, state
            HAVING sum(files) <> 0 OR sum(bytes) <> 0
            """
        )
        ended = self.rows(
            """
            SELECT s.id, s.files_total, s.bytes_total, count(f.id) AS rows
            FROM sync_sessions s LEFT JOIN file_uploads f ON f.session_id = s.id
            WHERE s.state = 'ended'
            GROUP BY s.id
            HAVING count(f.id) <> s.files_total OR coalesce(sum(f.size_bytes), 0) <> s.bytes_total
                OR s.files_total <> s.files_uploaded + s.files_skipped + s.files_failed
                    + s.files_superseded + s.files_vanished
            """
        )
        return running + ended


# --- the configuration --------------------------------------------------------------------


class ConfigurationFolder:
    """Writes `sensordrop.yaml` and `conf.d/` as a sysadmin would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "conf.d").mkdir(parents=True, exist_ok=True)

    def daemon(self, **keys: object) -> None:
        text = yaml.safe_dump(keys, allow_unicode=True)
        (self.path / "sensordrop.yaml").write_text(text, encoding="utf-8")

    def delivery(self, name: str, **keys: object) -> Path:
        file = self.path / "conf.d" / f"{name}.yaml"
        file.write_text(yaml.safe_dump(keys, allow_unicode=True), encoding="utf-8")
        return file

    def text(self, name: str, text: str) -> Path:
        """Write a file of conf.d as it stands: older JSON, or one with mistakes."""
        file = self.path / "conf.d" / name
        file.write_text(text, encoding="utf-8")
        return file


# --- the process --------------------------------------------------------------------------


class RunningDaemon:
    """One `sensordropd` on a configuration, started and ended as often as a test likes."""

    def __init__(
        self,
        *,
        config: Path,
        folder: Path,
        environment: Mapping[str, str],
        arguments: Sequence[str] = (),
        launcher: Sequence[str] = (),
    ) -> None:
        self._config = config
        self._folder = folder
        self._environment = dict(environment)
        self._arguments = list(arguments)
        self._launcher = list(launcher)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._log = folder / "none.log"

    # --- start and end --------------------------------------------------------------------

    def launch(self) -> None:
        """Start the process and don't wait for anything."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self._starts += 1
        self._log = self._folder / f"sensordropd-{self._starts}-{uuid.uuid4().hex[:6]}.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *self._launcher,
                    str(SCRIPTS / "sensordropd"),
                    "--config",
                    str(self._config),
                    *self._arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start the process and wait until its services run."""
        self.launch()
        self.wait_for_log("daemon_started")

    def stop(self, seconds: float = 30.0) -> int:
        """Stop it in order (SIGTERM) and give its exit code; fails if it takes longer."""
        self.signal(signal.SIGTERM)
        return self.wait_for_end(seconds)

    def kill9(self) -> None:
        """End the process as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end_whatever_happens(self) -> None:
        """End the process if it still runs. For fixtures."""
        if self._process is not None and self._process.poll() is None:
            self.kill9()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait_for_end(self, seconds: float = 30.0) -> int:
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s\n{self.story()}") from None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    # --- what it says ---------------------------------------------------------------------

    def output(self) -> str:
        """Give all that the latest process wrote, as it stands."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._starts else ""

    def logs(self, event: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """Give the latest process's log lines: all, or those of an event with these fields."""
        found = []
        for line in self.output().splitlines():
            if not line.startswith("{"):
                continue
            try:
                told = json.loads(line)
            except json.JSONDecodeError:
                continue  # a line that is being written
            if event is not None and told.get("event") != event:
                continue
            if all(told.get(name) == value for name, value in fields.items()):
                found.append(told)
        return found

    def story(self) -> str:
        """Give the last log lines, for the message of a failed test."""
        return "\n".join(self.output().splitlines()[-40:])

    def wait_for(
        self, happened: Callable[[], Any], *, what: str = "", seconds: float = WAIT_SECONDS
    ) -> Any:
        """Wait until `happened()` is true, while the daemon runs; give what it gave."""

        def looked() -> Any:
            was_running = self.running  # asked first: it may say it with its last breath
            found = happened()
            assert found or was_running, f"sensordropd ended: {self.story()}"
            return found

        return wait_until(
            looked, what=what or getattr(happened, "__name__", ""), seconds=seconds,
            story=self.story,
        )  # fmt: skip

    def wait_for_log(
        self, event: str, *, seconds: float = WAIT_SECONDS, **fields: object
    ) -> dict[str, Any]:
        """Wait for a log line and give the first."""
        told: list[dict[str, Any]] = self.wait_for(
            lambda: self.logs(event, **fields), what=f"log line {event} {fields}", seconds=seconds
        )
        return told[0]

    def memory_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)


def command(
    *arguments: str, environment: Mapping[str, str], program: str = "sensordrop", cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run one of the programs to its end."""
    return subprocess.run(
        [str(SCRIPTS / program), *arguments],
        env=dict(environment),
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=WAIT_SECONDS * 2,
        check=False,
    )


# --- all together -------------------------------------------------------------------------


class Station:
    """A host with a drop folder, a configuration, a ledger, a bucket, and the daemon on them.

    `database` is what stands in the configuration. `dsn` tells how the test itself connects;
    None: the same URL, or the embedded server's socket.
    """

    def __init__(
        self,
        folder: Path,
        *,
        server: S3Server,
        database: str,
        dsn: Callable[[], str] | None = None,
        launcher: Sequence[str] = (),
        bucket: str | None = None,
    ) -> None:
        self.folder = folder
        self.server = server
        self.database = database
        self.launcher = list(launcher)
        self.state = folder / "state"
        self.drop = folder / "drop"
        self.home = folder / "home"
        for each in (self.drop, self.home):
            each.mkdir(parents=True, exist_ok=True)
        self.bucket = Bucket(server, bucket or f"field-{uuid.uuid4().hex[:12]}")
        self.ledger = LedgerView(dsn or self._dsn)
        self.configuration = ConfigurationFolder(folder / "etc")
        self.daemon_keys: dict[str, object] = {
            "station": "teststation",
            "database": database,
            "state_directory": str(self.state),
            "log_format": "json",
            "metrics_listen": "off",  # tests run side by side, and an address has one owner
        }
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": SOURCES,
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "SENSORDROP_DELIVERY_QUIET_SECONDS": str(QUIET_SECONDS),
        }
        self._daemons: list[RunningDaemon] = []
        self._stored: dict[str, str] = {}

    # --- configuring ----------------------------------------------------------------------

    def configure(self, **keys: object) -> None:
        """Write sensordrop.yaml; `keys` beside or instead of the usual ones."""
        self.daemon_keys.update(keys)
        self.configuration.daemon(**self.daemon_keys)

    def delivery(self, name: str = "card", **keys: object) -> None:
        """Write a delivery of the drop folder into the bucket; `keys` beside or instead."""
        chosen: dict[str, object] = {
            "local_directory": str(self.drop),
            "bucket_name": self.bucket.name,
            "s3_prefix": "C1",
            "endpoint_url": self.server.endpoint_url,
            "max_workers": 4,
        }
        chosen.update(keys)
        self.configuration.delivery(name, **chosen)

    # --- running --------------------------------------------------------------------------

    def new_daemon(self, *arguments: str) -> RunningDaemon:
        """Give a daemon on this configuration, not yet started."""
        if not (self.configuration.path / "sensordrop.yaml").exists():
            self.configure()
        made = RunningDaemon(
            config=self.configuration.path,
            folder=self.folder,
            environment=self.environment,
            arguments=arguments,
            launcher=self.launcher,
        )
        self._daemons.append(made)
        return made

    def start(self, *arguments: str) -> RunningDaemon:
        made = self.new_daemon(*arguments)
        made.start()
        return made

    @property
    def daemon(self) -> RunningDaemon:
        """The daemon that was made last."""
        return self._daemons[-1]

    @property
    def has_daemon(self) -> bool:
        return bool(self._daemons)

    def sensordrop(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb of the command line on this station's configuration."""
        verb, *rest = arguments
        return command(
            verb, "--config", str(self.configuration.path), *rest,
            environment=self.environment, cwd=self.folder,
        )  # fmt: skip

    def check_config(self) -> subprocess.CompletedProcess[str]:
        return command(
            "--config", str(self.configuration.path), "--check-config",
            program="sensordropd", environment=self.environment, cwd=self.folder,
        )  # fmt: skip

    def status_json(self) -> dict[str, Any]:
        """Give what `sensordrop status --json` says."""
        done = self.sensordrop("status", "--json")
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def delivery_status(self, name: str = "card") -> dict[str, Any]:
        (found,) = [d for d in self.status_json()["deliveries"] if d["name"] == name]
        return dict(found)

    # --- waiting --------------------------------------------------------------------------

    def wait_for(
        self, happened: Callable[[], Any], *, what: str = "", seconds: float = WAIT_SECONDS
    ) -> Any:
        """Wait until `happened()` is true, while the daemon runs."""
        return self.daemon.wait_for(happened, what=what, seconds=seconds)

    def wait_for_states(self, expected: Mapping[str, str], seconds: float = WAIT_SECONDS) -> None:
        """Wait until the ledger's current files are exactly these, each in this state."""
        try:
            self.wait_for(
                lambda: self.ledger.states() == dict(expected), what="states", seconds=seconds
            )
        except AssertionError as error:
            found = self.ledger.states()
            differing = {
                path: (found.get(path), expected.get(path))
                for path in {*found, *expected}
                if found.get(path) != expected.get(path)
            }
            raise AssertionError(f"(is, should be): {differing}\n{error}") from error

    def wait_for_sweep(self, name: str = "card", *, complete: bool = True) -> dict[str, Any]:
        """Wait until the running daemon has swept a delivery's folder; give what it published."""

        def looked() -> dict[str, Any] | None:
            swept = self.ledger.rows(
                "SELECT s.* FROM delivery_status s JOIN deliveries d ON d.id = s.delivery_id"
                " WHERE d.name = %s AND d.retired_at IS NULL"
                " AND s.last_sweep_started_at > (SELECT max(started_at) FROM daemons)"
                " AND s.last_sweep_complete = %s",
                name,
                complete,
            )
            return swept[0] if swept else None

        found: dict[str, Any] = self.wait_for(looked, what=f"a sweep of {name}")
        return found

    def wait_for_session_end(self, sessions: int = 1, seconds: float = WAIT_SECONDS) -> None:
        """Wait until so many sessions have ended and none runs."""
        self.wait_for(
            lambda: [s["state"] for s in self.ledger.sessions()] == ["ended"] * sessions,
            what=f"{sessions} ended sessions",
            seconds=seconds,
        )

    def published(self, name: str = "card") -> dict[str, Any]:
        """Give the delivery's state and reason as the daemon last published them: quick."""
        if not self.ledger.exists():
            return {"state": None, "reason": None}
        rows = self.ledger.rows(
            "SELECT s.* FROM delivery_status s JOIN deliveries d ON d.id = s.delivery_id"
            " WHERE d.name = %s AND d.retired_at IS NULL",
            name,
        )
        return rows[0] if rows else {"state": None, "reason": None}

    def wait_for_published(
        self, state: str, *, reason: str = "", name: str = "card", seconds: float = WAIT_SECONDS
    ) -> dict[str, Any]:
        """Wait until the delivery is in a state, for a reason that has these words."""

        def looked() -> dict[str, Any] | None:
            found = self.published(name)
            fits = found["state"] == state and reason in (found["reason"] or "")
            return found if fits else None

        found: dict[str, Any] = self.wait_for(
            looked, what=f"{name} {state} ({reason})", seconds=seconds
        )
        return found

    # --- what must hold after every story -------------------------------------------------

    def remember_objects(self) -> dict[str, str]:
        """Note what every object holds, and assert that none changed or went since the last time."""
        found = self.bucket.digests()
        lost = {key for key in self._stored if key not in found}
        assert not lost, f"objects are gone: {lost}"
        for key, digest in found.items():
            assert self._stored.setdefault(key, digest) == digest, f"{key} was overwritten"
        return found

    def assert_sound(self) -> None:
        """Assert what must hold at any time: counters, sessions, and no object altered."""
        if self.ledger.exists():
            assert self.ledger.miscounted() == []
            assert self.ledger.sessions_miscounted() == []
        found = self.remember_objects()
        for row in self.ledger.uploads():
            if row["delivery"] in self._elsewhere:
                continue
            if "uploaded" in (row["state"], row["superseded_from"]) or row["state"] == "skipped":
                assert found.get(row["object_key"]) == row["digest"], (
                    f"the ledger says that {row['path']!r} is stored as {row['object_key']!r}, "
                    "but the bucket holds other content there"
                )

    _elsewhere: frozenset[str] = frozenset()
    """Deliveries that go to other buckets, which `assert_sound` does not look at."""

    def elsewhere(self, *names: str) -> None:
        self._elsewhere |= {*names}

    def close(self) -> None:
        """End every process of this station, also an embedded PostgreSQL that outlived it."""
        for each in self._daemons:
            each.end_whatever_happens()
        for process in embedded_processes(self.folder):
            with suppress(psutil.NoSuchProcess):  # PostgreSQL's end with their first
                process.kill()
                process.wait(10)

    def _dsn(self) -> str:
        if self.database != "embedded":
            return self.database
        folder = self.state / "postgresql" / "socket"
        return database_url(self._short(folder), "sensordrop")

    def _short(self, folder: Path) -> str:
        link = self.home / "socket"
        if len(os.fsencode(folder)) < 80:
            return str(folder)
        if not link.is_symlink():
            link.symlink_to(folder)
        return str(link)


def settle_accounts(station: Station) -> None:
    """Stop the station's daemon in order if it runs, and assert what must always hold."""
    if station.database == "embedded":
        station.assert_sound()  # the ledger ends with its daemon
    if station.has_daemon and station.daemon.running:
        assert station.daemon.stop() == 0, station.daemon.story()
    if station.database != "embedded":
        station.assert_sound()


def embedded_processes(folder: Path) -> list[psutil.Process]:
    """Find the processes of servers that were embedded somewhere below a test's own folder.

    A server's workers come and go: what is to be known of one stands in its `info`, read when it
    was found. Whoever asks one of them later must reckon with its end.
    """
    found = []
    for process in psutil.process_iter(["name", "cmdline", "cwd", "uids"], ad_value=None):
        words = process.info["cmdline"] or []
        where = process.info["cwd"] or ""
        other = process.pid != os.getpid()
        if other and (any(str(folder) in word for word in words) or where.startswith(str(folder))):
            found.append(process)
    return found


# --- what is dropped ----------------------------------------------------------------------


def drop_files(folder: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """Write files below a folder; give the SHA-256 of each by its path."""
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return {path: sha256(content) for path, content in files.items()}


def age(folder: Path, seconds: float = 3600.0) -> None:
    """Give all files below a folder an old modification time, as copied cards have."""
    then = time.time() - seconds
    for file in folder.rglob("*"):
        os.utime(file, (then, then), follow_symlinks=False)


def under_prefix(digests: Mapping[str, str], prefix: str = "C1") -> dict[str, str]:
    """Give what the bucket must hold for files with these digests."""
    return {f"{prefix}/{path}": digest for path, digest in digests.items()}
