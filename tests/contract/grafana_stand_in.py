"""What Grafana does to a dashboard's queries before it sends them, in tests, which have none.

Variables and macros are put in as Grafana's documentation says: `${name:sqlstring}` becomes quoted
values with commas, `$name` in PromQL an alternative of escaped values, `All` every option.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "packaging" / "grafana" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))

Values = Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A query of a panel (or of a variable), and where it stands."""

    board: str
    title: str
    source: str
    query: str
    instant: bool = True

    @property
    def id(self) -> str:
        return f"{self.board}: {self.title}"


def boards() -> dict[str, dict[str, Any]]:
    """Give every dashboard as it is committed."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FILES}


def shown_panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give a dashboard's panels without its rows."""
    return [each for each in board["panels"] if each["type"] != "row"]


def queries() -> Iterator[Panel]:
    """Give every query of every panel and every variable."""
    for name, board in boards().items():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield Panel(
                    board=name,
                    title=f"variable {variable['name']}",
                    source=variable["datasource"]["type"],
                    query=variable["query"],
                )
        for panel in shown_panels(board):
            for target in panel["targets"]:
                yield Panel(
                    board=name,
                    title=f"{panel['title']} {target['refId']}",
                    source=target["datasource"]["type"],
                    query=target.get("rawSql") or target["expr"],
                    instant=bool(target.get("instant")),
                )


def sql_of(
    query: str, values: Values, *, since: str = "2000-01-01", until: str = "2100-01-01"
) -> str:
    """Give the SQL that Grafana would send."""

    def quoted(match: re.Match[str]) -> str:
        return ",".join("'" + value.replace("'", "''") + "'" for value in values[match.group(1)])

    between = rf"\1 BETWEEN '{since}T00:00:00Z' AND '{until}T00:00:00Z'"
    sql = re.sub(r"\$__timeFilter\((.*?)\)", between, query)
    sql = re.sub(r"\$\{(\w+):sqlstring\}", quoted, sql)
    assert "$" not in sql, f"something is left for which this stand-in has no value: {sql}"
    return sql


def promql_of(query: str, values: Values, *, interval: str = "1m", whole: str = "1h") -> str:
    """Give the PromQL that Grafana would send."""

    def alternative(match: re.Match[str]) -> str:
        escaped = [re.sub(r"([\\^$.*+?()\[\]{}|])", r"\\\\\1", v) for v in values[match.group(1)]]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"

    asked = query.replace("$__rate_interval", interval).replace("$__range", whole)
    asked = re.sub(r"\$(\w+)", alternative, asked)
    assert "$" not in asked, asked
    return asked
