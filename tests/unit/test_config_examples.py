"""`sensordrop config example` prints the examples that are shipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sensordrop.cli.app import app
from sensordrop.cli.config import EXAMPLES

SHIPPED = Path(__file__).parents[2] / "conf.d"


@pytest.mark.parametrize(("of", "name"), EXAMPLES.items())
def test_an_example_is_the_shipped_one_byte_for_byte(of, name):
    text = (SHIPPED / name).read_text(encoding="utf-8")
    assert CliRunner().invoke(app, ["config", "example", of]).output == text
    told = json.loads(CliRunner().invoke(app, ["config", "example", of, "--json"]).output)
    assert told == {"name": name.removesuffix(".example"), "text": text}


def test_all_shipped_examples_can_be_printed():
    assert {file.name for file in SHIPPED.glob("*.example")} == set(EXAMPLES.values())
