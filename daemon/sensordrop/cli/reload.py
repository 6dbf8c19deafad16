"""`sensordrop reload`: have the daemon read its configuration again, and wait for what it says."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, NoReturn

import click

from sensordrop.adapters.state import RELOAD_FILE, holder_of
from sensordrop.config import default_path, state_directory_of
from sensordrop.core.terminal import printable
from sensordrop.exits import Exit
from sensordrop.local import local_folder

POLL_SECONDS = 0.1
WAIT_SECONDS = 60.0
"""How long the daemon may take: it reads some files and tells the ledger."""


PROGRAM = b"sensordropd"
"""What the command line of a process must name before it is sent a signal: a run by hand holds its
state directory, too, and has nothing to reload."""


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The daemon's configuration. Default: $SENSORDROP_CONFIG, then /etc/sensordrop.",
)
@click.option(
    "--state-directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="The daemon's state directory. Default: the configuration's.",
)
@click.option(
    "--local",
    type=click.Path(path_type=Path, file_okay=False),
    help="Refused: `sensordropd --local` has no configuration that could be read again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    config: Path | None, state_directory: Path | None, local: Path | None, as_json: bool
) -> None:
    """Have the daemon read its configuration again.

    Deliveries come, go and change while uploads run. One with a mistake changes nothing: every
    mistake is listed, and the exit code is 2. Needs the rights of the daemon's user, or root's.

    Example:  sensordrop reload
    """
    path = config or default_path(os.environ)
    state = state_directory or _given_by_systemd() or state_directory_of(path, os.environ)
    _refuse_local(local, state)
    asked = _ask(state)
    answer = _answer(state, asked)
    if as_json:
        told = {key: value for key, value in answer.items() if key not in ("pid", "began")}
        click.echo(json.dumps(told, ensure_ascii=False))
    elif answer["taken"]:
        click.echo(f"reloaded: {printable(answer['changes'])}")
    else:
        for problem in answer["problems"]:
            click.echo(printable(problem), err=True)
        click.echo("the configuration before stays in force", err=True)
    if not answer["taken"]:
        sys.exit(Exit.NO_LEDGER if answer["waits"] else Exit.USAGE)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Which process was asked, and when on the machine's monotonic clock."""

    pid: int
    at: float


def _refuse_local(local: Path | None, state: Path) -> None:
    """End the program where a daemon with --local is meant: what reloads others would stop it."""
    folder = local_folder(local or state.parent)
    if local is not None or (folder.state == state.absolute() and folder.ever_ran):
        raise click.UsageError(
            f"sensordropd --local {quote(str(folder.path))} has no configuration to read again: "
            "stop it and start it anew with what it is to do"
        )


def _given_by_systemd() -> Path | None:
    """Give the unit's state directory, where this is its ExecReload (systemd.exec(5))."""
    first = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


def _ask(state: Path) -> _Asked:
    """Send the signal to the process that holds the state directory, and to no other."""
    try:
        pid = holder_of(state)
        if pid is None:
            raise ProcessLookupError
        process = os.pidfd_open(pid)  # from here on the number can't become another process's
        try:
            command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if PROGRAM not in command_line or holder_of(state) != pid:
                raise ProcessLookupError
            at = time.monotonic()
            signal.pidfd_send_signal(process, signal.SIGHUP)
        finally:
            os.close(process)
    except PermissionError:
        _end(f"only root and the daemon's user may do that (state directory {state})",
             Exit.NOT_PERMITTED)  # fmt: skip
    except (FileNotFoundError, ProcessLookupError):
        _end(f"no sensordropd runs on the state directory {state}", Exit.NO_LEDGER)
    return _Asked(pid=pid, at=at)


def _answer(state: Path, asked: _Asked) -> dict[str, Any]:
    """Wait for what came of a reload that began after it was asked for."""
    give_up = time.monotonic() + WAIT_SECONDS
    while True:
        answer = _read(state / RELOAD_FILE)
        if answer is not None and answer["pid"] == asked.pid and answer["began"] >= asked.at:
            return answer
        try:
            os.kill(asked.pid, 0)
        except ProcessLookupError:
            _end("the daemon ended meanwhile: its log says why", Exit.NO_LEDGER)
        if time.monotonic() > give_up:
            _end(f"the daemon has not answered for {WAIT_SECONDS:.0f} seconds: its log says what "
                 "it does", Exit.FAILED)  # fmt: skip
        time.sleep(POLL_SECONDS)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return told


def _end(words: str, code: Exit) -> NoReturn:
    click.echo(words, err=True)
    sys.exit(code)
