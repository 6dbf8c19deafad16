"""Which ledger a verb works on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from sensordrop.config import (
    ConfigurationError,
    DaemonConfig,
    DeliveryConfig,
    Problem,
    default_path,
    load,
    salvage,
    take_credentials,
)
from sensordrop.config.environment import DEFAULT_FOLDER
from sensordrop.control.address import SYSTEM_SOCKET, socket_path
from sensordrop.core.failure import LedgerRefusedError, LedgerUnavailableError
from sensordrop.exits import Exit
from sensordrop.local import local_folder

if TYPE_CHECKING:
    from sensordrop.adapters.ledger.ledger import PostgresLedger

Function = TypeVar("Function", bound=Callable[..., Any])

DATABASE_VARIABLE = "SENSORDROP_DATABASE_URL"
SOCKET = "sensordrop.socket"
"""Under which name click keeps what --socket says, for those verbs that ask the daemon."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a verb finds its ledger, and which station's deliveries it is about."""

    config: DaemonConfig
    directory: Path
    """Where an embedded PostgreSQL lives."""
    station: str | None
    """None where no configuration says it: then all stations are shown."""
    deliveries: tuple[DeliveryConfig, ...] = ()
    """What is configured beside the ledger; none where it is named by --local or --database alone."""
    socket: Path
    """Where its daemon can be asked, if one runs."""
    socket_named: bool = False
    """Somebody means this socket and no other."""
    ledger_named: bool = False
    """Somebody means this ledger and no other."""
    ledger_known: bool = True
    """False where a mistake in the configuration hides which ledger is meant: then only a daemon
    can be asked."""
    problems: tuple[Problem, ...] = ()
    """Mistakes in the configuration; then `deliveries` are not all there is."""

    def configured(self) -> tuple[DeliveryConfig, ...]:
        """Give `deliveries`; ends the program where mistakes hide them."""
        if self.problems:
            refuse(ConfigurationError(self.problems))
        return self.deliveries


def place_options(function: Function) -> Function:
    """Add the options of a verb that the daemon does, or the ledger where none runs."""
    return _SOCKET_OPTION(ledger_options(function))


def ledger_options(function: Function) -> Function:
    """Add the options that say which ledger is meant; of a verb that asks no daemon."""
    for option in (
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="Configuration folder or one delivery's file. "
            "Default: $SENSORDROP_CONFIG, then /etc/sensordrop.",
        ),
        click.option(
            "--local",
            type=click.Path(path_type=Path, file_okay=False),
            help="The folder that sensordropd --local was given.",
        ),
        click.option("--database", metavar="URL", help="The ledger: a postgresql:// URL."),
    ):
        function = option(function)
    return function


def _remember_socket(context: click.Context, _option: click.Parameter, value: Path | None) -> None:
    context.meta[SOCKET] = value


_SOCKET_OPTION = click.option(
    "--socket",
    type=click.Path(path_type=Path, readable=False),
    help="The daemon's control socket. Default: the configuration's.",
    expose_value=False,
    callback=_remember_socket,
)


def find_place(
    config: Path | None, local: Path | None, database: str | None, *, whole: bool = False
) -> Place:
    """Find the ledger, and where its daemon can be asked; see `_find`.

    A configuration with mistakes is told of in a line, and what can be read of it counts: the
    daemon may run on the one before. With `whole` it ends the program.
    """
    place = _find(config, local, database)
    if place.problems and whole:
        refuse(ConfigurationError(place.problems))
    if place.problems:
        _warn(place.problems)
    context = click.get_current_context(silent=True)
    named = context.meta.get(SOCKET) if context is not None else None
    if named is not None:
        return replace(place, socket=Path.cwd() / named, socket_named=True)
    return place


def _find(config: Path | None, local: Path | None, database: str | None) -> Place:
    """Find the ledger: --database, $SENSORDROP_DATABASE_URL, the configuration's, else our own.

    A configuration that nobody named counts only if it is readable. Ends the program with exit
    code 2 where what was named is none.
    """
    if local is not None:
        if config or database:
            raise click.UsageError("--local says where the ledger is; leave the others out")
        state = local_folder(local).state
        return place_of(DaemonConfig(state_directory=state))
    named = config or os.environ.get("SENSORDROP_CONFIG")
    path = config or default_path(os.environ)
    ledger = database or os.environ.get(DATABASE_VARIABLE)
    flags = {"database": ledger}
    if named or os.access(path, os.R_OK):
        return replace(_configured(path, flags), ledger_named=ledger is not None)
    place = replace(place_of(_our_own(flags)), ledger_named=ledger is not None)
    if place.config.control_socket is None and SYSTEM_SOCKET.exists():
        # The configuration is not for this user's eyes, and the daemon's socket may be.
        return replace(place, socket=SYSTEM_SOCKET, station=place.config.station)
    return place


def _configured(path: Path, flags: dict[str, str | None]) -> Place:
    """Give the place that a configuration says, or what can be read of it."""
    found: tuple[Problem, ...] = ()
    try:
        take_credentials(path, os.environ)
    except ConfigurationError as error:
        found = error.problems
    try:
        configuration, _ = load(
            path, environ=os.environ, flags=flags, allow_relative=not path.is_dir()
        )
    except ConfigurationError:
        return _salvaged(path, flags, found)
    if found:
        return _salvaged(path, flags, found)
    if path.is_dir() or _says_where(configuration.daemon):
        return replace(place_of(configuration.daemon), deliveries=configuration.deliveries)
    return replace(_place_beside(flags), deliveries=configuration.deliveries)


