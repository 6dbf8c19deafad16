"""Each alert fires when it should, and keeps silent when it should: tried with promtool.

A case has the series that Prometheus would have, minute by minute. It names what a person reads
when it fires; a case without that must be silent.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from prometheus_servers import needs_prometheus

from sensordrop.adapters.telemetry import METRICS, PREFIX

ROOT = Path(__file__).parents[2]
PACKAGED = ROOT / "packaging" / "prometheus"
RUNBOOK = ROOT / "docs" / "operating" / "alerts.md"
INSTANCE = {"job": "sensordrop", "instance": "north:9464"}
CARD = {**INSTANCE, "delivery": "card"}


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """Give a series of a test; without a delivery it is the station's."""
    inside = ",".join(f'{key}="{value}"' for key, value in {**INSTANCE, **labels}.items())
    return {"series": f"{name}{{{inside}}}", "values": values}


def of_card(name: str, values: str, **labels: str) -> dict[str, str]:
    return series(f"sensordrop_{name}", values, delivery="card", **labels)


@dataclass(frozen=True, kw_only=True)
class Case:
    alert: str
    given: list[dict[str, str]]
    at: str
    reads: str | None = None
    """The summary of the one alert that fires; None: silence."""
    labels: dict[str, str] = field(default_factory=lambda: dict(CARD))


def rises(start: int, step: int = 60) -> str:
    """Give a time stamp that keeps up with the clock, from a time before it (negative: behind)."""
    return f"{start}+{step}x2000"


WAITING = of_card("oldest_pending_timestamp_seconds", "0x2000")
NOT_PAUSED = of_card("paused", "0x2000")

