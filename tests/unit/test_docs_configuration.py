"""docs/configuration.md and the shipped examples say what the code does."""

import re
import shutil
from pathlib import Path

import pytest

from sensordrop.config import ConfigurationError, DaemonConfig, DeliveryConfig, load
from sensordrop.config.models import settings
from sensordrop.config.reference import TABLES, main, render, rewritten

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "configuration.md"
EXAMPLES = sorted((ROOT / "conf.d").glob("*.example"))


def test_the_tables_are_those_of_the_code():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert rewritten(text) == text, "run: python -m sensordrop.config.reference " + str(DOCUMENT)


@pytest.mark.parametrize("model", TABLES.values())
def test_a_table_has_every_key_with_all_its_cells(model):
    rows = render(model).splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(model.model_fields)
    for row in rows:
        cells = re.split(r"(?<!\\)\|", row)[1:-1]
        assert len(cells) == 4
        assert all(cell.strip() for cell in cells)


def test_a_change_in_the_document_is_found_and_mended(tmp_path):
    copy = tmp_path / "configuration.md"
    copy.write_text(DOCUMENT.read_text(encoding="utf-8").replace("| `15` |", "| `16` |"))
    assert "| `16` |" in copy.read_text()
    assert main([str(copy)]) == 0
    assert copy.read_text() == DOCUMENT.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="daemon keys"):
        rewritten("no tables here")


def test_the_mistakes_shown_in_the_document_are_told_in_these_words(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "highlands-c2.yaml").write_text(
        "local_directory: /d\nbucket_name: recordings\nmax_workers: many\nwach: off\n"
    )
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, environ={})
    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(str(problem) in text for problem in refused.value.problems)


def test_the_documents_first_delivery_is_one(tmp_path):
    text = DOCUMENT.read_text(encoding="utf-8")
    (yaml,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "highlands-c2.yaml"
    path.write_text(yaml)
    (delivery,) = load(path, environ={})[0].deliveries
    assert (delivery.name, delivery.s3_prefix) == ("highlands-c2", "C2")


def test_the_examples_load_together_without_a_mistake_or_a_notice(tmp_path):
    (tmp_path / "conf.d").mkdir()
    for example in EXAMPLES:
        name = example.name.removesuffix(".example")
        place = tmp_path if name == "sensordrop.yaml" else tmp_path / "conf.d"
        shutil.copy(example, place / name)
    configuration, notices = load(tmp_path, environ={}, deliveries_required=True)
    assert notices == ()
    assert len(configuration.deliveries) == len(EXAMPLES) - 1
    assert configuration.daemon.station == "field-office"


def test_the_examples_are_passed_over_as_long_as_they_are_examples(tmp_path):
    shutil.copytree(ROOT / "conf.d", tmp_path / "conf.d")
    configuration, notices = load(tmp_path, environ={})
    assert (configuration.deliveries, notices) == ((), ())


def test_the_examples_show_the_defaults_that_they_speak_of():
    text = (ROOT / "conf.d" / "sensordrop.yaml.example").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^(\w+): (.*)$", text, re.MULTILINE))
    fields = DaemonConfig.model_fields
    defaults = {key: str(fields[key].default) for key in shown if key != "station"}
    assert len(defaults) > 3
    assert {key: shown[key] for key in defaults} == defaults


def test_the_older_format_example_has_the_eight_keys_that_the_document_names():
    text = DOCUMENT.read_text(encoding="utf-8")
    (sentence,) = re.findall(r"The eight keys of the older JSON format are (.*?)\.", text)
    named = re.findall(r"`(\w+)`", sentence)
    example = (ROOT / "conf.d" / "older-format.json.example").read_text(encoding="utf-8")
    assert len(named) == 8
    assert sorted(re.findall(r'"(\w+)":', example)) == sorted(named)


def test_the_env_example_is_right_as_it_is_and_with_every_line_in_force(tmp_path):
    (tmp_path / "conf.d").mkdir()
    shutil.copy(ROOT / "conf.d" / "highlands-c2.yaml.example", tmp_path / "conf.d" / "north.yaml")
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    (tmp_path / ".env").write_text(text)
    assert load(tmp_path, environ={})[0].daemon.log_level == "info"
    (tmp_path / ".env").write_text(re.sub(r"^#(?=[A-Z])", "", text, flags=re.MULTILINE))
    configuration, _ = load(tmp_path, environ={})
    assert configuration.daemon.log_level == "debug"
    assert configuration.deliveries[0].exclude == ("*.tmp", "test/")
    assert configuration.deliveries[0].endpoint_url == "https://objects.example.org"


def test_every_key_that_others_rely_on_is_there():
    daemon = "station database state_directory control_socket metrics_listen log_format log_level"
    assert set(settings(DaemonConfig)) >= {*daemon.split(), "bandwidth"}
    delivery = """
        local_directory bucket_name s3_prefix max_workers aws_region times_to_retry aws_profile
        use_find name client project cycle sensor_level endpoint_url include exclude extensions
        quiet_seconds sweep_interval_seconds watch retry_delay_seconds retry_cap_seconds priority
        bandwidth engine store_check storage_class sse kms_key_id tags addressing_style ca_bundle
        proxy request_checksum_calculation endpoint after_verified shared shares_prefix enabled
    """
    assert set(settings(DeliveryConfig)) >= set(delivery.split())