def _salvaged(path: Path, flags: dict[str, str | None], found: tuple[Problem, ...] = ()) -> Place:
    """Give what can be read of a configuration with mistakes; `found` were in its credentials."""
    try:
        saved = salvage(path, environ=os.environ, flags=flags, more=found)
    except ConfigurationError as error:
        refuse(error)
    if not path.is_dir() and saved.where and not _says_where(saved.daemon):
        return replace(_place_beside(flags), problems=saved.problems)
    place = place_of(saved.daemon)
    return replace(
        place,
        station=place.station if saved.who else None,
        ledger_known=saved.where,
        problems=saved.problems,
    )


def _warn(problems: Sequence[Problem]) -> None:
    count = len(problems)
    more = f", and {count - 1} more" if count > 1 else ""
    click.echo(
        f"the configuration is broken: {problems[0]}{more} (sensordrop config check tells all); "
        "a daemon that runs goes on with the one before",
        err=True,
    )


def daemon_for(
    path: Path | None, daemon: DaemonConfig, flags: dict[str, str | None]
) -> DaemonConfig:
    """Give the daemon's settings for what was loaded from `path`.

    A delivery's file says nothing about the ledger. It is what the environment or flags say, that
    of this machine's configuration folder where it is for this user to use, else our own.
    """
    if (path is not None and path.is_dir()) or _says_where(daemon):
        return daemon
    place = _place_beside(flags)
    if place.problems:
        refuse(ConfigurationError(place.problems))
    return place.config


def is_the_services(path: Path) -> bool:
    """Tell whether a configuration is the one that the installed service runs on."""
    return path.absolute() == DEFAULT_FOLDER


def own_home() -> Path:
    """Give the folder in which this user's own ledger is."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "sensordrop"


def hand_station() -> str | None:
    """Give the station that this user's runs by hand are of; None where there never was one."""
    try:
        return (own_home() / "station").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def receipt_directory(place: Place) -> Path:
    """Give where receipts and the key that signs them are: in the state directory, or with the
    user's own things where none is named and no daemon was ever installed.
    """
    state = place.config.state_directory
    default = DaemonConfig.model_fields["state_directory"].default
    return own_home() if state == default and not state.exists() else state


def _says_where(daemon: DaemonConfig) -> bool:
    """Tell whether somebody said where the ledger is, and it is for this user to use."""
    if daemon.database != "embedded":
        return True
    default = DaemonConfig.model_fields["state_directory"].default
    return daemon.state_directory != default or _is_ours(daemon)


def _is_ours(daemon: DaemonConfig) -> bool:
    return os.access(daemon.state_directory / "postgresql" / "data", os.R_OK | os.W_OK | os.X_OK)


def _place_beside(flags: dict[str, str | None]) -> Place:
    """Give the place that this machine's configuration folder says, if it is for this user to
    use, else our own.
    """
    folder = Path(DEFAULT_FOLDER)
    if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
        place = _configured(folder, flags)
        if place.problems or place.config.database != "embedded" or _is_ours(place.config):
            return place
    return place_of(_our_own(flags))


def _our_own(flags: dict[str, str | None]) -> DaemonConfig:
    try:
        configuration, _ = load(
            None, environ=os.environ, flags={**flags, "state_directory": str(own_home())}
        )
    except ConfigurationError as error:
        refuse(error)
    return configuration.daemon


def refuse(error: ConfigurationError) -> NoReturn:
    """Say what is wrong with a configuration, and end the program."""
    for problem in error.problems:
        click.echo(str(problem), err=True)
    sys.exit(Exit.USAGE)


def place_of(config: DaemonConfig) -> Place:
    """Say where a configured daemon's ledger is, and which station it speaks for."""
    station = config.station
    if station is None:
        try:
            kept = (config.state_directory / "station").read_text(encoding="utf-8").strip()
        except OSError:
            kept = ""
        station = kept or None
    return Place(
        config=config,
        directory=config.state_directory / "postgresql",
        station=station,
        socket=socket_path(config),
    )


@contextmanager
def ledger_at(place: Place, *, make: bool = False) -> Iterator[PostgresLedger]:
    """Open the ledger for a verb; its troubles end the program with one line and exit code 3.

    Only with `make` is an embedded one made where there is none.
    """
    if not place.ledger_known:
        click.echo(_unknown_ledger(place), err=True)
        sys.exit(Exit.USAGE)
    embedded = place.config.database == "embedded"
    if embedded and not make and not (place.directory / "data").exists():
        click.echo(
            f"there is no ledger in {place.config.state_directory}: name the daemon's with "
            "--local FOLDER, --config PATH or --database URL",
            err=True,
        )
        sys.exit(Exit.NO_LEDGER)
    from sensordrop.adapters.logs import configure
    from sensordrop.adapters.processes import EmbeddedServerError
    from sensordrop.composition.ledgers import open_ledger

    configure("console", "warning")
    try:
        with open_ledger(
            place.config, directory=place.directory, started_by="sensordrop", as_service=True
        ) as ledger:
            yield ledger
    except LedgerUnavailableError as error:
        click.echo(f"{error} — check `database`, and that PostgreSQL is running", err=True)
        sys.exit(Exit.NO_LEDGER)
    except (EmbeddedServerError, LedgerRefusedError) as error:
        click.echo(str(error), err=True)
        sys.exit(Exit.NO_LEDGER)


def _unknown_ledger(place: Place) -> str:
    context = click.get_current_context(silent=True)
    asks_daemon = context is not None and SOCKET in context.meta
    answers = f", and no daemon answers at {place.socket}" if asks_daemon else ""
    more = ", or a daemon's socket with --socket" if asks_daemon else ""
    return (
        f"which ledger is meant can't be read of that configuration{answers}: mend it, or name the "
        f"ledger with --database URL or --local FOLDER{more}"
    )
