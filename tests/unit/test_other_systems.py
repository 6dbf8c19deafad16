"""Runs by hand begin on systems that lack some of Python's modules: nothing takes those for granted."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "daemon" / "sensordrop"
NOT_EVERYWHERE = {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog"}
FOR_LINUX_ALONE = {"cli/demo_folder.py"}
"""What no run by hand imports."""


def names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import):
        return {each.name for each in node.names}
    return {node.module or ""} if isinstance(node, ast.ImportFrom) else set()


def test_modules_that_windows_lacks_are_imported_where_they_may_be_missing():
    found = {
        f"{file.relative_to(SOURCES)} imports {name}: put it into a block that bears its absence"
        for file in SOURCES.rglob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        for name in names(node) & NOT_EVERYWHERE
        if str(file.relative_to(SOURCES)) not in FOR_LINUX_ALONE
    }
    assert sorted(found) == []
