"""`sensordrop status --watch`: how all stands, drawn anew once a second."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from sensordrop.adapters.clock import local_zone
from sensordrop.cli.desk import LedgerDesk, desk_at, is_answered
from sensordrop.cli.place import Place
from sensordrop.cli.status import remarks, show, table_of
from sensordrop.core.terminal import printable
from sensordrop.exits import Exit

with suppress(ModuleNotFoundError):  # Windows has none
    import termios
    import tty

TURN_SECONDS = 1.0

Draw = Callable[[dict[str, Any] | None, str], None]
"""Shows what was told (None: nothing could be asked), and a remark."""
Wait = Callable[[], bool]
"""Waits for the next turn; tells whether somebody wants it to end."""


def keep_watching(place: Place, *, as_json: bool) -> None:
    """Show how all stands, until q or Ctrl-C. Whatever stops answering is asked again.

    Ends the program where the first question already gets no answer.
    """
    on_screen = sys.stdout.isatty() and not as_json and "termios" in globals()
    try:
        if on_screen:
            with _screen() as (draw, wait):
                _watch(place, draw, wait)
        else:
            _watch(place, _plain(as_json=as_json), _sleep)
    except KeyboardInterrupt:
        return  # that is how one ends it
    except BrokenPipeError:
        # Whoever read it has enough. Python would complain at its end of what it can't flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _watch(place: Place, draw: Draw, wait: Wait) -> None:
    asked = False
    while True:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), desk_at(place) as desk:
                while True:
                    draw(desk.ask("status"), said.getvalue())
                    asked = True
                    if wait():
                        return
                    if isinstance(desk, LedgerDesk) and is_answered(place):
                        break
        except SystemExit as end:
            if not asked or end.code != Exit.NO_LEDGER:
                sys.stderr.write(said.getvalue())
                raise
            draw(None, said.getvalue())
            if wait():
                return


def _sleep() -> bool:
    time.sleep(TURN_SECONDS)
    return False


def _plain(*, as_json: bool) -> Draw:
    def draw(told: dict[str, Any] | None, remark: str) -> None:
        if remark:
            sys.stderr.write(remark)
        if told is not None:
            if not as_json:
                click.echo(f"{datetime.now(local_zone()):%Y-%m-%d %H:%M:%S}")
            show(told, as_json=as_json)
        sys.stdout.flush()

    return draw


@contextmanager
def _screen() -> Iterator[tuple[Draw, Wait]]:
    """Draw on a screen of its own, and give the old one back at the end."""
    console = Console(file=sys.stdout, highlight=False)
    last: list[dict[str, Any]] = []
    with _keys() as wait, Live(console=console, screen=True, auto_refresh=False) as live:

        def draw(told: dict[str, Any] | None, remark: str) -> None:
            if told is not None:
                last[:] = [told]
            now = f"{datetime.now(local_zone()):%Y-%m-%d %H:%M:%S}   q ends it"
            parts: list[Any] = [Text(now, style="dim"), Text()]
            for each in last:
                parts.append(table_of(each))
                parts += [Text(line) for line in remarks(each)]
            if remark:
                words = printable(remark.strip().replace("\n", " "))
                parts += [Text(), Text(words, style="red")]
            live.update(Group(*parts), refresh=True)

        yield draw, wait


@contextmanager
def _keys() -> Iterator[Wait]:
    """Give a wait that ends at the key q, where there is a keyboard."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)

    def wait() -> bool:
        give_up = time.monotonic() + TURN_SECONDS
        while (left := give_up - time.monotonic()) > 0:
            if select.select([keyboard], [], [], left)[0]:
                typed = os.read(keyboard, 100)
                if not typed or b"q" in typed.lower():
                    return True
        return False

    try:
        yield wait
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
