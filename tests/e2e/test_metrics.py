"""What a person who watches from outside sees of a real daemon: /metrics, /healthz, /readyz."""

from __future__ import annotations

import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from daemon import drop_files
from prometheus_client.parser import text_string_to_metric_families
from prometheus_servers import free_address, needs_prometheus, prometheus

from sensordrop.adapters.telemetry import METRICS, PREFIX

PACKAGED = Path(__file__).parents[2] / "packaging" / "prometheus"
NOT_ALWAYS = {
    "watcher_canary_timestamp_seconds",
    "oldest_pending_timestamp_seconds",
    "oldest_letter_timestamp_seconds",
}
"""Metrics that a delivery without a canary, or with nothing to do or to tell, does not have."""


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def samples(address: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Give all samples by name and then by the values of their labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(get(address, "/metrics")[1]):
        for each in family.samples:
            found.setdefault(each.name, {})[tuple(each.labels.values())] = each.value
    return found


def begin(station) -> None:
    """Start the daemon and wait until it answers: its services start side by side."""
    station.start()
    station.daemon.wait_for_log("metrics_served")


@pytest.fixture
def watched(station):
    """Give a station whose metrics are served, and the address."""
    address = free_address()
    station.configure(metrics_listen=address)
    return station, address


def test_metrics_tell_what_happened(watched):
    station, address = watched
    content = {f"950349/{n}.wav": bytes([n]) * 1000 for n in range(3)}
    drop_files(station.drop, content)
    drop_files(station.drop, {"950349/.DS_Store": b"junk"})
    begin(station)
    station.wait_for_session_end()

    def told() -> bool:
        found = samples(address)
        watching = found["sensordrop_delivery_state"][("card", "watching")] == 1
        return watching and found["sensordrop_delivery_files"][("card", "uploaded")] == 3

    station.wait_for(told, what="the ledger's counts to be read")
    found = samples(address)
    assert found["sensordrop_files_uploaded_total"][("card",)] == 3
    assert found["sensordrop_uploaded_bytes_total"][("card",)] == 3000
    assert found["sensordrop_delivery_size_bytes"][("card", "uploaded")] == 3000
    assert found["sensordrop_delivery_files"][("card", "ignored")] == 1
    assert found["sensordrop_delivery_files"][("card", "pending")] == 0
    assert sum(found["sensordrop_files_discovered_total"].values()) == 3
    assert found["sensordrop_attempts_total"][("card", "stored", "")] == 3
    assert found["sensordrop_upload_size_bytes_bucket"][("65536",)] == 3
    assert found["sensordrop_upload_duration_seconds_count"][()] == 3
    assert found["sensordrop_s3_requests_total"][("PutObject", "200")] >= 3
    assert any(
        operation == "ListObjectsV2" for operation, _ in found["sensordrop_s3_requests_total"]
    )
    assert found["sensordrop_s3_sent_bytes_total"][()] >= 3000
    assert found["sensordrop_sweeps_total"][("card", "complete")] >= 1
    assert found["sensordrop_watcher_up"][("card",)] == 1
    assert found["sensordrop_database_up"][()] == 1
    assert found["sensordrop_commit_files_sum"][()] >= 3
    assert found["sensordrop_delivery_state"][("card", "watching")] == 1
    assert found["sensordrop_delivery_info"][("card", "default", station.bucket.name, "C1")] == 1
    assert found["process_open_fds"][()] > 0

    missing = {
        metric.name
        for metric in METRICS
        if PREFIX + metric.name not in found and f"{PREFIX}{metric.name}_count" not in found
    }
    assert {name for name in missing if not name.startswith("session_")} <= NOT_ALWAYS
    assert get(address, "/healthz") == (200, "alive\n")
    assert get(address, "/readyz") == (200, "ready\n")
    assert get(address, "/")[0] == 404


@needs_prometheus
def test_promtool_finds_nothing_to_complain_about(watched):
    station, address = watched
    drop_files(station.drop, {"a/1.wav": b"x"})
    begin(station)
    station.wait_for_session_end()
    text = get(address, "/metrics")[1]
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@needs_prometheus
def test_a_real_prometheus_sees_it_and_its_rules_hold(watched, tmp_path):
    station, address = watched
    drop_files(station.drop, {"a/1.wav": b"x"})
    begin(station)
    station.wait_for_session_end()
    rules = tuple(PACKAGED / name for name in ("alerts.yml", "recording.yml"))
    with prometheus(tmp_path / "prometheus", address, rules=rules) as server:
        station.wait_for(
            lambda: server.query('sensordrop_delivery_files{state="uploaded"} == 1'),
            what="Prometheus to have scraped",
        )
        (target,) = server.targets()
        assert (target["health"], target["lastError"]) == ("up", "")
        (stored,) = server.query("sensordrop_files_uploaded_total")
        assert stored["metric"]["delivery"] == "card"
        assert stored["value"][1] == "1"

        def alert(name: str) -> str:
            return next(rule["state"] for rule in server.rules() if rule["name"] == name)

        station.wait_for(
            lambda: all(rule["health"] == "ok" for rule in server.rules()), what="rules to be tried"
        )
        assert {rule["state"] for rule in server.rules() if rule["type"] == "alerting"} <= {
            "inactive", "pending",
        }  # fmt: skip
        assert alert("SensordropDeliveryOffline") == "inactive"
        shutil.move(station.drop, tmp_path / "pulled out")
        station.wait_for(
            lambda: alert("SensordropDeliveryOffline") == "pending", what="the alert to begin"
        )
    shutil.move(tmp_path / "pulled out", station.drop)


def test_who_is_not_ready_says_why(watched):
    station, address = watched
    station.drop.rmdir()
    begin(station)
    station.wait_for(lambda: get(address, "/readyz")[0] == 503, what="not to be ready")

    def told() -> str | None:
        status, text = get(address, "/readyz")
        return text if status == 503 and "offline" in text else None

    assert f"card: offline: the folder is missing: {station.drop}" in station.wait_for(told)
    assert get(address, "/healthz")[0] == 200
    station.drop.mkdir()
    station.wait_for(lambda: get(address, "/readyz")[0] == 200, what="to be ready")


def test_an_address_that_is_taken_keeps_nobody_from_uploading(watched):
    station, address = watched
    host, _, port = address.rpartition(":")
    with closing(socket.create_server((host, int(port)))):
        drop_files(station.drop, {"a/1.wav": b"x"})
        station.start()
        station.wait_for_states({"a/1.wav": "uploaded"})
        told = station.daemon.wait_for_log("metrics_not_served")
    assert told["address"] == address
    assert "in use" in told["problem"]
    assert len(station.daemon.logs("metrics_not_served")) == 1
    assert station.daemon.logs("service_failed") == []
