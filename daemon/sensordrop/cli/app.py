"""`sensordrop`: one verb a module, imported only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from sensordrop.exits import Exit
from sensordrop.version import VERSION

VERBS = {
    "bandwidth": ("sensordrop.cli.bandwidth", "Show or set how fast uploads may go."),
    "config": ("sensordrop.cli.config", "Check the configuration, show it, or print an example."),
    "deliveries": ("sensordrop.cli.deliveries", "List where deliveries take from and put to."),
    "demo": ("sensordrop.cli.demo", "Drop two made-up cards and see every file arrive."),
    "doctor": ("sensordrop.cli.doctor", "Check everything that uploads need, and say what helps."),
    "files": ("sensordrop.cli.files", "List files by state, with what is wrong."),
    "init-db": ("sensordrop.cli.init_db", "Make the ledger's tables, or bring them up to date."),
    "logs": ("sensordrop.cli.logs", "Show what the daemon logged."),
    "pause": ("sensordrop.cli.pause", "Stop the uploads of a delivery, or of all."),
    "pipeline": ("sensordrop.cli.pipeline", "Upload, retry and tell, one after the other."),
    "receipt": ("sensordrop.cli.receipt", "Say whether a card can be wiped now, and sign for it."),
    "reload": ("sensordrop.cli.reload", "Have the daemon read its configuration again."),
    "report": ("sensordrop.cli.report", "Show the season, and what is not safe yet."),
    "rescan": ("sensordrop.cli.rescan", "Have a delivery's folder swept now."),
    "resume": ("sensordrop.cli.resume", "Let uploads go on that were paused."),
    "retry": ("sensordrop.cli.retry", "Have files tried again that failed."),
    "session": ("sensordrop.cli.session", "Show one session, and what failed in it."),
    "sessions": ("sensordrop.cli.sessions", "List the bursts of work."),
    "status": ("sensordrop.cli.status", "Show how every delivery stands."),
    "upload": ("sensordrop.cli.upload", "Upload a folder now, without the daemon."),
    "trigger": ("sensordrop.cli.trigger", "Tell once more that a session has ended."),
    "verify": ("sensordrop.cli.verify", "Compare what is stored with the ledger and the disk."),
    "version": ("sensordrop.cli.version", "Say which version this is."),
    "why": ("sensordrop.cli.why", "Tell one file's whole story, and what holds it up."),
}
"""Every verb with its module and what it is for, sorted. A module's verb is named `command`."""

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
        command: click.Command = import_module(VERBS[cmd_name][0]).command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing any of them."""
        with formatter.section("Verbs (each has its own --help)"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in VERBS.items()])


@click.group(cls=Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, "--version", message="sensordrop %(version)s")
def app() -> None:
    """See how uploads stand, check what is stored, and steer the daemon.

    The daemon itself is sensordropd.
    """


def main() -> None:
    """Run the command line; never returns."""
    try:
        sys.exit(app.main(prog_name="sensordrop", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(Exit.INTERRUPTED)
