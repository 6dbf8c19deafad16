"""`sensordrop`: one verb a module, imported only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from sensordrop.exits import Exit
from sensordrop.version import VERSION

GROUPS = {
    "How it stands": {
        "status": ("sensordrop.cli.status", "Show how every delivery stands."),
        "deliveries": ("sensordrop.cli.deliveries", "List where deliveries take from and put to."),
        "sessions": ("sensordrop.cli.sessions", "List the bursts of work."),
        "session": ("sensordrop.cli.session", "Show one session, and what failed in it."),
        "files": ("sensordrop.cli.files", "List files by state, with what is wrong."),
        "why": ("sensordrop.cli.why", "Tell one file's whole story, and what holds it up."),
        "report": ("sensordrop.cli.report", "Show the season, and what is not safe yet."),
        "logs": ("sensordrop.cli.logs", "Show what the daemon logged."),
    },
    "Is it all stored?": {
        "receipt": (
            "sensordrop.cli.receipt", "Say whether a card can be wiped now, and sign for it.",
        ),
        "verify": (
            "sensordrop.cli.verify", "Compare what is stored with the ledger and the disk.",
        ),
    },
    "Uploads by hand": {
        "upload": ("sensordrop.cli.upload", "Upload a folder now, without the daemon."),
        "pipeline": ("sensordrop.cli.pipeline", "Upload, retry and tell, one after the other."),
        "retry": ("sensordrop.cli.retry", "Have files tried again that failed."),
        "trigger": ("sensordrop.cli.trigger", "Tell once more that a session has ended."),
    },
    "Steer the daemon": {
        "pause": ("sensordrop.cli.pause", "Stop the uploads of a delivery, or of all."),
        "resume": ("sensordrop.cli.resume", "Let uploads go on that were paused."),
        "bandwidth": ("sensordrop.cli.bandwidth", "Show or set how fast uploads may go."),
        "rescan": ("sensordrop.cli.rescan", "Have a delivery's folder swept now."),
        "reload": ("sensordrop.cli.reload", "Have the daemon read its configuration again."),
    },
    "Set up and look after": {
        "demo": ("sensordrop.cli.demo", "Drop two made-up cards and see every file arrive."),
        "config": (
            "sensordrop.cli.config", "Check the configuration, show it, or print an example.",
        ),
        "doctor": (
            "sensordrop.cli.doctor", "Check everything that uploads need, and say what helps.",
        ),
        "init-db": (
            "sensordrop.cli.init_db", "Make the ledger's tables, or bring them up to date.",
        ),
        "version": ("sensordrop.cli.version", "Say which version this is."),
    },
}  # fmt: skip
"""The verbs as --help groups them, each with its module and what it is for.

A module's verb is named `command`.
"""

VERBS = dict(sorted((name, verb) for group in GROUPS.values() for name, verb in group.items()))
"""Every verb, sorted: for whoever looks one up."""

EPILOG = """
Each verb has its own --help.

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
        # A width for all groups, so that what the verbs are for stands in one column.
        width = max(map(len, VERBS))
        for title, group in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), purpose) for name, (_, purpose) in group.items()]
                )


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
