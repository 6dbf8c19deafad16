"""What a run by hand suggests to call next leads to the same ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensordrop.cli.hand import same_place


@pytest.mark.parametrize(
    ("config", "database", "flags"),
    [
        (None, None, ""),
        (Path("north.json"), None, " --config north.json"),
        (Path("my card.json"), None, " --config 'my card.json'"),
        (None, "postgresql://db/x", " --database postgresql://db/x"),
        (None, "postgresql://ann:secret@db/x", " --database URL"),
        (None, "postgresql://db/x?password=secret", " --database URL"),
        (Path("a.json"), "postgresql://ann@db/x", " --config a.json --database postgresql://ann@db/x"),
    ],
)  # fmt: skip
def test_the_flags_are_repeated_and_secrets_are_not(config, database, flags):
    assert same_place(config, database) == flags
