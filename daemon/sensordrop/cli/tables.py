"""Tables and pages of lists, as the verbs that list things show them."""

from __future__ import annotations

import sys
from shlex import quote
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from sensordrop.cli.place import SOCKET

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 250
"""Columns that a table may take where nobody looks at a terminal of a width: a file, a pipe."""


def show_table(table: Table) -> None:
    """Print a table whole.

    Where it is wider than the terminal its lines wrap: numbers that are cut off say nothing.
    """
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(file=sys.stdout, highlight=False)
    wide = console.options.update(width=WIDE)
    needed = Measurement.get(console, wide, table).maximum
    console.width = min(WIDE, max(console.width, needed))
    console.print(table)


def next_page(after: int) -> str:
    """Give the command that shows the page which follows this one: all that was given, and where."""
    context = click.get_current_context()
    words = [context.command_path]
    for each in context.command.params:
        name = each.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in {"after", "database", "socket"}:
            words += [each.opts[-1], quote(str(context.params[name]))]
    if context.get_parameter_source("database") is ParameterSource.COMMANDLINE:
        words += ["--database", "URL"]  # it may hold a password
    if (socket := context.meta.get(SOCKET)) is not None:
        words += ["--socket", quote(str(socket))]
    return " ".join([*words, "--after", str(after)])
