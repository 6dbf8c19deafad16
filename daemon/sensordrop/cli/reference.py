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

EVENTS = """\
### What `--json` prints

`upload` and `pipeline`, and `retry` where it does the work itself, print an event on each line: `event`, `level`, and the keys below. Events that are
not named here are those of the daemon's log. Keys are added, never renamed.

| event | when | its keys |
|---|---|---|
| `run_started` | the run has its session | `session`, `delivery`, `retries`, `retry_delay_seconds`, `folder`, `profile`, `bucket`, `prefix` |
| `run_check` | for each check before anything is sent | `check`, `outcome` (`ok`, `notice`, `failed`), `found`, `hint` |
| `run_retries` | what had failed before is tried again | `files` |
| `run_stored_before` | the checks are done | `files`: stored before this run |
| `run_progress` | twice a second | `session`, `total`, `uploaded`, `skipped`, `failed`, `bytes_uploaded`, `files_per_second` |
| `file_failed` | an attempt failed, another will follow | `delivery`, `path`, `attempts`, `error_class`, `problem`, `hint`, `next_attempt_at` |
| `file_quarantined` | a file failed for good | `delivery`, `path`, `attempts`, `error_class`, `problem`, `hint` |
| `file_stored` | with `--verbose`, for each file | `delivery`, `path` |
| `file_skipped` | the same, where the store had it | `delivery`, `path`, `evidence` |
| `run_dry` | instead of all that, with `--dry-run` | `folder`, `bucket`, `prefix`, `files`, `new`, `changed`, `ignored`, `unsettled`, `size_bytes` |
| `run_handed_over` | a daemon has the delivery: it is followed | `delivery`, `folder` |
| `note` | a line between steps, and before a round of retries | `mark`, `words` |
| `run_ended` | the last line of a run | `how`, `words`, `well`, `session`, `delivery`, `dry_run`, `files`, `uploaded`, `skipped`, `failed`, `remaining`, `bytes_uploaded`, `failures`, `untold`, `retry` |

`how` is one of `done`, `partial`, `missing`, `paused`, `offline`, `blocked`, `no-ledger` and `interrupted`, and `words` says why. `well`: everything that
was found is stored. `failures` has `error_class`, `files` and an `example` of each kind that is in quarantine; `retry` is the command that tries them
again (null: nothing failed; a URL with a password stands in it as `URL`), `untold` the endpoint that was not told yet.
"""
"""The part of the page about what programs read of a run by hand."""

MORE = {"upload": EVENTS}
"""What stands below the words of a verb's --help."""


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
    if name in MORE:
        blocks.append(MORE[name])
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
