"""Loads queries.sql: each query by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

_HEADING = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def _all() -> dict[str, str]:
    text = files(__package__).joinpath("queries.sql").read_text(encoding="utf-8")
    pieces = _HEADING.split(text)[1:]
    return dict(zip(pieces[::2], (sql.strip() for sql in pieces[1::2]), strict=True))


def query(name: str) -> str:
    """Give the SQL of a named query. Raises KeyError for a name that is not there."""
    return _all()[name]


def clients_of(clients: Sequence[str] | None) -> list[str] | None:
    """Give the clients that a list is limited to as a query takes them; None: all."""
    return None if clients is None else list(clients)
