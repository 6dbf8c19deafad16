"""Runs the daemon on a configuration, from the first lock to the last."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
import structlog

from sensordrop.config import Configuration, Notice
from sensordrop.core.crash import killed_for_memory
from sensordrop.core.failure import LedgerRefusedError, LedgerUnavailableError
from sensordrop.core.terminal import printable
from sensordrop.engine.signal_flag import SignalFlag
from sensordrop.exits import Exit
from sensordrop.ports.life import ServiceManager
from sensordrop.version import VERSION

if TYPE_CHECKING:
    from sensordrop.adapters.local_s3 import LocalS3
    from sensordrop.adapters.state import StateDirectory
    from sensordrop.adapters.trail import WorkTrail
    from sensordrop.composition.daemon import Daemon
    from sensordrop.reloading import Load

LEDGER_RETRY_SECONDS = 1.0
"""How often a daemon that starts without its ledger tries to reach it."""

_log = structlog.get_logger()


class StopSignals:
    """Counts the signals to stop: the first means in order, the second now. A `StopFlag`."""

    def __init__(self, *, hang_up: Callable[[], None] | None = None) -> None:
        """`hang_up` is called at SIGHUP, in the signal handler; None: SIGHUP means stop.

        Where a terminal was closed, which sends the same signal, it means stop in any case.
        """
        self._hang_up = hang_up
        self._terminal = False
        self._first = SignalFlag()
        self._second = False
        self._on_second: Callable[[], None] | None = None

    def install(self) -> None:
        """Take the signals over. Only in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means what it says
            self._terminal = _has_terminal()
            signal.signal(signal.SIGHUP, self._take_hang_up)
        # A writer that opens a file while we hold its lease for two system calls makes the
        # kernel send SIGIO, which would end the process (fcntl(2), "Leases").
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        # A watchdog that bites asks for every thread's place first. Not a crash report: no file
        # is to blame for a daemon that hangs.
        faulthandler.register(signal.SIGQUIT, file=2, all_threads=True, chain=True)

    def is_set(self) -> bool:
        """Tell whether to stop."""
        return self._first.is_set()

    @property
    def now(self) -> bool:
        """Tell whether to stop at once."""
        return self._second

    def wait(self, seconds: float) -> bool:
        """Wait for the first signal, at most so long; tell whether it came."""
        return self._first.wait(seconds)

    def on_second(self, call: Callable[[], None]) -> None:
        """Have something called at the second signal; it must only set flags."""
        self._on_second = call
        if self._second:  # it came before anybody wanted to hear of it
            call()

    def _take_hang_up(self, number: int, frame: FrameType | None) -> None:
        if self._hang_up is None or (self._terminal and not _has_terminal()):
            self._take(number, frame)
        else:
            self._hang_up()

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if not self._first.is_set():
            self._first.set()
            return
        self._second = True
        if self._on_second is not None:
            self._on_second()


