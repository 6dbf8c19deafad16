"""sensordropd: the composition root of the daemon, and its exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from shlex import quote

import click
import structlog

from sensordrop.config import (
    Configuration,
    ConfigurationError,
    Notice,
    default_path,
    load,
    take_credentials,
)
from sensordrop.exits import Exit
from sensordrop.local import BUCKET, RUNNING, LocalFolder, local_environment, local_folder, program
from sensordrop.service import StopSignals, serve
from sensordrop.version import VERSION

_log = structlog.get_logger()

EPILOG = """
Exit codes: 0 stopped in order, 1 something failed, 2 usage or configuration, 3 no ledger,
4 not permitted, 70 a mistake in sensordrop, 130 told to stop twice.
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Configuration folder (sensordrop.yaml and conf.d/), or one delivery's file. "
    "Default: $SENSORDROP_CONFIG, then /etc/sensordrop.",
)
@click.option(
    "--local",
    type=click.Path(path_type=Path, file_okay=False),
    help="Run with everything embedded under this folder: watch FOLDER/drop, keep the objects "
    "in FOLDER/objects and the ledger in FOLDER/state.",
)
@click.option(
    "--drop",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --local: watch this folder instead of FOLDER/drop. It is only read.",
)
@click.option("--check-config", is_flag=True, help="Say what is wrong with the configuration.")
@click.option("--database", metavar="URL", help="The ledger: 'embedded' or a postgresql:// URL.")
@click.option("--state-directory", metavar="FOLDER", help="What must outlive a restart.")
@click.option("--log-format", metavar="FORMAT", help="console, json or journal.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.version_option(VERSION, "--version", message="sensordropd %(version)s")
def cli(
    config: Path | None,
    local: Path | None,
    drop: Path | None,
    check_config: bool,
    database: str | None,
    state_directory: str | None,
    log_format: str | None,
    log_level: str | None,
) -> None:
    """Take what is dropped into watched folders into S3, provably whole.

    Give it a configuration folder:  sensordropd --config /etc/sensordrop

    Or try it with everything embedded:  sensordropd --local ~/sensordrop-try
    """
    if local is not None and (config or database or state_directory):
        raise click.UsageError("--local decides where everything is; leave the others out")
    if drop is not None and local is None:
        raise click.UsageError("--drop goes with --local; elsewhere local_directory says it")
    logs = {"log_format": log_format, "log_level": log_level}
    if local is not None:
        folder = local_folder(local, drop)
        if overlap := folder.overlap():
            raise click.UsageError(overlap)
        sys.exit(run_local(folder, check_only=check_config, **logs))
    flags = {"database": database, "state_directory": state_directory, **logs}
    path = config or default_path(os.environ)

    def read() -> tuple[Configuration, tuple[Notice, ...]]:
        return load(path, environ=os.environ, flags=flags, deliveries_required=True)

    try:
        take_credentials(path, os.environ)
        configuration, notices = read()
    except ConfigurationError as error:
        sys.exit(_refuse(error))
    if check_config:
        sys.exit(_approve(configuration, notices))
    sys.exit(serve(configuration, notices, load=read))


def main() -> None:
    """Run sensordropd; never returns."""
    cli(prog_name="sensordropd")


def _refuse(error: ConfigurationError) -> Exit:
    for problem in error.problems:
        click.echo(str(problem), err=True)
    count = len(error.problems)
    click.echo(f"{count} problem{'s' * (count != 1)} in the configuration", err=True)
    return Exit.USAGE


def _approve(configuration: Configuration, notices: tuple[Notice, ...]) -> Exit:
    for notice in notices:
        click.echo(f"notice: {notice}", err=True)
    names = [d.name for d in configuration.deliveries]
    what = "1 delivery" if len(names) == 1 else f"{len(names)} deliveries"
    click.echo(f"the configuration is right: {what} ({', '.join(names)})")
    return Exit.DONE


def run_local(folder: LocalFolder, *, check_only: bool = False, **flags: object) -> Exit:
    """Run with everything embedded under one folder, until told to stop."""
    from sensordrop.adapters.local_s3 import LocalS3

    try:
        configuration, notices = folder.configuration(os.environ, **flags)
        if check_only:
            return _approve(configuration, notices)
        folder.make()
    except ConfigurationError as error:
        return _refuse(error)
    except OSError as error:
        click.echo(f"{error.filename} can't be made: {error.strerror}", err=True)
        return Exit.FAILED
    environment = local_environment(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    stop = StopSignals()
    local = LocalS3(
        folder.state / "s3",
        folder.objects,
        log=lambda text: _log.info("embedded_s3", message=text),
        stop=stop,
    )

    def greet() -> None:
        socket = folder.state / "postgresql" / "socket"
        click.echo(
            f"sensordrop {VERSION} {RUNNING}\n"
            f"  drop cards here:      {folder.drop}\n"
            f"  the objects are here: {folder.objects / BUCKET}\n"
            f"  S3 address:           {local.endpoint_url}  (bucket {BUCKET})\n"
            f"  ledger:               psql -h {quote(str(socket))} -U sensordrop sensordrop\n"
            f"  how it stands:        {program('sensordrop')} status --local {quote(str(folder.path))}\n"
            "Ctrl-C stops it.",
        )
        sys.stdout.flush()

    return serve(configuration, notices, local=local, stop=stop, ready=greet)


if __name__ == "__main__":
    main()
