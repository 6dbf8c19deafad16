"""Structured logs: one event for each thing that happened, with its facts as fields."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from sensordrop.adapters import journal
from sensordrop.core.terminal import printable

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_RAW_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

Event = MutableMapping[str, Any]


def configure(log_format: str, log_level: str) -> None:
    """Send all logs to standard error: for people, as JSON lines, or for the journal.

    `journal` writes into systemd's journal itself where standard error leads there, so that facts
    become fields; else it writes lines that journald understands when they reach it another way.
    """
    steps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
    ]
    factory: Any = structlog.PrintLoggerFactory(file=sys.stderr)
    if log_format == "json":
        steps += [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
            _json_harmless,
        ]
    elif log_format == "journal" and journal.is_our_stderr(
        os.environ.get("JOURNAL_STREAM", ""), sys.stderr.fileno()
    ):
        steps += [structlog.processors.format_exc_info, _for_journal]
        logger = journal.JournalLogger()
        factory = lambda *_: logger  # noqa: E731 — one socket serves all threads
    elif log_format == "journal":
        steps += [
            structlog.processors.format_exc_info,
            _harmless,
            structlog.processors.LogfmtRenderer(key_order=["event"], bool_as_flag=False),
            _prioritised,
        ]
    else:
        steps += [
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            _harmless,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=18),
        ]
    structlog.configure(
        processors=steps,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[log_level]),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


def hand_on(take: Callable[[str, dict[str, Any]], None], log_level: str) -> None:
    """Give every event, with the level that it has, to `take` instead of writing it.

    `take` is called from every thread, and must not raise.
    """

    def last(_: Any, level: str, event: Event) -> Event:
        take(level, dict(event))
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[log_level]),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


def _harmless(_: Any, __: str, event: Event) -> Event:
    """Escape control characters: names come from cards, and lines belong to us."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = printable(value)
    return event


def _json_harmless(_: Any, __: str, line: str) -> str:
    """Escape, as JSON does it, what JSON allows to stand raw and a terminal would obey."""
    return _RAW_IN_JSON.sub(lambda match: f"\\u{ord(match.group()):04x}", line)


def _prioritised(_: Any, __: str, line: str) -> str:
    level = next((name for name in journal.PRIORITIES if f" level={name}" in line), "info")
    return f"<{journal.PRIORITIES[level]}>{line}"


def _for_journal(_: Any, __: str, event: Event) -> bytes:
    return journal.datagram(journal.fields_of(event))
