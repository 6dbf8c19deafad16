"""What the benchmark computes from what it measured: medians, ratios, rows and tables.

Pure: values in, values out, so that it is tested without measuring anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"
"""Between these two lines of docs/performance.md stands what `make bench` wrote."""


class Better(StrEnum):
    """Which way a ratio or a value has to go to meet its goal."""

    LESS = "≤"
    MORE = "≥"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What one row should reach: in its ratio to the peer, or in our own value."""

    better: Better
    must: float
    reach: float
    of: str = "ratio"
    """`ratio` or `ours`."""
    unit: str = "×"

    def words(self, bound: float) -> str:
        """Say a bound as it stands in the table."""
        return f"{self.better} {bound:g} {self.unit}".strip()

    def met_by(self, ours: float, ratio: float | None) -> bool | None:
        """Tell whether the "must" is met; None where the figure that it is about is missing."""
        value = ratio if self.of == "ratio" else ours
        if value is None:
            return None
        return value <= self.must if self.better is Better.LESS else value >= self.must


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of results.json. Values are medians of `rounds`."""

    measure: str
    group: str
    unit: str
    ours: float | None
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    must: str = ""
    reach: str = ""
    met: bool | None = None
    note: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    rounds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    quick: bool = False
    commit: str = ""


def make_row(
    *,
    measure: str,
    group: str,
    unit: str,
    ours: Sequence[float],
    peer: Sequence[float] = (),
    peer_name: str = "",
    goal: Goal | None = None,
    note: str = "",
    settings: Mapping[str, object] | None = None,
) -> Row:
    """Make a row of all rounds' values. The ratio is that of the medians, ours to the peer's."""
    mine = median(ours)
    other = median(peer) if peer else None
    ratio = mine / other if other else None
    rounds = {"ours": rounded(ours)}
    if peer:
        rounds["peer"] = rounded(peer)
    return Row(
        measure=measure,
        group=group,
        unit=unit,
        ours=_round(mine),
        peer=None if other is None else _round(other),
        peer_name=peer_name,
        ratio=None if ratio is None else _round(ratio),
        must=goal.words(goal.must) if goal else "",
        reach=goal.words(goal.reach) if goal else "",
        met=goal.met_by(mine, ratio) if goal else None,
        note=note,
        settings=dict(settings or {}),
        rounds=rounds,
    )


def per_thousand(total: float, files: int) -> float:
    """Spread a total over files, per 1,000 of them."""
    return total * 1000 / files


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)  # rounded up
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def rounded(values: Iterable[float]) -> list[float]:
    """Round values to four digits that count, as they are kept."""
    return [_round(value) for value in values]


def _round(value: float) -> float:
    return float(f"{value:.4g}")


# --- results ------------------------------------------------------------------------------


def merged(earlier: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Put new rows in the place of earlier ones of the same groups; others stay as they were."""
    groups = {row.group for row in rows}
    kept = [dict(row) for row in earlier if row["group"] not in groups]
    return kept + [asdict(row) for row in rows]


def in_order(rows: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> list[Mapping[str, Any]]:
    """Sort rows by their group's place among all groups; a group that no longer exists goes."""
    place = {group: number for number, group in enumerate(groups)}
    known = [row for row in rows if row["group"] in place]
    return sorted(known, key=lambda row: place[row["group"]])


def as_json(results: Mapping[str, Any]) -> str:
    """Give the text of results.json: one line for each row, so that a diff shows what moved."""
    head = {key: value for key, value in results.items() if key != "rows"}
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},"
             for key, value in head.items()]  # fmt: skip
    rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in results["rows"])
    return "\n".join(["{", *lines, '  "rows": [', rows, "  ]", "}"]) + "\n"


# --- the table ----------------------------------------------------------------------------

_COLUMNS = ("measure", "unit", "sensordrop", "peer", "ratio", "must", "reach", "met")


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Give a row's cells in the table's order."""
    peer = number(row["peer"])
    if row["peer_name"]:
        peer = f"{peer} ({row['peer_name']})"
    return (
        row["measure"] + (" (quick run)" if row["quick"] else ""),
        row["unit"],
        number(row["ours"]),
        peer,
        number(row["ratio"]),
        row["must"],
        row["reach"],
        {True: "yes", False: "no", None: "–"}[row["met"]] if row["must"] else "",
    )


def number(value: float | None) -> str:
    """Write a value for people: three digits that count, thousands apart."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Give the rows as a table of Markdown, with the notes below."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    notes = [f"- {row['measure']}: {row['note']}" for row in rows if row["note"]]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def between_markers(page: str, table: str) -> str:
    """Put a table in the place of what stands between the two markers.

    Raises ValueError where the page does not have both, once each and in order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after or END in before:
        raise ValueError(f"the page must hold {BEGIN} and then {END}, once each")
    return f"{before}{BEGIN}\n\n{table.strip()}\n\n{END}{after}"


# --- processor time -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ProcessTimes:
    """What /proc/PID/stat says of one process. Times are clock ticks."""

    parent: int
    own_ticks: int
    """User and system time of its threads, dead ones included."""
    dead_ticks: int
    """The same of its children that ended and were waited for, and of theirs."""


def parse_stat(line: str) -> ProcessTimes:
    """Read a line of /proc/PID/stat. The program's name may hold spaces and brackets."""
    fields = line[line.rindex(")") + 2 :].split()
    user, system, dead_user, dead_system = (int(field) for field in fields[11:15])
    return ProcessTimes(
        parent=int(fields[1]), own_ticks=user + system, dead_ticks=dead_user + dead_system
    )


def tree_ticks(processes: Mapping[int, ProcessTimes], roots: Iterable[int]) -> int:
    """Add up the time of some processes with all their descendants, dead and alive, each once."""
    children: dict[int, list[int]] = {}
    for pid, times in processes.items():
        children.setdefault(times.parent, []).append(pid)
    seen: set[int] = set()
    waiting = [pid for pid in roots if pid in processes]
    while waiting:
        pid = waiting.pop()
        if pid not in seen:
            seen.add(pid)
            waiting += children.get(pid, [])
    return sum(processes[pid].own_ticks + processes[pid].dead_ticks for pid in seen)
