"""What is said of the verbs: the options that they have, their manual pages, and completion."""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sensordrop.cli.app import VERBS, app

WORDS = Path(__file__).parents[2] / "packaging" / "words.py"
SOURCES = Path(__file__).parents[2] / "daemon"

TAKEN = {
    "status": {"--watch"},
    "deliveries": set(),
    "sessions": {"--delivery", "--limit", "--after"},
    "session": {"session_id"},
    "files": {"--state", "--delivery", "--sensor", "--limit", "--after"},
    "why": {"path", "--delivery"},
    "pause": {"delivery", "--for", "--reason", "--history"},
    "resume": {"delivery"},
    "retry": {"paths", "--delivery", "--session-id", "--session", "--now", "--all-failed"},
    "rescan": {"delivery", "--confirm-vanished"},
    "bandwidth": {"limit", "--delivery", "--for", "--reason"},
    "verify": {"--delivery", "--session-id", "--session"},
    "config check": set(),
    "config show": {"--delivery"},
    "config example": {"of"},
    "doctor": {"--delivery"},
    "logs": {"--delivery", "--session-id", "--session", "--priority", "--follow"},
    "version": set(),
}
"""What scripts rely on: options and arguments of the verbs that steer and show the daemon."""
ASKS_THE_DAEMON = {
    "bandwidth", "deliveries", "files", "pause", "rescan", "resume", "retry", "session",
    "sessions", "status", "trigger", "why",
}  # fmt: skip
JSON_OTHERWISE = {"demo"}
"""It shows itself, and ends with a line of JSON."""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Give every verb, and those below the ones that have some, by what is typed."""
    for verb in VERBS:
        command = app.get_command(click.Context(app), verb)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield verb, command
        if isinstance(command, click.Group):
            for name, below in command.commands.items():
                yield f"{verb} {name}", below


def taken(command: click.Command) -> set[str]:
    return {
        name
        for each in command.params
        for name in (each.opts if isinstance(each, click.Option) else [each.name or ""])
    }


def test_every_verb_takes_what_scripts_rely_on_and_speaks_json():
    found = {typed: taken(command) for typed, command in commands()}
    for typed, options in TAKEN.items():
        assert options <= found[typed], typed
    for typed, options in found.items():
        assert "--json" in options or typed in JSON_OTHERWISE, typed
        assert ("--socket" in options) == (typed in ASKS_THE_DAEMON), typed


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Give what the package would bring: manual pages and completions."""
    root: Path = tmp_path_factory.mktemp("words")
    found = importlib.util.spec_from_file_location("words", WORDS)
    assert found is not None
    assert found.loader is not None
    words = importlib.util.module_from_spec(found)
    found.loader.exec_module(words)
    words.main(root)
    return root


def manual(root: Path, verb: str) -> str:
    page = root / "usr/share/man/man1" / f"sensordrop-{verb}.1.gz"
    return gzip.decompress(page.read_bytes()).decode().replace("\\-", "-").replace("\\e", "\\")


def test_the_manual_of_each_verb_names_every_option_with_its_words(written):
    for typed, command in commands():
        page = manual(written, typed.partition(" ")[0])
        context = click.Context(command, info_name=typed, **app.context_settings)
        for each in command.get_params(context):
            if record := each.get_help_record(context):
                assert f"\\fB{record[0]}\\fR\n" in page, (typed, record)
                assert record[1] in page, (typed, record)
    assert (written / "usr/share/man/man8/sensordropd.8.gz").exists()
    whole = manual_of_all(written)
    for verb, (_, purpose) in VERBS.items():
        assert verb in whole
        assert purpose in whole
    assert "Exit codes: 0 done" in whole


def manual_of_all(root: Path) -> str:
    page = root / "usr/share/man/man1/sensordrop.1.gz"
    return gzip.decompress(page.read_bytes()).decode().replace("\\-", "-")


def completed(shell: str, *words: str) -> set[str]:
    """Give what a shell would offer for the last word, as its script asks for it."""
    typed = " ".join(words)
    place = {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        place = {"COMP_WORDS": typed, "COMP_CWORD": words[-1]}
    done = subprocess.run(
        [sys.executable, "-c", "from sensordrop.cli.app import main; main()"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "LANG": "C.UTF-8",
             "_SENSORDROP_COMPLETE": f"{shell}_complete", **place},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(re.split(r"[\n,\t]", done.stdout))


@pytest.mark.parametrize(
    ("shell", "path"),
    [
        ("bash", "usr/share/bash-completion/completions/sensordrop"),
        ("zsh", "usr/share/zsh/vendor-completions/_sensordrop"),
        ("fish", "usr/share/fish/vendor_completions.d/sensordrop.fish"),
    ],
)
def test_shells_complete_verbs_and_options(written, shell, path):
    script = (written / path).read_text(encoding="utf-8")
    assert f"_SENSORDROP_COMPLETE={shell}_complete" in script
    if program := shutil.which(shell):
        checked = subprocess.run([program, "-n", str(written / path)], check=False, timeout=60)
        assert checked.returncode == 0
    assert {"sessions", "session"} <= completed(shell, "sensordrop", "sess")
    assert "--confirm-vanished" in completed(shell, "sensordrop", "rescan", "--con")
