"""What the tests of `sensordrop verify` and `sensordrop receipt` share: a card, and its verdict."""

from __future__ import annotations

import json
from typing import Any

FILES = {
    "S1/a.wav": b"recording a",
    "S1/b.wav": b"recording b",
    "S1/odd \xe4 +%.wav": b"recording c",
    "S2/d.wav": b"recording d",
    "S2/e.wav": b"recording e",
}


def told_by(station, verb: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Ask with `--json`; give the exit code, and what was told."""
    done = station.sensordrop(verb, "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def problems(told: dict[str, Any]) -> dict[str, str]:
    return {each["path"]: each["reason"] for each in told["problems"]}


def delete(station, key: str) -> None:
    station.server.client().delete_object(Bucket=station.bucket.name, Key=key)
