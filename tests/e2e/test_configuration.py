"""The configuration as a sysadmin meets it: checked as a whole, refused in the same words."""

from __future__ import annotations

import json
import time

import pytest
from daemon import QUIET_SECONDS, drop_files, under_prefix


def test_a_right_configuration_is_approved(station):
    done = station.check_config()
    assert done.returncode == 0
    assert "card" in done.stdout
    assert done.stderr == ""
    assert not station.state.exists(), "checking touches nothing"


def test_all_mistakes_are_told_at_once_and_the_daemon_refuses_in_the_same_words(station):
    station.configure(log_levl="info", metrics_listen="nowhere")
    station.delivery(times_to_retry="often", bucket_nam="x", local_directory="relative/drop")
    station.delivery("twin", s3_prefix="C1/sub", local_directory=str(station.drop / "inner"))
    station.delivery("twin2", s3_prefix="C9", local_directory=str(station.drop))
    station.configuration.text("broken.json", '{"local_directory": ')
    station.environment["SENSORDROP_DELIVERY_QUIET_SECOND"] = "2"
    checked = station.check_config()
    assert checked.returncode == 2
    lines = checked.stderr.splitlines()

    def told(*words: str) -> bool:
        return any(all(word in line for word in words) for line in lines)

    assert told("sensordrop.yaml", "log_levl", "log_level")
    assert told("sensordrop.yaml", "metrics_listen", "nowhere", "HOST:PORT")
    assert told("card.yaml", "times_to_retry", "often")
    assert told("card.yaml", "bucket_nam", "bucket_name")
    assert told("card.yaml", "local_directory", "relative/drop", "absolute")
    assert told("twin", "local_directory")
    assert told("broken.json")
    assert told("SENSORDROP_DELIVERY_QUIET_SECOND", "SENSORDROP_DELIVERY_QUIET_SECONDS")
    count = int(lines[-1].split()[0])
    assert count >= 8

    refused = station.new_daemon()
    refused.launch()
    assert refused.wait_for_end() == 2
    assert refused.output() == checked.stderr
    assert not station.state.exists()


@pytest.mark.parametrize(
    "arguments",
    [["--config", "/does/not/exist"], ["--log-format", "pretty"], ["--no-such-flag"]],
    ids=["no such folder", "no such format", "no such flag"],
)
def test_what_cannot_be_understood_ends_with_2_and_no_traceback(station, arguments):
    daemon = station.new_daemon(*arguments)
    daemon.launch()
    assert daemon.wait_for_end() == 2
    assert daemon.output().strip()
    assert "Traceback" not in daemon.output()


def test_the_older_json_format_is_enough(station):
    """Only the older keys, as strings; credentials by profile, the store by AWS's variable."""
    (station.configuration.path / "conf.d" / "card.yaml").unlink()
    station.configuration.text(
        "highlands.json",
        json.dumps(
            {
                "local_directory": str(station.drop),
                "bucket_name": station.bucket.name,
                "s3_prefix": "C2",
                "max_workers": "4",
                "aws_region": "eu-west-1",
                "times_to_retry": "3",
                "aws_profile": "field",
                "use_find": "no",
            }
        ),
    )
    (station.home / ".aws").mkdir()
    (station.home / ".aws" / "credentials").write_text(
        f"[field]\naws_access_key_id = {station.server.access_key}\n"
        f"aws_secret_access_key = {station.server.secret_key}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        del station.environment[name]
    station.environment["AWS_ENDPOINT_URL"] = station.server.endpoint_url
    digests = drop_files(station.drop, {"950349/x.WAV": b"RIFF", "cam1/DCIM/y.JPG": b"jpg"})
    station.start()
    station.wait_for_session_end()
    assert station.bucket.digests() == under_prefix(digests, "C2")
    told = station.delivery_status("highlands")
    assert (told["client"], told["project"], told["cycle"]) == (
        "default",
        station.bucket.name,
        "C2",
    )


def test_one_delivery_file_alone_is_a_configuration(station):
    file = station.configuration.path / "conf.d" / "card.yaml"
    digests = drop_files(station.drop, {"950349/x.WAV": b"RIFF"})
    station.environment |= {
        "SENSORDROP_DATABASE_URL": station.database,
        "SENSORDROP_STATE_DIRECTORY": str(station.state),
        "SENSORDROP_LOG_FORMAT": "json",
    }
    (station.configuration.path / "sensordrop.yaml").unlink()
    daemon = station.new_daemon("--config", str(file))
    daemon.start()
    station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    assert station.bucket.digests() == under_prefix(digests)


def test_the_environment_wins_over_the_file_and_env_beside_it_and_flags_over_all(station):
    station.configure(
        log_level="error", defaults={"client": "from defaults", "project": "from defaults"}
    )
    station.delivery(s3_prefix="FILE", project="from the file", cycle="from the file")
    (station.configuration.path / ".env").write_text(
        "SENSORDROP_DELIVERY_S3_PREFIX=DOTENV\nSENSORDROP_DELIVERY_CYCLE=from .env\n"
    )
    station.environment["SENSORDROP_DELIVERY_S3_PREFIX"] = "ENVIRONMENT"
    station.environment["SENSORDROP_LOG_LEVEL"] = "warning"
    digests = drop_files(station.drop, {"950349/x.WAV": b"RIFF"})
    station.start("--log-level", "info")  # nothing would be heard of the start otherwise
    station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    assert station.bucket.digests() == under_prefix(digests, "ENVIRONMENT")
    told = station.delivery_status()
    assert (told["client"], told["project"], told["cycle"]) == (
        "from defaults",
        "from the file",
        "from .env",
    )


def test_every_configuration_that_was_used_is_kept_without_its_secrets(station):
    for cycle in ("C1", "C1", "C2"):
        station.delivery(s3_prefix="C1", cycle=cycle, proxy=None)
        station.start()
        assert station.daemon.stop() == 0
    kept = station.ledger.rows(
        "SELECT h.configuration FROM config_history h JOIN deliveries d ON d.id = h.delivery_id"
        " ORDER BY h.id"
    )
    assert [row["configuration"]["cycle"] for row in kept] == ["C1", "C2"]
    everything = json.dumps(station.ledger.rows("SELECT configuration FROM config_history"))
    assert station.server.secret_key not in everything


def test_a_disabled_delivery_is_left_alone(station):
    drop_files(station.drop, {"950349/x.WAV": b"RIFF"})
    other = station.folder / "other"
    digests = drop_files(other, {"950349/y.WAV": b"RIFF"})
    station.delivery(enabled="no")
    station.delivery("other", local_directory=str(other), s3_prefix="C2")
    station.start()
    station.wait_for_session_end()
    drop_files(station.drop, {"950349/z.WAV": b"RIFF"})
    time.sleep(2 * QUIET_SECONDS)
    assert station.bucket.digests() == under_prefix(digests, "C2")
    told = station.delivery_status()
    assert told["state"] == "disabled"
    assert told["reason"]
    assert set(told["counts"].values()) == {0}
