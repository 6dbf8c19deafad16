"""Renders the tables of docs/configuration.md from the settings' own declarations.

    python -m sensordrop.config.reference docs/configuration.md

rewrites the tables in the document; without a path they are printed. A test holds the document
equal to what is rendered here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic_core import PydanticUndefined

from sensordrop.config.models import DaemonConfig, DeliveryConfig, settings

TABLES: dict[str, type[DaemonConfig | DeliveryConfig]] = {
    "daemon keys": DaemonConfig,
    "delivery keys": DeliveryConfig,
}
"""The tables by the name that their markers in the document have."""


def render(model: type[DaemonConfig | DeliveryConfig]) -> str:
    """Give a Markdown table of a model's keys."""
    lines = ["| key | default | meaning | expected |", "|---|---|---|---|"]
    for key, setting in settings(model).items():
        field = model.model_fields[key]
        if setting.default:
            default = setting.default
        elif field.is_required():
            default = "**must be given**"
        else:
            value = field.get_default(call_default_factory=True, validated_data={})
            assert value is not PydanticUndefined, f"{key} needs its default in words"
            default = setting.kind.default_text(value)
        expected = setting.kind.expected.replace("*", "\\*")
        cells = (f"`{key}`", default, setting.meaning, expected)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def rewritten(document: str) -> str:
    """Give the document with its tables rendered anew between their markers.

    Raises ValueError if a table's markers are not there.
    """
    for name, model in TABLES.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
        between = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        table = begin + render(model) + end
        document, count = between.subn(lambda _, table=table: table, document)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the document has {count} tables between {begin!r} and {end!r}")
    return document


def main(arguments: Sequence[str]) -> int:
    """Print the tables, or rewrite them in the named document."""
    if not arguments:
        for name, model in TABLES.items():
            sys.stdout.write(f"## {name}\n\n{render(model)}\n")
        return 0
    path = Path(arguments[0])
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
