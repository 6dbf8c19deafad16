"""How a run by hand shows itself: for people at a terminal, in a file, or as JSON for programs.

Events come from the services' threads as the log has them; `take` may be called by any of them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Protocol, Self

from sensordrop.cli.asking import size_words
from sensordrop.core.batch import Figures, RunEnd, progress_line
from sensordrop.core.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from sensordrop.by_hand import HandResult

PLAIN_SECONDS = 10.0
"""How often the line is written where it can't be updated in place: a night fills some pages."""
REDRAWS_PER_SECOND = 4
"""The line follows the eye; the figures come twice a second."""
MOST_FAILURES = 100
"""Failures that are told one by one; the summary counts all."""

NO_CURSOR = ("", "dumb", "unknown")
"""Terminals (TERM) that can't take back what was written."""

EMOJI = {
    "session": "🆔", "retry": "🔁", "folder": "📁", "profile": "🔑", "bucket": "🪣", "stored": "📦",
    "scan": "🔍", "ok": "✅", "skipped": "⏭️", "failed": "❌", "warning": "⚠️", "stop": "🛑",
    "daemon": "🤝", "done": "🎉", "speed": "⚡",
}  # fmt: skip
PLAIN = dict.fromkeys(EMOJI, "") | {
    "ok": "ok", "skipped": "skipped", "failed": "FAILED", "warning": "warning:", "stop": "stopped:",
}  # fmt: skip

Facts = Mapping[str, Any]

_SILENT = frozenset({"file_failed"})
"""Warnings about files that are tried again: shown one by one only where that is asked for."""


class Display(Protocol):
    """Shows a run. `take` is called from every thread; the rest belongs to one."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def take(self, level: str, event: dict[str, Any]) -> None:
        """Show an event, or keep it for later."""
        ...

    def say(self, mark: str, words: str) -> None:
        """Show a line between runs."""
        ...

    def sum_up(self, result: HandResult, *, about: str = "", dry_run: bool = False) -> None:
        """Show what came of it. `about`: the flags that lead other verbs to the same ledger."""
        ...


def display_for(*, quiet: bool, verbose: bool, as_json: bool) -> Display:
    """Choose the display that suits what standard output is."""
    if as_json:
        return JsonDisplay()
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    terminal = sys.stdout.isatty()
    marks = EMOJI if terminal and encoding == "utf8" else PLAIN
    in_place = terminal and not quiet and os.environ.get("TERM", "dumb") not in NO_CURSOR
    return TextDisplay(marks=marks, in_place=in_place, quiet=quiet, verbose=verbose)


def put(text: str) -> None:
    """Write a line to standard output, whatever that can take.

    Where nobody reads it any more (a closed pipe, a lost connection) the work goes on, and what is
    said of it goes nowhere: an error here would end the service whose event it is.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError:
        nowhere()


def nowhere() -> None:
    """Have all that is written from now on go nowhere: also what Python flushes as it ends."""
    with Path(os.devnull).open("wb") as sink:
        os.dup2(sink.fileno(), sys.stdout.fileno())


