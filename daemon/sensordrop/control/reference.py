"""Renders the tables of docs/control.md from the routes and the exit codes themselves.

    python -m sensordrop.control.reference docs/control.md

rewrites the tables in the document. A test holds the document equal to what is rendered here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from sensordrop.control.routes import ROUTES, Parameter
from sensordrop.exits import MEANINGS


def routes_table() -> str:
    """Give a Markdown table of all routes."""
    lines = ["| | route | who may | what it does | takes |", "|---|---|---|---|---|"]
    for route in ROUTES:
        takes = ", ".join(_named(each) for each in route.parameters) or "nothing"
        who = f"{route.role.value}s"
        lines.append(f"| {route.method} | `{route.path}` | {who} | {route.summary} | {takes} |")
    return "\n".join(lines) + "\n"


def exits_table() -> str:
    """Give a Markdown table of all exit codes."""
    lines = ["| code | meaning |", "|---|---|"]
    lines += [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(lines) + "\n"


def rewritten(document: str) -> str:
    """Give the document with its tables rendered anew between their markers.

    Raises ValueError if a table's markers are not there.
    """
    for name, table in (("routes", routes_table()), ("exit codes", exits_table())):
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
        between = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        whole = begin + table + end
        document, count = between.subn(lambda _, whole=whole: whole, document)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the document has {count} tables between {begin!r} and {end!r}")
    return document


def _named(parameter: Parameter) -> str:
    return f"`{parameter.name}`" + (" (must be given)" if parameter.required else "")


def main(arguments: Sequence[str]) -> int:
    """Rewrite the tables of the named document."""
    path = Path(arguments[0])
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
