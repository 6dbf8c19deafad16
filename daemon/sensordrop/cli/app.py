"""`sensordrop`: one verb a module, imported only when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from sensordrop.version import VERSION

VERBS = {
    "demo": "sensordrop.cli.demo",
    "init-db": "sensordrop.cli.init_db",
    "status": "sensordrop.cli.status",
    "version": "sensordrop.cli.version",
}
"""Every verb with its module, sorted. Each module has a click command named `command`."""

EPILOG = """
Exit codes: 0 done, 1 something failed, 2 usage or configuration, 3 no daemon or no ledger,
4 not permitted, 70 a mistake in sensordrop, 130 interrupted.
"""


class Verbs(click.Group):
    """The group of all verbs; looking one up imports its module."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Name all verbs."""
        return list(VERBS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(VERBS[cmd_name]).command
        return command


@click.group(cls=Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, "--version", message="sensordrop %(version)s")
def app() -> None:
    """Ask how deliveries stand, and prepare the ledger.

    The daemon itself is sensordropd.
    """


def main() -> None:
    """Run the command line; never returns."""
    app(prog_name="sensordrop")
