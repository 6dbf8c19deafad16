"""Writes the manual pages and the completions of the shells, from the same words as --help.

    python packaging/words.py ROOT

Called when the package is built, with the Python that will run it.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from sensordrop.cli.app import VERBS, app
from sensordrop.main import cli as daemon
from sensordrop.version import VERSION

COMPLETIONS: dict[str, type[ShellComplete]] = {
    "usr/share/bash-completion/completions/sensordrop": BashComplete,
    "usr/share/zsh/vendor-completions/_sensordrop": ZshComplete,
    "usr/share/fish/vendor_completions.d/sensordrop.fish": FishComplete,
}


def main(root: Path) -> None:
    """Write everything below `root`."""
    for path, shell in COMPLETIONS.items():
        script = shell(app, {}, "sensordrop", "_SENSORDROP_COMPLETE").source()
        _write(root / path, script + "\n")
    pages = {
        "sensordrop.1": page(app, "sensordrop", 1),
        "sensordropd.8": page(daemon, "sensordropd", 8),
    }
    for verb in VERBS:
        command = app.get_command(click.Context(app), verb)
        assert command is not None
        pages[f"sensordrop-{verb}.1"] = page(command, f"sensordrop {verb}", 1)
    for name, text in pages.items():
        folder = root / "usr/share/man" / f"man{name[-1]}"
        folder.mkdir(parents=True, exist_ok=True)
        with gzip.GzipFile(folder / f"{name}.gz", "wb", mtime=0) as file:
            file.write(text.encode())


def page(command: click.Command, name: str, section: int) -> str:
    """Write one manual page in roff's man macros (man(7))."""
    title = name.replace(" ", "-")
    context = _context(command, name)
    described, _, rest = (command.help or "").partition("\n")
    lines = [
        f'.TH "{title.upper()}" "{section}" "" "sensordrop {VERSION}" "sensordrop"',
        ".SH NAME",
        f"{title} \\- {_roff(described.strip())}",
        ".SH SYNOPSIS",
        f".B {_roff(name)}",
        _roff(" ".join(command.collect_usage_pieces(context))),
    ]
    if rest.strip():
        lines += [".SH DESCRIPTION", *_paragraphs(rest)]
    if options := _options(command, context):
        lines += [".SH OPTIONS", *options]
    if command is app:
        lines.append(".SH VERBS")
        for verb, (_, purpose) in VERBS.items():
            lines += [
                ".TP",
                f"\\fB{_roff(verb)}\\fR",
                f"{_roff(purpose)} See sensordrop-{verb}(1).",
            ]
    elif isinstance(command, click.Group):
        lines.append(".SH VERBS")
        for verb, below in command.commands.items():
            context = _context(below, verb)
            pieces = " ".join(below.collect_usage_pieces(context))
            lines += [".TP", f"\\fB{_roff(verb)}\\fR {_roff(pieces)}"]
            lines += _paragraphs(below.help or "")[1:]
            if options := _options(below, context):
                lines += [".RS", *options, ".RE"]
    if command.epilog:
        lines += [".SH NOTES", *_paragraphs(command.epilog)]
    also = "sensordrop(1)" if section == 8 or " " in name else "sensordropd(8)"
    lines += [".SH SEE ALSO", f"{also}, and /usr/share/doc/sensordrop/docs"]
    return "\n".join(lines) + "\n"


def _context(command: click.Command, name: str) -> click.Context:
    """Give what a command is called in, as the program calls it: all verbs know -h, too."""
    settings = daemon.context_settings if command is daemon else app.context_settings
    return click.Context(command, info_name=name, **settings)


def _options(command: click.Command, context: click.Context) -> list[str]:
    """Give each option with its words."""
    lines = []
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            option, words = record
            lines += [".TP", f"\\fB{_roff(option)}\\fR", _roff(words)]
    return lines


def _paragraphs(text: str) -> list[str]:
    r"""Give paragraphs; those that click leaves as they stand (marked \b) keep their lines."""
    lines: list[str] = []
    for paragraph in text.replace("\r", "").split("\n\n"):
        own = [line.strip() for line in paragraph.splitlines() if line.strip()]
        if not own:
            continue
        if own[0] == "\b":
            lines += [".PP", ".nf", *map(_roff, own[1:]), ".fi"]
        else:
            lines += [".PP", _roff(" ".join(own))]
    return lines


def _roff(text: str) -> str:
    """Escape what roff would obey: backslashes, hyphens, and a dot or quote that begins a line."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
