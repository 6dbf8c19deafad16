"""HTML that is safe by construction: what is not markup already is escaped when it is put in."""

from __future__ import annotations

import html
from dataclasses import dataclass

from sensordrop.core.terminal import printable

_VOID = frozenset({"meta", "br", "hr"})
"""Elements that have no end tag."""


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML as it goes into the page. Only `element`, `joined` and the page's own head make it."""

    text: str


Inside = Markup | str | int | None
"""What may stand in an element; None is nothing."""


def element(tag: str, /, *inside: Inside, **attributes: str | int | None) -> Markup:
    """Make an element. `class_` is written class, `aria_label` aria-label; None leaves one out.

    Names of files, sensors and companies come from outside: whatever they hold is shown as text,
    and what would turn the direction of writing or end a line is shown escaped.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{joined(*inside).text}</{tag}>")


def joined(*inside: Inside) -> Markup:
    """Put pieces one after the other."""
    return Markup(
        "".join(
            piece.text if isinstance(piece, Markup) else _escaped(str(piece))
            for piece in inside
            if piece is not None
        )
    )


def name(text: str, *, empty: str = "") -> Markup:
    """Show a name from outside: its direction of writing stays its own. `empty` stands for ''."""
    return element("bdi", text) if text else element("i", empty)


def _escaped(text: str) -> str:
    return html.escape(printable(text), quote=True)
