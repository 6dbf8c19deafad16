"""The embedded PostgreSQL, with real servers and real kills: it must serve, last, and end."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest

from sensordrop.adapters.ledger import embedded
from sensordrop.adapters.ledger.embedded import EmbeddedPostgres
from sensordrop.adapters.processes import EmbeddedServerError, EmbeddedServerInterruptedError

ROOT = os.geteuid() == 0
AS_ROOT = pytest.mark.skipif(not ROOT, reason="only root starts PostgreSQL as another user")
PATIENCE_SECONDS = 60.0

USER_PROGRAM = """
import signal, sys
from pathlib import Path
import psycopg2
from sensordrop.adapters.ledger.embedded import EmbeddedPostgres

interrupted = []
signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
connection = psycopg2.connect(server.dsn)
with connection, connection.cursor() as cursor:
    cursor.execute("CREATE TABLE IF NOT EXISTS notes (words text)")
    cursor.execute("INSERT INTO notes VALUES ('from the child')")
print("ready", flush=True)
for line in sys.stdin:
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO notes VALUES (%s)", (line.strip(),))
    print("written", len(interrupted), flush=True)
connection.close()
server.stop()
print("stopped", flush=True)
"""


class Child:
    """Another program that uses the server."""

    def __init__(self, directory: Path, *wrapper: str) -> None:
        self.process = subprocess.Popen(
            [*(wrapper or (sys.executable,)), "-c", USER_PROGRAM, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd="/",
        )

    def says(self) -> str:
        return self.process.stdout.readline().strip()

    def write(self, words: str) -> str:
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self.says()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                stream.close()


@contextmanager
def child_using(directory: Path, *wrapper: str) -> Iterator[Child]:
    child = Child(directory, *wrapper)
    try:
        yield child
    finally:
        child.kill()


def eventually(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def processes_in(directory: Path) -> list[int]:
    """All processes that work in the folder, or were started with its path."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            works_in = str((entry / "cwd").readlink())
            if os.fsencode(directory) in words or works_in.startswith(str(directory)):
                found.append(int(entry.name))
    return found


