"""Lists as they are shown: whole, and with the command that shows what follows."""

from __future__ import annotations

import click
from click.testing import CliRunner
from rich.table import Table

from sensordrop.cli.place import place_options
from sensordrop.cli.tables import next_page, show_table


@click.command()
@place_options
@click.option("--state")
@click.option("--limit", type=int, default=50)
@click.option("--after", type=int)
def files(**_given):
    click.echo(next_page(7))


def following(*given: str) -> str:
    done = CliRunner().invoke(files, given, prog_name="sensordrop files")
    assert done.exit_code == 0, done.output
    return done.output.strip()


def test_the_next_page_is_of_the_same_list():
    assert following() == "sensordrop files --after 7"
    assert following("--local", "/a b", "--limit", "2", "--after", "9") == (
        "sensordrop files --local '/a b' --limit 2 --after 7"
    )
    assert following("--socket", "/run/x.sock", "--state", "failed") == (
        "sensordrop files --state failed --socket /run/x.sock --after 7"
    )


def test_the_next_page_does_not_repeat_a_password():
    assert following("--database", "postgresql://me:secret@db/x") == (
        "sensordrop files --database URL --after 7"
    )


def test_a_table_that_is_wider_than_the_terminal_is_not_cut(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    table = Table(box=None, pad_edge=False)
    for name in ("session", "delivery"):
        table.add_column(name, no_wrap=True)
    table.add_row("1", "a-delivery-with-a-long-name")
    show_table(table)
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["session", "delivery"]
    assert second.split() == ["1", "a-delivery-with-a-long-name"]