class JsonDisplay:
    """One event per line: `event`, `level`, and what belongs to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def take(self, level: str, event: dict[str, Any]) -> None:
        """Write an event."""
        name = event.pop("event", "")
        # In ASCII: any terminal and any encoding takes it, and obeys none of what names may hold.
        text = json.dumps({"event": name, "level": level} | event, default=str)
        with self._lock:
            put(text.replace("\x7f", "\\u007f"))

    def say(self, mark: str, words: str) -> None:
        """Write a line as an event."""
        self.take("info", {"event": "note", "mark": mark, "words": words})

    def sum_up(self, result: HandResult, *, about: str = "", dry_run: bool = False) -> None:
        """Write the last event."""
        figures = result.figures
        told: dict[str, Any] = {
            "event": "run_ended",
            "how": result.ended.how.value,
            "words": result.ended.words,
            "well": result.well,
            "session": result.session_id,
            "delivery": result.delivery,
            "dry_run": dry_run,
            "files": figures.total if figures else 0,
            "uploaded": figures.uploaded if figures else 0,
            "skipped": figures.skipped if figures else 0,
            "failed": figures.failed if figures else 0,
            "remaining": figures.remaining if figures else 0,
            "bytes_uploaded": figures.bytes_uploaded if figures else 0,
            "failures": [
                {"error_class": each.error_class, "files": each.files, "example": each.path}
                for each in result.failed
            ],
            "untold": None if result.untold is None else result.untold.endpoint,
            "retry": retry_command(result, about),
        }
        self.take("info", told)


class TextDisplay:
    """For people: opening lines, one line that is updated in place, and a summary."""

    def __init__(
        self, *, marks: Mapping[str, str], in_place: bool, quiet: bool, verbose: bool
    ) -> None:
        self._marks = marks
        self._in_place = in_place
        self._quiet = quiet
        self._verbose = verbose
        self._lock = threading.Lock()
        self._console: Console | None = None
        self._live: Live | None = None
        self._line = ""
        self._written_at = 0.0
        self._written: Figures | None = None
        """What was written last where the line can't be updated in place."""
        self._failures = 0
        self._session: int | None = None
        """The number that the run's session was shown with."""
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._in_place:
            from rich.console import Console
            from rich.live import Live
            from rich.text import Text

            self._console = Console(highlight=False)
            self._live = Live(
                console=self._console,
                refresh_per_second=REDRAWS_PER_SECOND,
                get_renderable=lambda: Text(self._line),
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            except OSError:
                nowhere()

    def take(self, level: str, event: dict[str, Any]) -> None:
        """Show an event."""
        name = str(event.pop("event", ""))
        if name == "run_progress":
            self._progress(Figures(**{key: event[key] for key in Figures.__slots__}))
            return
        line = self._words(name, level, event)
        if line is not None:
            self._write(line)

    def say(self, mark: str, words: str) -> None:
        """Show a line between runs."""
        if not self._quiet:
            self._write(self._marked(mark, words))

    def sum_up(self, result: HandResult, *, about: str = "", dry_run: bool = False) -> None:
        """Show totals, speed, failures by class, and what to do about them."""
        if dry_run and result.ended.how is RunEnd.DONE:
            return
        for line in self._summary(result, about):
            self._write(line)

    # --- lines ----------------------------------------------------------------------------

    def _words(self, name: str, level: str, facts: Facts) -> str | None:
        if name in ("file_stored", "file_skipped"):
            mark = "ok" if name == "file_stored" else "skipped"
            return self._marked(mark, facts["path"]) if self._verbose else None
        if name == "file_quarantined":
            self._failures += 1
            if self._failures > MOST_FAILURES and not self._verbose:
                return None
            words = f"{facts['path']}: {facts['error_class']}: {facts['problem']}"
            return self._marked("failed", words)
        if level in ("warning", "error", "critical"):
            if name in _SILENT and not self._verbose:
                return None
            return self._marked("warning", _told(name, facts))
        if self._quiet:
            return None
        opening = getattr(self, f"_{name}", None) if name.startswith("run_") else None
        if opening is not None:
            said: str = opening(facts)
            return said
        if name in ("sweep_progress", "listing_progress"):
            speed = facts.get("files_per_second", facts.get("objects_per_second", 0))
            return self._marked("scan", f"{facts['message']} ({speed:,}/s)")
        return self._marked("scan", _found(facts)) if name == "sweep_finished" else None

    def _run_started(self, facts: Facts) -> str:
        self._session = facts["session"]
        retries = facts["retries"]
        told = f"on, up to {retries} retries of a file" if retries else "off"
        where = f"{facts['bucket']}/{facts['prefix']}".rstrip("/")
        return "\n".join(
            (
                self._marked("session", f"Session: {facts['session']} ({facts['delivery']})"),
                self._marked("retry", f"Auto-retry: {told}"),
                self._marked("folder", f"Directory: {facts['folder']}"),
                self._marked("profile", f"Profile: {facts['profile'] or 'default'}"),
                self._marked("bucket", f"Bucket: {where}"),
            )
        )

    def _run_check(self, facts: Facts) -> str:
        mark = {"ok": "ok", "failed": "failed"}.get(facts["outcome"], "warning")
        hint = f" — {facts['hint']}" if facts["hint"] else ""
        return self._marked(mark, f"{facts['check']}: {facts['found']}{hint}")

    def _run_stored_before(self, facts: Facts) -> str:
        return self._marked("stored", f"Previously uploaded files loaded: {facts['files']:,}")

    def _run_retries(self, facts: Facts) -> str:
        return self._marked("retry", f"Tried again: {_files(facts['files'])} that failed before")

    def _run_dry(self, facts: Facts) -> str:
        where = f"{facts['bucket']}/{facts['prefix']}".rstrip("/")
        lines = [
            self._marked("folder", f"Directory: {facts['folder']}"),
            self._marked("scan", f"Found {_files(facts['files'])}"),
            self._marked("ok", f"{_files(facts['new'])} would be uploaded to {where}, and "
                         f"{_files(facts['changed'])} that changed"),
        ]  # fmt: skip
        if facts["unsettled"]:
            lines.append(self._marked("warning", f"{_files(facts['unsettled'])} changed just now: "
                                      "a run waits until nobody writes any more"))  # fmt: skip
        ignored = facts["ignored"]
        if ignored:
            lines.append(self._marked("skipped", f"{_files(ignored)} more would be ignored"))
        known = facts["files"] - sum(facts[k] for k in ("new", "changed", "unsettled", "ignored"))
        if known > 0:
            lines.append(self._marked("stored", f"{_files(known)} on the books already: stored, "
                                      "waiting, failed or ignored"))  # fmt: skip
        lines.append(self._marked("stored", f"{size_words(facts['size_bytes'])}; nothing was sent"))
        return "\n".join(lines)

    def _run_handed_over(self, facts: Facts) -> str:
        words = (
            f"sensordropd looks after {facts['folder']} (delivery {facts['delivery']}): it was "
            "asked to sweep it now, and this follows its progress"
        )
        return self._marked("daemon", words)

    def _summary(self, result: HandResult, about: str) -> list[str]:
        how, words = result.ended.how, result.ended.words
        lines = []
        figures = result.figures
        if figures is not None:
            seconds = max(time.monotonic() - self._began, 0.001)
            lines.append(self._marked("done" if result.well else "scan", (
                f"{_files(figures.total)}: {figures.uploaded:,} uploaded "
                f"({size_words(figures.bytes_uploaded)}), {figures.skipped:,} skipped, "
                f"{figures.failed:,} failed, {figures.remaining:,} remaining"
            )))  # fmt: skip
            if not self._quiet:
                lines.append(self._marked("speed", (
                    f"{seconds:,.0f} s, {figures.finished / seconds:,.1f} files/s, "
                    f"{size_words(int(figures.bytes_uploaded / seconds))}/s"
                )))  # fmt: skip
        elif how is RunEnd.DONE and not result.failed:
            lines.append(self._marked("done", "nothing to do: all files are stored already"))
        if figures is None and self._session is not None and not self._quiet:
            words_of = f"session {self._session} is not kept: no file came into it"
            lines.append(self._marked("session", words_of))
        for each in result.failed:
            words_of = f"{each.error_class}: {_files(each.files)}, such as {each.path}"
            lines.append(self._marked("failed", words_of))
        untold = result.untold
        if untold is not None:
            words_of = f"{untold.endpoint} was not told yet: {untold.problem or 'no answer yet'}"
            again = f"sensordrop trigger --session-id {result.session_id}{about} tells it again"
            lines.append(self._marked("warning", f"{words_of} — {again}"))
        if how is RunEnd.INTERRUPTED:
            left = f"{_files(figures.remaining)} remain" if figures else "all files remain"
            left += "s" if figures and figures.remaining == 1 else ""
            what = f"{left}; the same command goes on where this stopped"
            lines.append(self._marked("stop", what))
        elif how is not RunEnd.DONE:
            lines.append(self._marked("stop", _reason(how, words, result.delivery, about)))
        if command := retry_command(result, about):
            lines.append(self._marked("retry", f"once it is mended: {command}"))
        return lines

    def _marked(self, mark: str, words: str) -> str:
        sign = self._marks[mark]
        return f"{sign} {printable(words)}" if sign else printable(words)

    # --- writing --------------------------------------------------------------------------

    def _progress(self, figures: Figures) -> None:
        if self._quiet or not figures.total:
            return
        line = progress_line(figures)
        now = time.monotonic()
        with self._lock:
            self._line = line
            if self._in_place:
                return
            # The speed alone changes all the time: it is no news.
            news = replace(figures, files_per_second=0.0)
            due = now - self._written_at >= PLAIN_SECONDS or not figures.remaining
            if news == self._written or not due:
                return
            self._written, self._written_at = news, now
        self._write(line)

    def _write(self, line: str) -> None:
        with self._lock:
            if self._console is not None:
                from rich.text import Text

                # The live line is the console's own: what is printed goes above it. The terminal
                # breaks long lines: so a command can be copied from it.
                try:
                    self._console.print(Text(line), soft_wrap=True)
                except OSError:
                    nowhere()
                return
            encoding = sys.stdout.encoding or "ascii"
            put(line.encode(encoding, "backslashreplace").decode(encoding))


def retry_command(result: HandResult, about: str) -> str | None:
    """Give the command that has tried again what failed; None if nothing did."""
    if not result.failed:
        return None
    if result.session_id is not None and result.figures and result.figures.failed:
        return f"sensordrop retry --session-id {result.session_id}{about}"
    return f"sensordrop retry --delivery {quote(result.delivery)}{about}"


def _reason(how: RunEnd, words: str, delivery: str, about: str) -> str:
    told = {
        RunEnd.PARTIAL: "the folder could not be listed to its end, so the session stays open: ",
        RunEnd.MISSING: "",
        RunEnd.PAUSED: "uploads are paused: ",
        RunEnd.OFFLINE: "",
        RunEnd.BLOCKED: "",
        RunEnd.NO_LEDGER: "",
    }[how]
    hints = {
        RunEnd.PAUSED: f" — sensordrop resume {quote(delivery)}{about} lets them go on",
        RunEnd.MISSING: " — or run upload with --confirm-vanished",
    }
    return told + words + hints.get(how, "")


def _told(name: str, facts: Facts) -> str:
    subject = f"{facts['path']}: " if "path" in facts else ""
    problem = facts.get("problem") or name.replace("_", " ")
    hint = f" — {facts['hint']}" if facts.get("hint") else ""
    return f"{subject}{problem}{hint}"


def _found(facts: Facts) -> str:
    """Tell of a sweep: what is still being written holds a run up, and is told."""
    words = (f"Found {facts['files']:,} files, {facts['new']:,} new, "
             f"{facts['changed']:,} changed ({facts['seconds']} s)")  # fmt: skip
    if facts["settling"]:
        words += f"; {facts['settling']:,} changed just now: waiting until they are at rest"
    return words


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number:,} files"
