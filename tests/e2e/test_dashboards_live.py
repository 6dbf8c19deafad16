"""Every PromQL query of every dashboard, on a real Prometheus that scrapes a real daemon."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from daemon import drop_files, wait_until
from grafana_stand_in import promql_of, queries
from prometheus_servers import Prometheus, free_address, needs_prometheus, prometheus

ASKED = [each for each in queries() if each.source == "prometheus"]
DELIVERY = "card.1"
"""A name that a regular expression must not take for a pattern."""
FILES = 1500
FILE_BYTES = 4096
LIMIT = "40 KiB/s"
"""So slow that the session runs on for as long as the test asks."""


@pytest.fixture
def busy(make_station, moto):
    """Give a station in the midst of a session, with a failure behind it, and its address."""
    station = make_station(moto)
    address = free_address()
    station.configure(metrics_listen=address, bandwidth=LIMIT)
    station.delivery(DELIVERY, session_deadline_seconds=3600, times_to_retry=0)
    drop_files(
        station.drop,
        {f"950349/20250920_{n:06d}.WAV": n.to_bytes(4) * (FILE_BYTES // 4) for n in range(FILES)},
    )
    # S3 takes no key of more than 1,024 bytes: a failure of this file alone, at once and for good.
    drop_files(station.drop, {"/".join(["950349", *["x" * 200] * 6, "a.WAV"]): b"too long"})
    station.start()
    yield station, address
    station.daemon.kill9()


def answers(server: Prometheus, expression: str, *, instant: bool) -> bool:
    """Tell whether there is any number in the answer. Raises AssertionError where it is refused."""
    if found := re.fullmatch(r"label_values\((.+), (\w+)\)", expression):
        return any(found.group(2) in each["metric"] for each in server.query(found.group(1)))
    if instant:
        values = [each["value"][1] for each in server.query(expression)]
    else:
        series = server.range(expression, seconds=60, step=2)
        values = [value for each in series for _, value in each["values"]]
    return any(not math.isnan(float(value)) for value in values)


@needs_prometheus
def test_every_panel_has_an_answer(busy, tmp_path):
    station, address = busy
    chosen = {"delivery": [DELIVERY, "another (one)"], "instance": [address]}
    with prometheus(tmp_path / "prometheus", address) as server:
        waiting = {
            each.id: (promql_of(each.query, chosen, interval="30s", whole="2m"), each.instant)
            for each in ASKED
        }
        assert len(waiting) > 50
        numbers = itertools.count()

        def all_answered() -> bool:
            # Some panels tell of what happens to files that come while the daemon runs.
            drop_files(station.drop, {f"950350/{next(numbers)}.wav": b"new"})
            for panel, (expression, instant) in list(waiting.items()):
                if answers(server, expression, instant=instant):
                    del waiting[panel]
            return not waiting

        wait_until(
            all_answered,
            what="an answer of every panel",
            seconds=180,
            story=lambda: "\n".join(f"{panel}: {asked}" for panel, (asked, _) in waiting.items()),
        )
        # A name is a name there, and no pattern.
        other = promql_of('sensordrop_watcher_up{delivery=~"$delivery"}', {"delivery": ["car..1"]})
        assert server.query(other) == []
