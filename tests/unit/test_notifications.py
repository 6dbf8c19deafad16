"""The key `notify`: whom, of what, in which words; its mistakes; and what is shown of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sensordrop.config import Configuration, ConfigurationError, DeliveryConfig, load
from sensordrop.config.notifications import GIVE_UP_SECONDS
from sensordrop.core.letters import LetterKind
from sensordrop.core.templates import PLACEHOLDERS

DOCUMENT = Path(__file__).parents[2] / "docs" / "registration.md"
HOOK = "https://hooks.example.org/services/T0/B0/s3cr3t"
LETTER = json.dumps(
    {"event": "done", "delivery": "north", "session_id": 3, "total_files": 2, "files_uploaded": 2}
)


def configuration(folder: Path, notify: str, defaults: str = "", **environ: str) -> Configuration:
    (folder / "conf.d").mkdir(exist_ok=True)
    if defaults:
        (folder / "sensordrop.yaml").write_text(f"defaults:\n  {defaults}\n")
    text = f"local_directory: /north\nbucket_name: birds\n{notify}\n"
    (folder / "conf.d" / "north.yaml").write_text(text)
    return load(folder, environ=environ)[0]


def delivery(folder: Path, notify: str, defaults: str = "", **environ: str) -> DeliveryConfig:
    (found,) = configuration(folder, notify, defaults, **environ).deliveries
    return found


def test_an_address_alone_is_told_of_everything_as_the_ledger_wrote_it(tmp_path):
    notify = delivery(tmp_path, f"notify: {HOOK}").notify
    assert notify.events == (LetterKind.START, LetterKind.FAILURE, LetterKind.DONE)
    assert notify.body_of(LETTER) == LETTER
    assert notify.give_up_seconds == GIVE_UP_SECONDS


def test_defaults_hold_for_all_and_a_template_may_be_a_text(tmp_path):
    template = json.dumps({"text": "{message}"})
    notify = delivery(
        tmp_path, "", f"notify: {{url: '{HOOK}', events: done, template: '{template}'}}"
    ).notify
    assert notify.events == (LetterKind.DONE,)
    said = "north: session 3 ended well: 2 of 2 files uploaded"
    assert json.loads(notify.body_of(LETTER)) == {"text": said}


def test_its_secrets_may_come_from_elsewhere_the_address_among_them(tmp_path):
    environ = {
        "SENSORDROP_NOTIFY_URL": HOOK,
        "SENSORDROP_NOTIFY_TOKEN": "t0ken",
        "SENSORDROP_NOTIFY_SECRET": "hush",
        "SENSORDROP_NOTIFY_HEADERS": "{X-A: b}",
        "SENSORDROP_ENDPOINT_TOKEN": "another's",
    }
    notify = delivery(tmp_path, "notify: {events: [failure]}", **environ).notify
    assert (notify.url, notify.token, notify.secret) == (HOOK, "t0ken", "hush")
    assert notify.headers == {"X-A": "b"}
    without = delivery(tmp_path, "", **environ)
    assert without.notify is None, "who is not asked to is not told"
    assert without.public_dict()["notify"] is None
    with pytest.raises(ConfigurationError, match=r"north.yaml: notify: has no url"):
        delivery(tmp_path, "notify: {events: [failure]}")


def test_no_secret_is_shown_and_the_path_of_a_webhook_is_one(tmp_path):
    text = f"notify: {{url: '{HOOK}', token: t0ken, secret: hush, headers: {{X-A: qu1et}}}}"
    config = delivery(tmp_path, text)
    shown = json.dumps(config.public_dict()["notify"]) + repr(config) + config.notify.shown
    for secret in ("s3cr3t", "T0/B0", "t0ken", "hush", "qu1et"):
        assert secret not in shown
    assert config.notify.shown == "https://hooks.example.org/***"
    assert {"s3cr3t", "/services/T0/B0/s3cr3t", "t0ken"} <= config.notify.secrets
    with pytest.raises(ConfigurationError) as refused:
        delivery(tmp_path, f"notify: {{url: '{HOOK}', tokn: t0ken}}")
    assert "'token'" in str(refused.value)
    for secret in ("s3cr3t", "t0ken"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("events: [done, failures]", "'failure'"),
        ("events: []", "events takes a list of start, failure, done"),
        ("template: {text: '{fils_uploaded}'}", "there is no placeholder {fils_uploaded}"),
        ("template: '{\"n\": {total_files}}'", "the template is not JSON"),
        ("template: '{\"n\": 1'", "the template is not JSON"),
        ("template: 3", "a template is a JSON object or list"),
        ("timeout_seconds: 0", "a number from 1 to 300"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, part, words):
    with pytest.raises(ConfigurationError) as refused:
        delivery(tmp_path, f"notify:\n  url: {HOOK}\n  {part}")
    (problem,) = refused.value.problems
    assert str(problem).startswith("conf.d/north.yaml: notify: ")
    assert words in str(problem)


def test_the_documents_examples_are_configurations_and_say_what_it_says(tmp_path):
    text = DOCUMENT.read_text(encoding="utf-8").split("## Notifications")[1]
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for number, example in enumerate(examples):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert delivery(folder, example, SENSORDROP_NOTIFY_URL=HOOK).notify is not None
    told = delivery(tmp_path, examples[0], SENSORDROP_NOTIFY_URL=HOOK).notify.body_of(LETTER)
    (shown,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert json.loads(told) == json.loads(shown)


def test_the_document_names_every_placeholder_with_its_meaning():
    text = DOCUMENT.read_text(encoding="utf-8")
    missing = [name for name, meaning in PLACEHOLDERS.items()
               if f"| `{name}` | {meaning} |" not in text]  # fmt: skip
    assert not missing
