"""What is written out for Prometheus is what was counted, and the document says the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sensordrop.adapters import telemetry
from sensordrop.adapters.exposition import Exposition
from sensordrop.adapters.s3.requests import RequestTally
from sensordrop.adapters.telemetry import METRICS, PREFIX
from sensordrop.core.model import DeliveryState
from sensordrop.core.progress import SessionProgress
from sensordrop.core.tally import DeliveryTally, Distribution, StationTally
from sensordrop.core.vitals import (
    ConfigurationInForce,
    DeliveryReading,
    DeliveryVitals,
    DiskSpace,
    SessionReading,
    StationVitals,
    unready,
)

ROOT = Path(__file__).parents[2]
HISTOGRAM = {"_bucket", "_count", "_sum"}


def delivery(**changes) -> DeliveryVitals:
    values = {
        "name": "card",
        "client": "acme",
        "project": "birds",
        "cycle": "C1",
        "enabled": True,
        "state": DeliveryState.WATCHING,
        "reason": None,
        "watched": True,
        "settling": 2,
        "running": 3,
        "open_breakers": frozenset({"destination"}),
        "limit_bytes_per_second": None,
        "sweep_interval_seconds": 900.0,
        "deadline_seconds": 3600.0,
        "remaining_seconds": 12.5,
        "files_per_second": 0.0,
        "tally": DeliveryTally(canary_at=7.0),
        "reading": DeliveryReading(
            counts={"pending": (10, 1000), "uploaded": (5, 500)},
            uploading=4,
            oldest_pending_at=99.5,
            mismatches=1,
            letters_waiting=3,
            letters_failed=1,
            oldest_letter_at=77.0,
            session=SessionReading(
                started_at=100.0,
                progress=SessionProgress(
                    total=15,
                    uploaded=5,
                    skipped=0,
                    failed=0,
                    bytes=1500,
                    files_left=10,
                    bytes_left=1000,
                    files_per_second=1.0,
                    bytes_per_second=100.0,
                ),
            ),
        ),
    }
    return DeliveryVitals(**(values | changes))


def station(*deliveries: DeliveryVitals, **changes) -> StationVitals:
    values = {
        "at": 1000.0,
        "version": "1.2.3",
        "configuration": ConfigurationInForce(digest="abc", loaded_at=50.0),
        "tally": StationTally(),
        "deliveries": deliveries,
        "hints_waiting": 6,
        "hints_dropped": 7,
        "limit_bytes_per_second": 1000.0,
        "restarts": {"scout": 1},
        "database_up": True,
        "database_problem": None,
        "database_seconds": 0.001,
        "read_at": 999.0,
        "audit_behind_seconds": 43_200.0,
        "audit_share_per_day": 0.01,
        "state_disk": DiskSpace(free_bytes=10, size_bytes=100),
    }
    return StationVitals(**(values | changes))


class Vitals:
    def __init__(self, vitals: StationVitals) -> None:
        self._vitals = vitals

    def vitals(self) -> StationVitals:
        return self._vitals


def written(vitals: StationVitals, requests: RequestTally | None = None) -> dict:
    """Give what Prometheus reads: every sample by name and labels."""
    text = Exposition(Vitals(vitals), requests or RequestTally()).text().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(samples: dict, name: str, **labels: str) -> float:
    return samples[f"sensordrop_{name}", frozenset(labels.items())]


def test_every_metric_is_written_out_with_its_labels():
    requests = RequestTally()
    requests("PutObject", 200, 0.2, 1000)
    tally = DeliveryTally(
        canary_at=1.0,
        last_sweep_at=1.0,
        last_complete_sweep_at=1.0,
        last_sweep_seconds=1.0,
        last_sweep_files=1,
        last_sweep_complete=True,
        attempts={("timeout", "destination"): 1},
    )
    found = written(station(delivery(tally=tally)), requests)
    for metric in METRICS:
        ends = HISTOGRAM if metric.kind == "histogram" else {""}
        for end in ends:
            labels = [dict(key[1]) for key in found if key[0] == PREFIX + metric.name + end]
            assert labels, metric.name
            assert {frozenset(each) - {"le"} for each in labels} == {frozenset(metric.labels)}


def test_counts_are_those_that_status_shows():
    found = written(station(delivery()))
    assert of(found, "letters", delivery="card", state="waiting") == 3
    assert of(found, "letters", delivery="card", state="failed") == 1
    assert of(found, "oldest_letter_timestamp_seconds", delivery="card") == 77.0
    assert of(found, "delivery_files", delivery="card", state="pending") == 6
    assert of(found, "delivery_files", delivery="card", state="uploading") == 4
    assert of(found, "delivery_files", delivery="card", state="settling") == 2
    assert of(found, "delivery_files", delivery="card", state="failed") == 0
    assert of(found, "delivery_size_bytes", delivery="card", state="pending") == 1000
    assert of(found, "session_files", delivery="card") == 15
    assert of(found, "session_finished_files", delivery="card") == 5
    assert of(found, "session_finished_bytes", delivery="card") == 500
    assert of(found, "session_deadline_timestamp_seconds", delivery="card") == 3700
    assert of(found, "breaker_open", delivery="card", scope="destination") == 1
    assert of(found, "breaker_open", delivery="card", scope="project") == 0
    assert of(found, "delivery_bandwidth_limit_bytes_per_second", delivery="card") == math.inf
    assert of(found, "bandwidth_limit_bytes_per_second") == 1000
    assert of(found, "audit_daily_files") == pytest.approx(0.05)
    assert of(found, "audit_due_files") == pytest.approx(0.025)


def test_what_is_not_known_is_left_out_rather_than_made_up():
    found = written(
        station(delivery(reading=None, watched=None, remaining_seconds=None), read_at=None)
    )
    names = {name for name, _ in found}
    assert not {
        n for n in names if n.startswith(("sensordrop_session_", "sensordrop_delivery_fil"))
    }
    assert "sensordrop_watcher_up" not in names
    assert "sensordrop_audit_due_files" not in names


def test_hostile_names_stay_in_their_labels():
    name = 'a"b\\c\nsensordrop_database_up 0'
    found = written(station(delivery(name=name, client="ü\N{SNOWMAN}")))
    assert of(found, "uploads_running", delivery=name) == 3
    assert of(found, "database_up") == 1
    assert of(
        found, "delivery_info", delivery=name, client="ü\N{SNOWMAN}", project="birds", cycle="C1"
    )


def test_a_distribution_counts_for_the_first_bound_that_is_not_exceeded():
    tally = StationTally()
    for value in (65_536, 65_537, 6 * 2**30):
        tally.upload_bytes.add(value)
    found = written(station(tally=tally))
    assert of(found, "upload_size_bytes_bucket", le="65536") == 1
    assert of(found, "upload_size_bytes_bucket", le="262144") == 2
    assert of(found, "upload_size_bytes_bucket", le="5368709120") == 2
    assert of(found, "upload_size_bytes_bucket", le="+Inf") == 3
    assert of(found, "upload_size_bytes_count") == 3
    assert of(found, "upload_size_bytes_sum") == 65_536 + 65_537 + 6 * 2**30


def of_metrics(exposition: Exposition) -> list[str]:
    """Give the lines of our own metrics, without those of the process."""
    lines = exposition.text().decode().splitlines()
    return [line for line in lines if line.removeprefix("# HELP ").startswith(PREFIX)
            or line.startswith(f"# TYPE {PREFIX}")]  # fmt: skip


READING = delivery().reading
OTHERS = [
    {"settling": 9},
    {"state": DeliveryState.OFFLINE, "open_breakers": frozenset({"station", "project"})},
    {"tally": DeliveryTally(uploaded=1, attempts={("stored", ""): 1})},
    {"tally": DeliveryTally(uploaded=1, attempts={("stored", ""): 2, ("timeout", "file"): 1})},
    {"reading": None},
    {"reading": replace(READING, counts={"pending": (10, 1001), "uploaded": (6, 500)})},
    {"reading": replace(READING, session=None)},
    {"cycle": 'C"2\\'},
    {"watched": None, "remaining_seconds": None, "limit_bytes_per_second": 5.5},
]


def test_lines_that_are_kept_from_scrape_to_scrape_are_those_that_would_be_written_anew():
    vitals, requests = Vitals(station()), RequestTally()
    kept = Exposition(vitals, requests)
    still = delivery(name="still")
    for changes in [*OTHERS, *reversed(OTHERS)]:
        for deliveries in ((still, delivery(**changes)), (delivery(**changes),), ()):
            for _ in range(2):
                vitals._vitals = station(*deliveries)
                assert of_metrics(kept) == of_metrics(Exposition(vitals, requests))


def test_what_a_delivery_counts_is_in_the_next_scrape():
    one = delivery(tally=DeliveryTally(attempts={("stored", ""): 1}))
    exposition = Exposition(Vitals(station(one, delivery(name="other"))), RequestTally())
    exposition.text()
    one.tally.uploaded += 3
    one.tally.attempts[("stored", "")] += 3
    text = exposition.text().decode()
    assert 'sensordrop_files_uploaded_total{delivery="card"} 3.0\n' in text
    assert 'sensordrop_attempts_total{delivery="card",class="stored",scope=""} 4\n' in text


@pytest.mark.parametrize("bounds", [getattr(StationTally(), n).bounds for n in
                                    ("upload_seconds", "upload_bytes", "commit_files")])  # fmt: skip
def test_bounds_rise(bounds):
    assert list(bounds) == sorted(set(bounds))
    assert Distribution(bounds).counts == [0] * (len(bounds) + 1)


def test_the_document_has_the_metrics_of_the_code():
    page = (ROOT / "docs" / "METRICS.md").read_text(encoding="utf-8")
    assert telemetry.rewritten(page) == page, (
        "call: .venv/bin/python -m sensordrop.adapters.telemetry docs/METRICS.md"
    )


def test_labels_are_bounded():
    allowed = {
        "delivery", "client", "project", "cycle", "state", "scope", "class", "by", "result",
        "operation", "code", "service", "version", "python", "hash",
    }  # fmt: skip
    assert {label for metric in METRICS for label in metric.labels} <= allowed


READY = delivery(open_breakers=frozenset())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"state": DeliveryState.SWEEPING}, []),
        ({"state": DeliveryState.PAUSED, "reason": "paused by bob"}, []),
        ({"state": DeliveryState.DISABLED, "enabled": False}, []),
        ({"state": DeliveryState.OFFLINE, "reason": "no disk"}, ["card: offline: no disk"]),
        ({"state": DeliveryState.BLOCKED, "reason": "no network"}, ["card: blocked: no network"]),
        ({"state": None}, ["card: its folder was not looked at yet"]),
    ],
)
def test_what_is_not_ready_is_named(changes, told):
    assert unready(station(delivery(**changes))) == told


def test_nothing_is_ready_without_the_ledger():
    assert unready(station(database_up=False, database_problem="refused")) == ["ledger: refused"]