def _has_terminal() -> bool:
    """Tell whether somebody sits at a terminal that we were started from."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def serve(
    configuration: Configuration,
    notices: Sequence[Notice],
    *,
    local: LocalS3 | None = None,
    stop: StopSignals | None = None,
    ready: Callable[[], None] | None = None,
    load: Load | None = None,
) -> Exit:
    """Run the daemon until it is told to stop. Blocks; only in the main thread.

    `load` reads the configuration anew at SIGHUP; without it, SIGHUP means stop.
    `local` is the embedded S3 server that all deliveries go to, if there is one. `ready` is
    called when the services are about to start. Every failure to start is one line on standard
    error and an exit code.
    """
    from sensordrop.adapters.logs import configure
    from sensordrop.adapters.notify_socket import NotifySocket
    from sensordrop.adapters.processes import EmbeddedServerError, EmbeddedServerInterruptedError
    from sensordrop.adapters.state import StateDirectory, StateDirectoryError
    from sensordrop.adapters.trail import WorkTrail
    from sensordrop.composition.daemon import Daemon
    from sensordrop.composition.ledgers import open_ledger
    from sensordrop.engine.reloader import Asked
    from sensordrop.engine.supervisor import ServiceGaveUpError

    config = configuration.daemon
    manager = NotifySocket.from_environment(os.environ)
    configure(config.log_format, config.log_level)
    asked = Asked()
    stop = stop or StopSignals(hang_up=None if load is None else asked.ask)
    stop.install()
    try:
        with ExitStack() as stack:
            state = StateDirectory(config.state_directory)
            state.hold()
            stack.callback(state.release)
            crash = _crash_before(state)
            state.report_crashes()
            _make_receipt_key(config.state_directory)
            for notice in notices:
                _log.warning("configuration_notice", notice=str(notice))
            if local is not None:
                stack.enter_context(local)
                for delivery in configuration.deliveries:
                    local.create_bucket(delivery.bucket_name)
            directory = config.state_directory / "postgresql"
            daemon = Daemon(
                configuration=configuration,
                ledger=stack.enter_context(open_ledger(config, directory=directory, stop=stop)),
                station=config.station or state.station(),
                instance=state.instance(),
                local=local,
                manager=manager,
                load=load,
                asked=asked,
                note_reload=state.note_reload,
            )
            if _register(daemon, stop, manager, crash):
                trail = WorkTrail(state.trail)
                stack.callback(trail.close)
                _work(daemon, configuration, stop, ready, trail)
            _log.info("daemon_stopped")
    except StateDirectoryError as error:
        return _say(error, Exit.FAILED)
    except EmbeddedServerInterruptedError:
        _log.info("daemon_stopped", note="before it had started")
    except (EmbeddedServerError, LedgerRefusedError) as error:
        return _say(error, Exit.NO_LEDGER)
    except ServiceGaveUpError as error:
        return _say(error, Exit.BUG)
    return Exit.INTERRUPTED if stop.now else Exit.DONE


def _make_receipt_key(state: Path) -> None:
    """Make the key that receipts are signed with at the very first start: its public half can be
    kept by others before the first receipt is theirs to check. What makes keys takes a while to
    load, so it is only asked where there is none.
    """
    from sensordrop.adapters.state import RECEIPT_KEY

    if (state / RECEIPT_KEY).exists():
        return
    from sensordrop.adapters.receipt_key import KeyProblemError, receipt_key

    try:
        _log.info("receipt_key_made", public_key=receipt_key(state).public)
    except KeyProblemError as error:  # files can be stored all the same
        _log.warning("receipt_key_missing", problem=str(error))


@dataclass(frozen=True, kw_only=True)
class _Crash:
    """What is known of the death of the process before."""

    shown: bool
    in_work: Sequence[int] | None


def _crash_before(state: StateDirectory) -> _Crash:
    """Find out whether the process before died of its work, and tell it."""
    from sensordrop.adapters.trail import boot_id, left_in_work, oom_kills

    report = state.crash_of_predecessor()
    if report is not None:
        _log.error("predecessor_crashed", report=report)
    left = left_in_work(state.trail)
    in_work = None if left is None else left.upload_ids
    killed = killed_for_memory(left, boot_id=boot_id(), oom_kills=oom_kills())
    if killed:
        _log.error("predecessor_killed", files_in_work=len(in_work or ()),
                   hint="the kernel ended it for its memory: raise MemoryMax of the service or "
                   "lower max_workers; a file that does it again and again is worked on alone")  # fmt: skip
    return _Crash(shown=report is not None or killed, in_work=in_work)


def _work(
    daemon: Daemon,
    configuration: Configuration,
    stop: StopSignals,
    ready: Callable[[], None] | None,
    trail: WorkTrail,
) -> None:
    stop.on_second(daemon.stop_now)
    names = [d.name for d in configuration.deliveries]
    _log.info("daemon_started", version=VERSION, deliveries=names)
    if ready is not None:
        ready()
    daemon.run(stop, trail)


def _register(daemon: Daemon, stop: StopSignals, manager: ServiceManager, crash: _Crash) -> bool:
    """Register in the ledger, however long it takes to be there; False when told to stop."""
    told = False
    manager.status("starting: the ledger is brought up to date")
    while not stop.is_set():
        try:
            daemon.register(crashed=crash.shown, in_work=crash.in_work)
        except LedgerUnavailableError as error:
            manager.status(f"waiting for the ledger: {printable(str(error))}")
            if not told:
                _log.warning(
                    "ledger_unavailable",
                    problem=str(error),
                    hint="check `database` in the configuration; it is tried again until it works",
                )
                told = True
            stop.wait(LEDGER_RETRY_SECONDS)
        else:
            return True
    return False


def _say(error: Exception, code: Exit) -> Exit:
    click.echo(str(error), err=True)
    sys.stderr.flush()
    return code