CASES = [
    Case(
        alert="SensordropDown",
        given=[series("up", "1x5 0x20")],
        at="12m",
        reads="sensordropd does not answer on north:9464.",
        labels=INSTANCE,
    ),
    Case(
        alert="SensordropDown",
        given=[],
        at="12m",
        reads="sensordropd does not answer on any station.",
        labels={"job": "sensordrop"},
    ),
    Case(alert="SensordropDown", given=[series("up", "1x5 0x2 1x20")], at="12m"),
    Case(
        alert="SensordropRestartsOften",
        given=[series("process_start_time_seconds", "1x5 2x5 3x5 4x40")],
        at="40m",
        reads="sensordropd on north:9464 was started 3 times within an hour.",
        labels=INSTANCE,
    ),
    Case(
        alert="SensordropRestartsOften",
        given=[series("process_start_time_seconds", "1x5 2x40")],
        at="40m",
    ),
    Case(
        alert="SensordropServiceFails",
        given=[series("sensordrop_service_restarts_total", "0x5 1x40", service="scout")],
        at="20m",
        reads="A part of sensordropd (scout) on north:9464 failed and was started anew.",
        labels={**INSTANCE, "service": "scout"},
    ),
    Case(
        alert="SensordropServiceFails",
        given=[series("sensordrop_service_restarts_total", "1x200", service="scout")],
        at="120m",
    ),
    Case(
        alert="SensordropDatabaseDown",
        given=[series("sensordrop_database_up", "1x2 0x20")],
        at="10m",
        reads="sensordropd on north:9464 can't reach its ledger.",
        labels=INSTANCE,
    ),
    Case(
        alert="SensordropDatabaseDown",
        given=[series("sensordrop_database_up", "1x2 0x3 1x20")],
        at="10m",
    ),
    Case(
        alert="SensordropFiguresOld",
        given=[
            series("sensordrop_database_read_timestamp_seconds", "0x60"),
            series("sensordrop_database_up", "1x60"),
        ],
        at="30m",
        reads="The figures from the ledger on north:9464 are 30m 0s old.",
        labels=INSTANCE,
    ),
    Case(
        alert="SensordropFiguresOld",
        given=[
            series("sensordrop_database_read_timestamp_seconds", "0x60"),
            series("sensordrop_database_up", "0x60"),
        ],
        at="30m",
    ),
    Case(
        alert="SensordropDiskNearlyFull",
        given=[
            series("sensordrop_state_disk_free_bytes", "9x30"),
            series("sensordrop_state_disk_size_bytes", "100x30"),
        ],
        at="20m",
        reads="The disk with sensordrop's state on north:9464 has 9% left.",
        labels=INSTANCE,
    ),
    Case(
        alert="SensordropDiskNearlyFull",
        given=[
            series("sensordrop_state_disk_free_bytes", "11x30"),
            series("sensordrop_state_disk_size_bytes", "100x30"),
        ],
        at="20m",
    ),
    Case(
        alert="SensordropDiskFull",
        given=[
            series("sensordrop_state_disk_free_bytes", "2x30"),
            series("sensordrop_state_disk_size_bytes", "100x30"),
        ],
        at="20m",
        reads="The disk with sensordrop's state on north:9464 is all but full (2% left).",
        labels=INSTANCE,
    ),
    Case(
        alert="SensordropDiskFull",
        given=[
            series("sensordrop_state_disk_free_bytes", "4x30"),
            series("sensordrop_state_disk_size_bytes", "100x30"),
        ],
        at="20m",
    ),
    Case(
        alert="SensordropConfigurationRejected",
        given=[series("sensordrop_config_last_load_successful", "1x2 0x20")],
        at="10m",
        reads="sensordropd on north:9464 did not take the configuration that was last given to it.",
        labels=INSTANCE,
    ),
    Case(
        alert="SensordropConfigurationRejected",
        given=[series("sensordrop_config_last_load_successful", "1x20")],
        at="10m",
    ),
    Case(
        alert="SensordropNothingGetsStored",
        given=[of_card("last_success_timestamp_seconds", "0x2000"), WAITING, NOT_PAUSED],
        at="160m",
        reads="Files of card wait, and none has been stored for more than two hours.",
    ),
    # Something was stored lately; nothing waits; it is paused.
    Case(
        alert="SensordropNothingGetsStored",
        given=[of_card("last_success_timestamp_seconds", rises(-3600)), WAITING, NOT_PAUSED],
        at="300m",
    ),
    Case(
        alert="SensordropNothingGetsStored",
        given=[of_card("last_success_timestamp_seconds", "0x2000"), NOT_PAUSED],
        at="300m",
    ),
    Case(
        alert="SensordropNothingGetsStored",
        given=[
            of_card("last_success_timestamp_seconds", "0x2000"),
            WAITING,
            of_card("paused", "1x2000"),
        ],
        at="300m",
    ),
    Case(
        alert="SensordropFileWaitsLong",
        given=[WAITING, NOT_PAUSED],
        at="1460m",
        reads="A file of card has been waiting for 1d 0h 20m 0s.",
    ),
    Case(
        alert="SensordropFileWaitsLong",
        given=[of_card("oldest_pending_timestamp_seconds", rises(-3600)), NOT_PAUSED],
        at="1460m",
    ),
    Case(
        alert="SensordropBreakerOpen",
        given=[of_card("breaker_open", "0x2 1x60", scope="project")],
        at="20m",
        reads="Uploads of card are stopped by trouble with the project.",
        labels={**CARD, "scope": "project"},
    ),
    Case(
        alert="SensordropBreakerOpen",
        given=[of_card("breaker_open", "0x2 1x10 0x60", scope="destination")],
        at="20m",
    ),
    Case(
        alert="SensordropFilesQuarantined",
        given=[of_card("delivery_files", "3x60", state="failed")],
        at="20m",
        reads="3 files of card could not be stored and need a person.",
        labels={**CARD, "state": "failed"},
    ),
    Case(
        alert="SensordropFilesQuarantined",
        given=[
            of_card("delivery_files", "0x60", state="failed"),
            of_card("delivery_files", "9x60", state="pending"),
        ],
        at="20m",
    ),
    Case(
        alert="SensordropDeliveryOffline",
        given=[of_card("delivery_state", "1x60", state="offline")],
        at="40m",
        reads="The folder of card is not there.",
        labels={**CARD, "state": "offline"},
    ),
    Case(
        alert="SensordropDeliveryOffline",
        given=[
            of_card("delivery_state", "1x20 0x60", state="offline"),
            of_card("delivery_state", "1x60", state="watching"),
        ],
        at="40m",
    ),
    Case(
        alert="SensordropPausedLong",
        given=[of_card("paused", "1x2000")],
        at="1450m",
        reads="Uploads of card have been paused for more than a day.",
    ),
    Case(alert="SensordropPausedLong", given=[of_card("paused", "1x100 0 1x2000")], at="1450m"),
    Case(
        alert="SensordropSessionLate",
        given=[
            of_card("session_remaining_seconds", "9000x100"),
            of_card("session_deadline_timestamp_seconds", "9000x100"),
        ],
        at="40m",
        reads="What was dropped into card will not be stored in time.",
    ),
    # Nobody can tell how long it takes, but the time is over.
    Case(
        alert="SensordropSessionLate",
        given=[of_card("session_deadline_timestamp_seconds", "60x100")],
        at="40m",
        reads="What was dropped into card will not be stored in time.",
    ),
    Case(
        alert="SensordropSessionLate",
        given=[
            of_card("session_remaining_seconds", "6000-60x100"),
            of_card("session_deadline_timestamp_seconds", "9000x100"),
        ],
        at="40m",
    ),
    Case(
        alert="SensordropWatcherDead",
        given=[of_card("watcher_up", "1x2 0x60")],
        at="15m",
        reads="The folder of card is not watched any more.",
    ),
    Case(alert="SensordropWatcherDead", given=[of_card("watcher_up", "0x5 1x60")], at="15m"),
    Case(
        alert="SensordropWatcherBlind",
        given=[of_card("watcher_canary_timestamp_seconds", "0x60")],
        at="30m",
        reads="The watch on the folder of card sees nothing, though it seems alive.",
    ),
    Case(
        alert="SensordropWatcherBlind",
        given=[of_card("watcher_canary_timestamp_seconds", rises(-600))],
        at="60m",
    ),
    Case(
        alert="SensordropWatcherMissesFiles",
        given=[of_card("watcher_missed_files_total", "0x60 40x300")],
        at="360m",
        reads="The watch on the folder of card missed 40 files within six hours.",
    ),
    Case(
        alert="SensordropWatcherMissesFiles",
        given=[of_card("watcher_missed_files_total", "0x60 3x300")],
        at="360m",
    ),
    Case(
        alert="SensordropSweepStale",
        given=[
            of_card("last_complete_sweep_timestamp_seconds", "0x400"),
            of_card("sweep_interval_seconds", "900x400"),
        ],
        at="200m",
        reads="The folder of card has not been listed completely for hours.",
    ),
    # None has been complete since the daemon started.
    Case(
        alert="SensordropSweepStale",
        given=[of_card("delivery_state", "0x400", state="disabled")],
        at="70m",
        reads="The folder of card has not been listed completely for hours.",
        labels={**CARD, "state": "disabled"},
    ),
    # A delivery that is swept once a day was swept this morning; another is switched off.
    Case(
        alert="SensordropSweepStale",
        given=[
            of_card("last_complete_sweep_timestamp_seconds", "0x400"),
            of_card("sweep_interval_seconds", "86400x400"),
            of_card("delivery_state", "0x400", state="disabled"),
        ],
        at="400m",
    ),
    Case(
        alert="SensordropSweepStale",
        given=[of_card("delivery_state", "1x400", state="disabled")],
        at="400m",
    ),
    Case(
        alert="SensordropSweepPartial",
        given=[of_card("last_sweep_complete", "0x60")],
        at="40m",
        reads="Part of the folder of card can't be read.",
    ),
    Case(
        alert="SensordropSweepPartial",
        given=[of_card("last_sweep_complete", "0x20 1x60")],
        at="40m",
    ),
    Case(
        alert="SensordropStoredFilesMismatch",
        given=[of_card("mismatched_files", "0x2 2x10")],
        at="5m",
        reads="2 stored files of card are missing or different in the store.",
    ),
    Case(
        alert="SensordropStoredFilesMismatch", given=[of_card("mismatched_files", "0x10")], at="5m"
    ),
    Case(
        alert="SensordropRegistrationFailed",
        given=[of_card("letters", "0x2 2x10", state="failed")],
        at="10m",
        reads="2 registrations or notifications of card were given up.",
    ),
    Case(
        alert="SensordropRegistrationFailed",
        given=[of_card("letters", "5x10", state="waiting")],
        at="10m",
    ),
    Case(
        alert="SensordropRegistrationLate",
        given=[of_card("oldest_letter_timestamp_seconds", "0x100")],
        at="75m",
        reads="A registration or notification of card waits for 1h 15m 0s.",
    ),
    Case(
        alert="SensordropRegistrationLate",
        given=[of_card("oldest_letter_timestamp_seconds", "0x100")],
        at="55m",
    ),
    Case(
        alert="SensordropFilesNotTakenAway",
        given=[of_card("taking_away_failures_total", "0x5 3x60")],
        at="30m",
        reads="Stored files of card that were to be taken away stayed in its folder.",
    ),
    Case(
        alert="SensordropFilesNotTakenAway",
        given=[of_card("taking_away_failures_total", "3x1600")],
        at="26h",
    ),
    Case(
        alert="SensordropAuditStale",
        given=[
            series("sensordrop_audit_due_files", "230x100"),
            series("sensordrop_audit_daily_files", "100x100"),
        ],
        at="70m",
        reads="The daily look at stored files on north:9464 is 230 files behind.",
        labels=INSTANCE,
    ),
    # A small station waits for days until its share comes to a whole file.
    Case(
        alert="SensordropAuditStale",
        given=[
            series("sensordrop_audit_due_files", "0.9x100"),
            series("sensordrop_audit_daily_files", "0.1x100"),
        ],
        at="70m",
    ),
]


