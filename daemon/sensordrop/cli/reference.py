"""Writes docs/cli.md: every verb with the words of its --help.

python -m sensordrop.cli.reference docs/cli.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sensordrop.cli.app import VERBS, app

WIDTH = 100
"""Columns of the page, whatever terminal it is written from."""
INTRODUCTION = """\
# The command line

`sensordrop` is everything but the daemon: it uploads a folder by hand, shows how things stand, and steers `sensordropd`. This page is
written by `python -m sensordrop.cli.reference docs/cli.md` from the words of `--help`.

Which ledger a verb works on: `--database`, `SENSORDROP_DATABASE_URL`, that of the configuration, else one in the user's data folder
(`$XDG_DATA_HOME/sensordrop`, by default `~/.local/share/sensordrop`). A delivery's file says nothing about the ledger.

While the configuration has a mistake, verbs that look or steer (`status`, `why`, `files`, `pause`, …) say so in a line and work: what can
be read says where daemon and ledger are. Where it hides which ledger is meant, only a daemon is asked. Verbs that need the deliveries'
settings (`upload`, `verify`, `receipt`) list all mistakes and exit with 2.
"""


def page() -> str:
    """Give the whole page."""
    parts = [INTRODUCTION, _block("sensordrop", app)]
    for name in VERBS:
        command = app.get_command(click.Context(app), name)
        assert command is not None, name
        parts.append(section(name, command))
    return "\n".join(parts)


def section(name: str, command: click.Command) -> str:
    """Give the part of the page about one verb."""
    blocks = [_block(path, each) for path, each in _all(f"sensordrop {name}", command)]
    return "\n".join([f"## {name}\n", *blocks])


def _all(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Give a command and all below it."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            if below is not None:
                yield from _all(f"{path} {name}", below)


def _block(path: str, command: click.Command) -> str:
    context = click.Context(
        command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )  # fmt: skip
    return f"```\n{command.get_help(context).rstrip()}\n```\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
