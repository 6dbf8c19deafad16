"""Each key's values: what is accepted, what it becomes, what is refused with which words."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sensordrop.config import DaemonConfig, DeliveryConfig
from sensordrop.config.kinds import NotExpectedError
from sensordrop.config.models import read_setting, settings

MIB = 1024 * 1024


def delivery(**values):
    return DeliveryConfig(
        **{"name": "n", "local_directory": "/drop", "bucket_name": "bucket", **values}
    )


@pytest.mark.parametrize(
    ("key", "written", "becomes"),
    [
        ("max_workers", "15", 15),
        ("max_workers", 1000, 1000),
        ("times_to_retry", "0", 0),
        ("use_find", "yes", True),
        ("use_find", "NO", False),
        ("use_find", 0, False),
        ("shared", "on", True),
        ("quiet_seconds", "2.5", 2.5),
        ("quiet_seconds", 1, 1.0),
        ("multipart_threshold_bytes", "8 MiB", 8 * MIB),
        ("multipart_threshold_bytes", "5242880", 5 * MIB),
        ("multipart_threshold_bytes", "10MB", 10_000_000),
        ("local_directory", "/data//drop/", Path("/data/drop")),
        ("local_directory", "//data/drop", Path("/data/drop")),
        ("bucket_name", "my.bucket-1", "my.bucket-1"),
        ("s3_prefix", "/2025/C2/", "2025/C2"),
        ("s3_prefix", "", ""),
        ("s3_prefix", 2, "2"),
        ("s3_prefix", "a b/ü", "a b/ü"),
        ("cycle", 2, "2"),
        ("aws_profile", "", None),
        ("aws_profile", None, None),
        ("include", "*.wav", ("*.wav",)),
        ("include", ["DCIM/**", "a,b"], ("DCIM/**", "a,b")),
        ("include", None, ()),
        ("extensions", [".WAV", "*.Flac", "wav"], ("wav", "flac")),
        ("extensions", "wav, flac", ("wav", "flac")),
        ("extensions", None, None),
        ("tags", {"project": "north", "n": 1}, {"project": "north", "n": "1"}),
        ("after_verified", "move:/data/done/", "move:/data/done"),
        ("endpoint_url", "http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("kms_key_id", None, None),
        ("priority", "-5", -5),
        ("bandwidth", " 20:00-06:00 full, else 10 MiB/s ", "20:00-06:00 full, else 10 MiB/s"),
        ("bandwidth", "Mon 08:00-09:00 1M Europe/Berlin", "Mon 08:00-09:00 1M Europe/Berlin"),
        ("bandwidth", "off", "off"),
        ("bandwidth", None, None),
        ("stall_seconds", "30", 30.0),
    ],
)
def test_a_value_is_read_in_every_form_that_people_write(key, written, becomes):
    read = read_setting(DeliveryConfig, key, written)
    assert read == becomes
    assert type(read) is type(becomes)


@pytest.mark.parametrize(
    ("key", "written", "suggestion"),
    [
        ("max_workers", "many", ""),
        ("max_workers", 0, ""),
        ("max_workers", 1001, ""),
        ("max_workers", 1.5, ""),
        ("max_workers", True, ""),
        ("max_workers", None, ""),
        ("max_workers", "9" * 5000, ""),
        ("max_workers", "\u0661\u0665", ""),
        ("use_find", "maybe", ""),
        ("use_find", 2, ""),
        ("quiet_seconds", 0, ""),
        ("quiet_seconds", float("nan"), ""),
        ("quiet_seconds", float("inf"), ""),
        ("quiet_seconds", 10**400, ""),
        ("multipart_threshold_bytes", "1 MiB", ""),
        ("multipart_threshold_bytes", "8 megabytes", "64 MiB"),
        ("local_directory", "drop", "begin it with '/'"),
        ("local_directory", "", ""),
        ("local_directory", "~/drop", "home folder"),
        ("local_directory", "/data/../etc", "'/etc'"),
        ("local_directory", "/data/\0", ""),
        ("local_directory", "/data/\nx", ""),
        ("bucket_name", "ab", ""),
        ("bucket_name", "a" * 64, ""),
        ("bucket_name", "My_Bucket", "'my-bucket'"),
        ("bucket_name", "s3://bucket/C2", "'bucket'"),
        ("bucket_name", "-bucket", ""),
        ("bucket_name", "a..b", ""),
        ("bucket_name", "192.168.5.4", ""),
        ("bucket_name", "xn--bucket", ""),
        ("s3_prefix", "a//b", "'a/b'"),
        ("s3_prefix", "./a", "'a'"),
        ("s3_prefix", "a/../b", ""),
        ("s3_prefix", "_sensordrop/x", ""),
        ("s3_prefix", "a\\b", "'/'"),
        ("s3_prefix", "ü" * 300, ""),
        ("watch", "pollin", "'polling'"),
        ("watch", False, ""),
        ("extensions", [], ""),
        ("extensions", ["a/b"], ""),
        ("include", ["/"], ""),
        ("include", {"a": "b"}, ""),
        ("tags", {"aws:x": "y"}, "AWS"),
        ("tags", {f"k{n}": "v" for n in range(11)}, ""),
        ("tags", {"k": "v" * 257}, ""),
        ("after_verified", "move", ""),
        ("after_verified", "move:done", "begin it with '/'"),
        ("after_verified", "delet", "'delete'"),
        ("endpoint_url", "localhost:9000", "'http://localhost:9000'"),
        ("endpoint_url", "store.example.org", "'https://store.example.org'"),
        ("endpoint_url", "ftp://host", ""),
        ("endpoint_url", "http://host:99999", ""),
        ("endpoint_url", "http://[::1", ""),
        ("endpoint_url", "http://user:secret@host", ""),
        ("endpoint", {"token": "x"}, ""),
        ("endpoint", {"url": "http://h", "tokn": "x"}, "'token'"),
        ("endpoint", {"url": "ftp://h"}, ""),
        ("endpoint", {"url": "http://h", "timeout_seconds": 0}, "a number from 1 to 300"),
        ("endpoint", {"url": "http://h", "headers": {"Host": "other"}}, "header names"),
        ("endpoint", {"url": "http://h", "headers": {"X-A": "b\r\nHost: c"}}, ""),
        ("endpoint", {"url": "http://h", "headers": {"idempotency-key": "1"}}, "header names"),
        ("endpoint", {"url": "http://h", "follow_redirects": "perhaps"}, "follow_redirects"),
        ("bandwidth", 10, "expected a number with a unit"),
        ("bandwidth", False, ""),
        ("bandwidth", "20:00-6 full", "at character 1, '20:00-6'"),
        ("bandwidth", "20:00-06:00 1M Europe/Berlim", "'Europe/Berlim' is not known"),
        ("bandwidth", "20:00-06:00 1M ../etc/passwd", "expected a comma and the next rule"),
        ("stall_seconds", 0.5, ""),
        ("name", "../x", ""),
        ("name", "-x", ""),
        ("name", "a\x1b[31m", ""),
        ("project", "\ud800", ""),
        ("sse", "AES", "'AES256'"),
    ],
)
def test_a_wrong_value_is_refused_with_what_may_help(key, written, suggestion):
    with pytest.raises(NotExpectedError) as refused:
        read_setting(DeliveryConfig, key, written)
    assert suggestion in refused.value.suggestion
    with pytest.raises(ValidationError):
        delivery(**{key: written})


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("database", "mysql://host/db"),
        ("database", "embeded"),
        ("database", "postgresql://host:port/db"),
        ("metrics_listen", "9464"),
        ("metrics_listen", "host:0"),
        ("metrics_listen", ":9464"),
        ("log_level", "chatty"),
        ("state_directory", "state"),
        ("station", "a/b"),
        ("station", "x" * 64),
    ],
)
def test_a_wrong_value_of_the_daemon_is_refused(key, written):
    with pytest.raises(ValidationError):
        DaemonConfig(**{key: written})


@pytest.mark.parametrize(
    "url",
    [
        "embedded",
        "postgresql://u:p@h:5432/db?sslmode=require",
        "postgres:///db?host=/run/postgresql",
    ],
)
def test_the_ledger_may_be_anywhere(url):
    assert DaemonConfig(database=url).database == url


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.from_regex(r"(https?|postgres|move|s3)(:|://)[^\n]{0,20}", fullmatch=True)
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("model", [DaemonConfig, DeliveryConfig])
@given(value=anything, data=st.data())
def test_any_value_is_either_read_once_and_for_all_or_refused(model, value, data):
    key = data.draw(st.sampled_from(sorted(settings(model))))
    try:
        read = read_setting(model, key, value)
    except NotExpectedError:
        settings(model)[key].kind.public(value)
        return
    assert read_setting(model, key, read) == read


def test_settings_can_not_be_changed_afterwards():
    with pytest.raises(ValidationError):
        delivery().max_workers = 3
    with pytest.raises(ValidationError):
        delivery(max_worker=3)


def test_project_and_cycle_follow_bucket_and_prefix():
    plain = delivery(s3_prefix="/2025/C2/")
    assert (plain.client, plain.project, plain.cycle) == ("default", "bucket", "2025/C2")
    named = delivery(s3_prefix="x", project="P", cycle="C")
    assert (named.project, named.cycle, named.s3_prefix) == ("P", "C", "x")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kms_key_id": "abc"}, "sse is not set"),
        ({"kms_key_id": "abc", "sse": "AES256"}, "sse is AES256"),
        ({"storage_class": "COLD"}, "storage classes"),
        ({"after_verified": "move:/drop/done"}, "inside local_directory"),
    ],
)
def test_settings_that_can_not_hold_together_are_refused(values, words):
    with pytest.raises(ValidationError) as refused:
        delivery(**values)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {"kms_key_id": "arn:aws:kms:eu-west-1:111122223333:key/abc", "sse": "aws:kms"},
        {"storage_class": "DEEP_ARCHIVE"},
        {"storage_class": "COLD", "endpoint_url": "https://store.example.org"},
        {"after_verified": "move:/dropped"},
    ],
)
def test_settings_that_hold_together_are_accepted(values):
    assert delivery(**values).public_dict().items() >= values.items()


def test_what_is_shown_and_kept_has_no_secrets():
    secret = "hunter2"
    shown = [
        DaemonConfig(database=f"postgresql://u:{secret}@h/db"),
        DaemonConfig(database=f"postgresql://u:a@{secret}@h/db?password={secret}"),
        delivery(endpoint={"url": f"http://{secret}@h/?key={secret}", "token": secret}),
        delivery(endpoint={"url": "http://h", "secret": secret, "headers": {"X-Key": secret}}),
        delivery(proxy=f"http://u:{secret}@proxy:3128"),
    ]
    for settings_of_one in shown:
        assert secret not in str(settings_of_one.public_dict())
        assert secret not in repr(settings_of_one)
    assert shown[0].public_dict()["database"] == "postgresql://u:***@h/db"
    assert shown[3].endpoint.secret == secret


def test_what_is_kept_is_json_and_has_every_key():
    import json

    kept = delivery(tags={"a": "b"}, include=["*.wav"], ca_bundle="/ca.pem").public_dict()
    assert json.loads(json.dumps(kept)) == kept
    assert set(kept) == set(DeliveryConfig.model_fields)
    assert delivery(**kept) == delivery(tags={"a": "b"}, include=["*.wav"], ca_bundle="/ca.pem")


def test_importing_the_configuration_imports_nothing_heavy():
    import subprocess
    import sys

    program = "import sys, sensordrop.config; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = set(done.stdout.decode().split())
    assert "pydantic" in loaded
    assert not loaded & {"boto3", "botocore", "psycopg2", "watchdog", "rich", "click"}


@pytest.mark.parametrize(
    ("written", "becomes"),
    [("1%", "1%"), ("0.50 %", "0.5%"), (0, "0%"), ("0%", "0%"), ("100%", "100%")],
)
def test_the_audits_share_is_a_percentage(written, becomes):
    found = DaemonConfig(audit_share_per_day=written).audit_share_per_day
    assert found == becomes
    assert DaemonConfig(audit_share_per_day=found).audit_share_per_day == becomes


@pytest.mark.parametrize("written", [1, "1", 0.01, "101%", "-1%", "many", "%", True])
def test_a_share_without_its_sign_is_not_guessed_at(written):
    with pytest.raises(ValidationError):
        DaemonConfig(audit_share_per_day=written)


SHOWABLE = {
    "station": st.sampled_from(["hut", "field 2", None]),
    "database": st.sampled_from(["embedded", "postgresql://db.example.org/sensordrop"]),
    "state_directory": st.sampled_from(["/var/lib/sensordrop", "/srv/a b"]),
    "control_socket": st.sampled_from([None, "/run/x.sock"]),
    "control_mode": st.sampled_from(["0600", "0660", "0666"]),
    "metrics_listen": st.sampled_from(["off", False, None, "0.0.0.0:9464", "[::1]:80"]),
    "log_level": st.sampled_from(["debug", "error"]),
    "bandwidth": st.sampled_from([None, "off", "20:00-06:00 full, else 10 MiB/s"]),
    "audit_share_per_day": st.sampled_from(["0", "0.5%", "100%"]),
    "client": st.sampled_from(["acme", "yes", "7", "a: b # c"]),
    "cycle": st.sampled_from(["", "2025", "null"]),
    "s3_prefix": st.sampled_from(["", "C2", "a b/ü"]),
    "include": st.sampled_from([None, "*.wav", ["DCIM/**", "a,b"]]),
    "extensions": st.sampled_from([None, "wav, flac", [".WAV"]]),
    "use_find": st.sampled_from(["yes", "no", True, False]),
    "enabled": st.booleans(),
    "quiet_seconds": st.sampled_from([0.1, 10, "2.5"]),
    "times_to_retry": st.sampled_from([0, "5"]),
    "multipart_threshold_bytes": st.sampled_from(["8 MiB", 5 * MIB]),
    "session_deadline_seconds": st.sampled_from([None, 60, "172800"]),
    "aws_profile": st.sampled_from(["", None, "field"]),
    "endpoint_url": st.sampled_from([None, "http://127.0.0.1:9000/"]),
    "tags": st.sampled_from([{}, {"project": "north", "n": 1}]),
    "endpoint": st.sampled_from([None, "https://example.org/x", {"url": "https://example.org/y", "timeout_seconds": 5}]),
    "after_verified": st.sampled_from(["keep", "delete", "move:/data/done"]),
}  # fmt: skip
"""Values without secrets, as people write them; those of the other keys are their defaults."""


@pytest.mark.parametrize("model", [DaemonConfig, DeliveryConfig])
@given(data=st.data())
def test_what_config_show_prints_is_read_again_as_the_same(model, data):
    keys = sorted(set(settings(model)) & set(SHOWABLE))
    written = {k: data.draw(SHOWABLE[k], label=k) for k in keys if data.draw(st.booleans())}
    needed = {"name": "n", "local_directory": "/drop", "bucket_name": "bucket"}
    made = model(**written) if model is DaemonConfig else model(**(needed | written))
    shown = {key: json.dumps(value, default=str) for key, value in made.public_dict().items()}
    lines = [f"{key}: {value}  # where it is from" for key, value in shown.items()]
    assert model(**yaml.safe_load("\n".join(lines))) == made


def test_no_metrics_are_shown_as_they_are_written():
    assert DaemonConfig(metrics_listen="off").public_dict()["metrics_listen"] == "off"
    assert DaemonConfig().public_dict()["metrics_listen"] == "127.0.0.1:9464"