def ask(server: EmbeddedPostgres, query: str):
    with closing(psycopg2.connect(server.dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall() if cursor.description else None


def postmaster(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().split()[0])


def rights(path: Path) -> dict[Path, tuple[int, int, int]]:
    states = {each: each.stat() for each in (path, *path.parents)}
    return {each: (s.st_mode, s.st_uid, s.st_gid) for each, s in states.items()}


def is_ready(directory: Path) -> bool:
    path = directory / "data" / "postmaster.pid"
    return path.exists() and "ready" in path.read_text()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter: it ended while it was read
        return False
    return state != "Z"


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A database made once; its tests are not about making it."""
    directory = tmp_path_factory.mktemp("template") / "pg"
    with EmbeddedPostgres(directory) as server:
        ask(server, "CREATE TABLE notes (words text)")
        ask(server, "INSERT INTO notes VALUES ('from the template')")
    return directory


@pytest.fixture
def directory(tmp_path: Path, template: Path) -> Iterator[Path]:
    made = tmp_path / "pg"
    subprocess.run(["cp", "-a", template, made], check=True)
    yield made
    for pid in processes_in(made):  # only what a failed test left behind
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_first_start_makes_an_utf8_database_that_sensordrop_owns(tmp_path):
    with EmbeddedPostgres(tmp_path / "pg") as server:
        assert ask(
            server,
            "SELECT current_user::text, pg_get_userbyid(datdba)::text,"
            " pg_encoding_to_char(encoding)::text, datcollate::text"
            " FROM pg_database WHERE datname = current_database()",
        ) == [("sensordrop", "sensordrop", "UTF8", "C")]
    assert processes_in(tmp_path) == []


def test_data_survives_restarts_and_every_stop_leaves_no_process(directory):
    for turn in range(3):
        with EmbeddedPostgres(directory) as server:
            ask(server, f"INSERT INTO notes VALUES ('turn {turn}')")
        assert processes_in(directory) == []
    with EmbeddedPostgres(directory) as server:
        assert ask(server, "SELECT words FROM notes") == [
            ("from the template",),
            ("turn 0",),
            ("turn 1",),
            ("turn 2",),
        ]


def test_commits_are_durable_and_nothing_listens_on_a_network(directory):
    with EmbeddedPostgres(directory) as server:
        for setting, value in (
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("listen_addresses", ""),
            ("data_checksums", "on"),
        ):
            assert ask(server, f"SHOW {setting}") == [(value,)]
        sockets = directory / "socket"
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert sockets.stat().st_uid == (directory / "data").stat().st_uid


def test_settings_written_into_the_data_folder_can_not_weaken_it(directory):
    owner = (directory / "data").stat()
    weak = directory / "data" / "postgresql.auto.conf"
    weak.write_text("fsync = 'off'\nlisten_addresses = '*'\n")
    os.chown(weak, owner.st_uid, owner.st_gid)
    with EmbeddedPostgres(directory) as server:
        assert ask(server, "SHOW fsync") == [("on",)]
        assert ask(server, "SHOW listen_addresses") == [("",)]


def test_a_unix_user_gets_in_as_the_role_sensordrop_only(directory):
    with EmbeddedPostgres(directory) as server:
        ask(server, "CREATE ROLE somebody LOGIN SUPERUSER")
        with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
            psycopg2.connect(server.dsn, user="somebody")


def test_the_first_of_two_users_leaves_the_server_to_the_second(directory):
    first, second = EmbeddedPostgres(directory), EmbeddedPostgres(directory)
    first.start()
    second.start()
    serving = postmaster(directory)
    first.stop()
    assert ask(second, "SELECT count(*) FROM notes") == [(1,)]
    assert postmaster(directory) == serving
    second.stop()
    assert processes_in(directory) == []


def test_a_program_that_started_it_may_leave_before_another_that_uses_it(directory):
    with child_using(directory) as child:
        assert child.says() == "ready"
        with EmbeddedPostgres(directory) as server:
            child.process.stdin.close()
            assert child.says() == "stopped"
            child.process.wait()
            assert ask(server, "SELECT count(*) FROM notes") == [(2,)]
    assert processes_in(directory) == []


def test_users_that_start_and_stop_at_once_all_get_served_and_leave_nothing(directory):
    troubles = []

    def use() -> None:
        try:
            for _ in range(4):
                with EmbeddedPostgres(directory) as server:
                    ask(server, "INSERT INTO notes VALUES ('at once')")
        except (EmbeddedServerError, psycopg2.Error) as error:
            troubles.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert processes_in(directory) == []
    with EmbeddedPostgres(directory) as server:
        assert ask(server, "SELECT count(*) FROM notes WHERE words = 'at once'") == [(16,)]


def test_after_a_kill_of_the_only_user_the_next_one_adopts_the_server_and_ends_it(directory):
    lines = []
    with child_using(directory) as child:
        assert child.says() == "ready"
        orphan = postmaster(directory)
        child.kill()
    assert is_alive(orphan)
    with EmbeddedPostgres(directory, log=lines.append) as server:
        assert postmaster(directory) == orphan
        assert ("from the child",) in ask(server, "SELECT words FROM notes")
    assert any("is running already" in line for line in lines)
    assert processes_in(directory) == []


def test_a_killed_server_is_started_again_for_all_threads_that_ask(directory):
    with EmbeddedPostgres(directory) as server:
        dsn = server.dsn
        ask(server, "INSERT INTO notes VALUES ('committed')")
        killed = postmaster(directory)
        os.kill(killed, signal.SIGKILL)
        troubles = []

        def wish() -> None:
            try:
                server.ensure_running()
                ask(server, "SELECT 1")
            except (EmbeddedServerError, psycopg2.Error) as error:
                troubles.append(error)

        threads = [threading.Thread(target=wish) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert troubles == []
        assert postmaster(directory) != killed
        assert server.dsn == dsn
        assert ("committed",) in ask(server, "SELECT words FROM notes")
    assert processes_in(directory) == []


def test_a_killed_server_and_a_killed_user_leave_nothing_that_hinders_the_next_start(directory):
    with child_using(directory) as child:
        assert child.says() == "ready"
        os.kill(postmaster(directory), signal.SIGKILL)
        child.kill()
    assert (directory / "data" / "postmaster.pid").exists()
    with EmbeddedPostgres(directory) as server:
        assert ("from the child",) in ask(server, "SELECT words FROM notes")
    assert processes_in(directory) == []


def test_a_recycled_process_id_in_the_pid_file_is_neither_believed_nor_ended(directory):
    owner = (directory / "data").stat().st_uid
    stranger = subprocess.Popen(
        ["sleep", "600"], user=owner if ROOT else None, extra_groups=[] if ROOT else None
    )
    try:
        pid_file = directory / "data" / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{directory}/data\n1\n5432\n../socket\n\n")
        os.chown(pid_file, owner, -1)
        with EmbeddedPostgres(directory) as server:
            assert ask(server, "SELECT count(*) FROM notes") == [(1,)]
        assert stranger.poll() is None
        assert processes_in(directory) == []
    finally:
        stranger.kill()
        stranger.wait()


def test_a_start_while_the_server_shuts_down_waits_and_starts_it_anew(directory):
    first = EmbeddedPostgres(directory)
    first.start()
    ending = postmaster(directory)
    busy = psycopg2.connect(first.dsn)
    os.kill(ending, signal.SIGTERM)  # waits for `busy`, and lets nobody else in
    lines = []
    second = EmbeddedPostgres(directory, log=lines.append)
    starting = threading.Thread(target=second.start)
    starting.start()
    busy.close()
    starting.join()
    assert postmaster(directory) != ending
    assert ask(second, "SELECT count(*) FROM notes") == [(1,)]
    first.stop()
    second.stop()
    assert processes_in(directory) == []


@pytest.mark.parametrize("moment", ["data.new", "data.new/PG_VERSION", "data.new/global"])
def test_a_kill_during_the_first_start_leaves_no_half_made_database(tmp_path, moment):
    directory = tmp_path / "pg"
    with child_using(directory) as child:
        eventually((directory / moment).exists, f"{moment} did not appear")
        child.kill()
        assert not (directory / "data").exists()
    with EmbeddedPostgres(directory) as server:
        assert ask(server, "SELECT 1") == [(1,)]
    assert not (directory / "data.new").exists()
    assert processes_in(directory) == []


def test_ctrl_c_reaches_the_program_but_not_its_server(directory):
    with child_using(directory) as child:
        assert child.says() == "ready"
        serving = postmaster(directory)
        assert os.getpgid(serving) != os.getpgid(child.process.pid)
        os.killpg(child.process.pid, signal.SIGINT)  # what a terminal does
        assert child.write("after the interrupt") == "written 1"
        assert postmaster(directory) == serving
        child.process.stdin.close()
        assert child.says() == "stopped"
    assert processes_in(directory) == []


def test_the_server_inherits_nothing_of_ours_but_its_lock(directory, tmp_path):
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        with EmbeddedPostgres(directory):
            serving = Path(f"/proc/{postmaster(directory)}")
            names = set()
            for each in (serving / "fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile: what is inherited is kept
                    names.add(str(each.readlink()))
            environment = (serving / "environ").read_bytes()
    assert {name for name in names if name.endswith(".lock")} == {str(directory / "server.lock")}
    assert str(tmp_path / "secret") not in names
    assert b"PYTEST_CURRENT_TEST" not in environment


def test_a_path_longer_than_a_socket_name_works(tmp_path):
    directory = tmp_path / ("a long name " * 10) / "and, again" / ("x" * 60) / "pg"
    assert len(os.fsencode(directory)) > 107
    with EmbeddedPostgres(directory) as server:
        assert ask(server, "SELECT 1") == [(1,)]
    with EmbeddedPostgres(directory) as server:
        assert ask(server, "SELECT 1") == [(1,)]
    assert processes_in(directory) == []


def test_other_programs_find_the_server_by_its_socket_folder(directory):
    with (
        EmbeddedPostgres(directory) as server,
        socket.socket(socket.AF_UNIX) as plain,
        chdir(server.socket_directory),
    ):
        plain.connect(".s.PGSQL.5432")


def test_it_ends_under_a_python_that_was_built_for_older_kernels(directory, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    with EmbeddedPostgres(directory):
        pass
    assert processes_in(directory) == []


def test_an_immediate_stop_loses_no_commit(directory):
    server = EmbeddedPostgres(directory)
    server.start()
    ask(server, "INSERT INTO notes VALUES ('committed')")
    server.stop(immediate=True)
    assert processes_in(directory) == []
    with EmbeddedPostgres(directory) as server:
        assert ("committed",) in ask(server, "SELECT words FROM notes")


def test_stop_may_be_repeated_and_a_stopped_server_may_be_started_again(directory):
    server = EmbeddedPostgres(directory)
    server.start()
    server.start()
    server.stop()
    server.stop()
    with pytest.raises(EmbeddedServerError, match="was not started"):
        server.ensure_running()
    with pytest.raises(EmbeddedServerError, match="was not started"):
        _ = server.dsn
    with server:
        assert ask(server, "SELECT 1") == [(1,)]
    assert processes_in(directory) == []


def test_a_long_wait_says_so_and_ends_when_the_program_is_told_to_stop(directory, monkeypatch):
    monkeypatch.setattr("sensordrop.adapters.processes.PROGRESS_SECONDS", 0.0)
    told = threading.Event()
    lines = []

    def hear(line: str) -> None:
        lines.append(line)
        told.set()  # the first line is the operator's cue

    with (directory / "start.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedServerInterruptedError):
            EmbeddedPostgres(directory, log=hear, stop=told).start()
    assert "another program" in lines[0]
    assert processes_in(directory) == []


def test_a_server_that_somebody_started_by_hand_is_left_alone(directory):
    owner = (directory / "data").stat()
    folder = embedded.find_binaries()[0].folder
    by_hand = subprocess.Popen(
        [
            *_as_user(owner.st_uid, owner.st_gid),
            folder / "postgres",
            *("-D", ".", "-k", ".", "-c", "listen_addresses="),
        ],
        cwd=directory / "data",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: is_ready(directory), "it did not start")
        with pytest.raises(EmbeddedServerError, match=f"somebody else .pid {by_hand.pid}"):
            EmbeddedPostgres(directory).start()
        assert by_hand.poll() is None
    finally:
        by_hand.send_signal(signal.SIGQUIT)
        by_hand.wait()


def test_a_database_of_a_version_that_is_not_installed_is_refused_with_what_to_install(directory):
    (directory / "data" / "PG_VERSION").write_text("99\n")
    with pytest.raises(EmbeddedServerError, match=r"made by PostgreSQL 99.*postgresql-99"):
        EmbeddedPostgres(directory).start()
    assert processes_in(directory) == []


def test_without_any_postgresql_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_packaged_folders", list)
    monkeypatch.setattr(embedded, "_distribution_folders", list)
    with pytest.raises(
        EmbeddedServerError, match=r"sensordrop\[embedded\].*apt install postgresql"
    ):
        EmbeddedPostgres(tmp_path / "pg").start()


def test_a_broken_database_is_told_with_the_servers_own_words(directory):
    (directory / "data" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedServerError, match="pg_control"):
        EmbeddedPostgres(directory).start()
    assert processes_in(directory) == []


@pytest.mark.skipif(not embedded._distribution_folders(), reason="the distribution has none")
def test_the_distributions_postgresql_serves_where_the_packaged_one_is_missing(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(embedded, "_packaged_folders", list)
    with EmbeddedPostgres(tmp_path / "pg") as server:
        major = int(ask(server, "SHOW server_version_num")[0][0]) // 10000
    assert major in [each.major for each in embedded.find_binaries()]
    # The folder stays with its version, whatever else is installed later.
    monkeypatch.undo()
    with EmbeddedPostgres(tmp_path / "pg") as server:
        assert int(ask(server, "SHOW server_version_num")[0][0]) // 10000 == major


# --- as root ------------------------------------------------------------------------------


def _as_user(uid: int, gid: int) -> list[str]:
    if not ROOT:
        return []
    keep = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    keep.append("--securebits=+no_setuid_fixup")
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *keep, "--"]


@AS_ROOT
def test_root_starts_it_as_another_user_below_a_closed_folder_and_no_rights_change(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = rights(closed) | rights(embedded.find_binaries()[0].folder)
    directory = closed / "state" / "pg"
    with EmbeddedPostgres(directory) as server:
        assert Path(f"/proc/{postmaster(directory)}").stat().st_uid != 0
        assert ask(server, "SELECT current_user::text") == [("sensordrop",)]
        ask(server, "CREATE TABLE many AS SELECT generate_series(1, 100000) AS n")
    with EmbeddedPostgres(directory) as server:
        assert ask(server, "SELECT count(*) FROM many") == [(100000,)]
    assert rights(closed) | rights(embedded.find_binaries()[0].folder) == before
    assert processes_in(directory) == []


@AS_ROOT
def test_programs_below_a_folder_that_is_closed_to_the_service_user_can_be_used(
    tmp_path, monkeypatch
):
    binaries = embedded.find_binaries()[0]
    package = binaries.folder.parent.parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(package, closed / package.name, symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
    copied = closed / binaries.folder.relative_to(package.parent)
    monkeypatch.setattr(embedded, "_packaged_folders", lambda: [copied])
    monkeypatch.setattr(embedded, "_distribution_folders", list)
    with open_folder() as folder:
        with EmbeddedPostgres(folder / "pg") as server:
            executable = Path(f"/proc/{postmaster(folder / 'pg')}/exe").readlink()
            assert executable.is_relative_to(closed)
            assert ask(server, "SELECT 1") == [(1,)]
        assert processes_in(folder) == []
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may reach, as pytest's own is closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@AS_ROOT
def test_where_every_folder_is_open_the_server_keeps_no_capability():
    with open_folder() as folder:
        probe = embedded.find_binaries()[0].folder / "initdb"
        nobody = pwd.getpwnam("nobody")
        reach = subprocess.run(
            [probe, "--version"], check=False, user=nobody.pw_uid, extra_groups=[], cwd=folder
        )
        if reach.returncode != 0:
            pytest.skip("the programs themselves are below a closed folder")
        with EmbeddedPostgres(folder / "pg"):
            status = Path(f"/proc/{postmaster(folder / 'pg')}/status").read_text()
            rules = (folder / "pg" / "pg_ident.conf").read_text()
        held = [line.split() for line in status.splitlines() if line.startswith("CapPrm")]
        assert held == [["CapPrm:", "0000000000000000"]]
        owner = pwd.getpwuid((folder / "pg" / "data").stat().st_uid).pw_name
        assert rules == f'sensordrop "root" sensordrop\nsensordrop "{owner}" sensordrop\n'


@pytest.fixture(scope="module")
def as_nobody() -> tuple[str, ...]:
    """A Python that the user nobody may run, with our packages; this one may be out of reach."""
    switch = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "env")
    packages = "PYTHONPATH=" + os.pathsep.join(filter(None, sys.path))
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        trial = "import sensordrop.adapters.ledger.embedded"
        command = (*switch, packages, python)
        if subprocess.run([*command, "-c", trial], check=False, cwd="/").returncode == 0:
            return command
    pytest.skip("no Python that nobody may run")


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    nobody = pwd.getpwnam("nobody")
    with open_folder() as folder:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        yield folder


@AS_ROOT
def test_an_ordinary_user_runs_it_and_kills_adopts_and_ends_it(nobodys_folder, as_nobody):
    directory = nobodys_folder / "pg"
    before = rights(nobodys_folder)
    with child_using(directory, *as_nobody) as child:
        assert child.says() == "ready"
        orphan = postmaster(directory)
        assert Path(f"/proc/{orphan}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
        child.kill()
    assert is_alive(orphan)
    with child_using(directory, *as_nobody) as child:
        assert child.says() == "ready"
        assert postmaster(directory) == orphan
        child.process.stdin.close()
        assert child.says() == "stopped"
        child.process.wait()
    assert processes_in(directory) == []
    assert rights(nobodys_folder) == before


@AS_ROOT
def test_root_and_the_user_who_owns_the_folder_take_turns_and_share(nobodys_folder, as_nobody):
    directory = nobodys_folder / "pg"
    with EmbeddedPostgres(directory) as server:
        assert Path(f"/proc/{postmaster(directory)}").stat().st_uid == directory.stat().st_uid
        with child_using(directory, *as_nobody) as child:
            assert child.says() == "ready"
            assert ask(server, "SELECT words FROM notes") == [("from the child",)]
            child.process.stdin.close()
            assert child.says() == "stopped"
    with child_using(directory, *as_nobody) as child:
        assert child.says() == "ready"
        with EmbeddedPostgres(directory) as server:
            assert len(ask(server, "SELECT words FROM notes")) == 2
        child.process.stdin.close()
        assert child.says() == "stopped"
    assert processes_in(directory) == []


@AS_ROOT
def test_a_database_of_another_user_is_refused_with_whose_it_is(
    nobodys_folder, as_nobody, template
):
    subprocess.run(["cp", "-a", template, nobodys_folder / "pg"], check=True)
    stranger = 12345
    subprocess.run(["chown", "-R", str(stranger), nobodys_folder / "pg" / "data"], check=True)
    nobody = pwd.getpwnam("nobody")
    for path in (nobodys_folder / "pg", *(nobodys_folder / "pg").glob("*.lo*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    child = subprocess.run(
        [*as_nobody, "-c", USER_PROGRAM, str(nobodys_folder / "pg")],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert f"belongs to user id {stranger}" in child.stderr