def alerts() -> dict[str, dict]:
    text = (PACKAGED / "alerts.yml").read_text(encoding="utf-8")
    return {
        rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]
    }


def rules() -> list[dict]:
    found = []
    for name in ("alerts.yml", "recording.yml"):
        text = (PACKAGED / name).read_text(encoding="utf-8")
        found += [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    return found


def promtool_test(case: Case) -> dict:
    """Give a case in promtool's words."""
    rule = alerts()[case.alert]
    expected = []
    if case.reads is not None:
        told = {
            name: text.replace("{{ $labels.instance }}", INSTANCE["instance"])
            for name, text in rule["annotations"].items()
        }
        expected = [
            {
                "exp_labels": {**case.labels, **rule["labels"]},
                "exp_annotations": {**told, "summary": case.reads},
            }
        ]
    return {
        "interval": "1m",
        "input_series": case.given,
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": case.alert, "exp_alerts": expected}
        ],
    }


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_alerts_fire_and_keep_silent_as_they_should(tmp_path):
    file = tmp_path / "cases.yml"
    cases = {
        "rule_files": [str(PACKAGED / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [promtool_test(case) for case in CASES],
    }
    file.write_text(yaml.safe_dump(cases), encoding="utf-8")
    promtool("test", "rules", file)


RECORDED = [
    (
        "delivery:sensordrop_unsafe_files:sum",
        [
            of_card("delivery_files", "1x10", state="settling"),
            of_card("delivery_files", "2x10", state="pending"),
            of_card("delivery_files", "4x10", state="uploading"),
            of_card("delivery_files", "8x10", state="failed"),
            of_card("delivery_files", "100x10", state="uploaded"),
        ],
        CARD,
        15,
    ),
    (
        "instance:sensordrop_s3_requests_in_trouble:ratio_rate5m",
        [
            series("sensordrop_s3_requests_total", "0+480x10", operation="PutObject", code="200"),
            series("sensordrop_s3_requests_total", "0+240x10", operation="HeadObject", code="404"),
            series("sensordrop_s3_requests_total", "0+180x10", operation="PutObject", code="503"),
            series(
                "sensordrop_s3_requests_total", "0+60x10", operation="PutObject", code="no answer"
            ),
        ],
        INSTANCE,
        0.25,
    ),
    (
        "delivery:sensordrop_session_progress:ratio",
        [of_card("session_finished_bytes", "25x10"), of_card("session_size_bytes", "100x10")],
        CARD,
        0.25,
    ),
]
"""Recording rules by what they are given and what they make of it."""


@needs_prometheus
def test_recording_rules_say_what_their_names_promise(tmp_path):
    tests = []
    for name, given, labels, value in RECORDED:
        shown = ",".join(f'{key}="{text}"' for key, text in sorted(labels.items()))
        sample = {"labels": f"{name}{{{shown}}}", "value": value}
        wanted = {"expr": name, "eval_time": "9m", "exp_samples": [sample]}
        tests.append({"interval": "1m", "input_series": given, "promql_expr_test": [wanted]})
    file = tmp_path / "recorded.yml"
    cases = {"rule_files": [str(PACKAGED / "recording.yml")], "tests": tests}
    file.write_text(yaml.safe_dump(cases), encoding="utf-8")
    promtool("test", "rules", file)


@needs_prometheus
def test_a_case_that_does_not_hold_is_noticed(tmp_path):
    silent = next(case for case in CASES if case.reads is None)
    said = Case(alert=silent.alert, given=silent.given, at=silent.at, reads="anything")
    file = tmp_path / "cases.yml"
    cases = {"rule_files": [str(PACKAGED / "alerts.yml")], "tests": [promtool_test(said)]}
    file.write_text(yaml.safe_dump(cases), encoding="utf-8")
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", file)


@needs_prometheus
def test_the_packaged_files_are_well_formed(tmp_path):
    promtool("check", "rules", PACKAGED / "alerts.yml", PACKAGED / "recording.yml")
    text = (PACKAGED / "prometheus.yml.example").read_text(encoding="utf-8")
    assert "/etc/prometheus/sensordrop/" in text
    here = tmp_path / "prometheus.yml"
    here.write_text(text.replace("/etc/prometheus/sensordrop/", f"{PACKAGED}/"), encoding="utf-8")
    promtool("check", "config", here)
    checked = subprocess.run(
        ["amtool", "check-config", PACKAGED / "alertmanager.yml.example"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_prometheus
@pytest.mark.parametrize(
    ("severity", "receiver"),
    [("critical", "on-call"), ("warning", "data-managers")],
)
def test_alerts_go_where_their_severity_says(severity, receiver):
    routed = subprocess.run(
        [
            "amtool", "config", "routes", "test",
            f"--config.file={PACKAGED / 'alertmanager.yml.example'}",
            f"severity={severity}", "alertname=SensordropDown",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert routed.stdout.strip() == receiver, routed.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_is_silent():
    assert {case.alert for case in CASES if case.reads is not None} == {*alerts()}
    assert {case.alert for case in CASES if case.reads is None} == {*alerts()}


def test_every_alert_tells_a_person_what_to_do():
    page = RUNBOOK.read_text(encoding="utf-8")
    sections = dict(
        re.findall(r"^## (Sensordrop\w+)\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
    )
    assert [*sections] == [*alerts()], "the page has a section for each alert, in the same order"
    for name, rule in alerts().items():
        severity = rule["labels"]["severity"]
        assert severity in {"critical", "warning"}
        assert {*rule["annotations"]} == {"summary", "description", "runbook_url"}
        anchor = f"docs/operating/alerts.md#{name.lower()}"
        assert rule["annotations"]["runbook_url"] == anchor
        text = sections[name]
        assert text.startswith(f"**{severity.title()}. "), name
        assert re.search(r"^Look", text, re.MULTILINE), name
        assert re.search(r"(^Do|^Look and do)", text, re.MULTILINE), name


def test_rules_name_only_metrics_that_exist():
    known = {PREFIX + metric.name for metric in METRICS}
    known |= {
        PREFIX + metric.name + end
        for metric in METRICS
        if metric.kind == "histogram"
        for end in ("_bucket", "_count", "_sum")
    }
    for rule in rules():
        named = {*re.findall(r"\bsensordrop_\w+", rule["expr"])}
        assert named <= known, rule
        by_labels = {*re.findall(r"[(, ](delivery|scope|state|operation|code)[,)=!]", rule["expr"])}
        labels = {label for m in METRICS if PREFIX + m.name in named or any(
            (PREFIX + m.name + end) in named for end in ("_bucket",)) for label in m.labels}  # fmt: skip
        assert by_labels <= labels, rule
