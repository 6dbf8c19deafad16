"""One round of taking a delivery's files away: a receipt made for it, and then folder by folder.

A round begins with nothing that was known before: it makes a receipt, and only where that says
SAFE it goes on. So whoever was killed in the middle need not be gone on with; the next round finds
out what became of the files that were begun, and begins anew with what is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.core.taking import (
    Became,
    TakingOutcome,
    must_be_read,
    what_became,
)
from sensordrop.core.verification import CheckResult, Finding, Verdict, compare_bytes, compare_look
from sensordrop.engine.breakable import breakable
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.receipts import MadeReceipt, NoReceiptError
from sensordrop.ports.life import Clock, StopFlag
from sensordrop.ports.taking import (
    Candidate,
    CannotTakeError,
    FileToTake,
    LeftError,
    Taking,
    TakingFolder,
    TakingLedger,
)

BATCH_FILES = 50
"""Files that are written down as about to be taken: as many must be looked for after a crash."""
BATCH_BYTES = 256 * 1024 * 1024
"""And so many bytes, as taking a batch takes as long as reading it."""
LIST_SECONDS = 5.0
"""A folder is listed again between two batches when this has passed, and ten times what the last
listing took: what comes into it meanwhile is seen while the rest of it is still there."""
LISTING_SHARE = 10.0

MakeReceipt = Callable[[Delivery, StopFlag], MadeReceipt]
"""Makes a receipt of a delivery's folder now. Raises NoReceiptError, OSError,
LedgerUnavailableError, InterruptedAttemptError."""

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a round came to. `problem` says in words why files stay; None: none stays that could
    have been taken.
    """

    files: int = 0
    size_bytes: int = 0
    failures: int = 0
    """Files that could not be taken though the receipt had them as stored."""
    problem: str | None = None
    busy: bool = False
    """Another program takes the files away."""


class _RoundEndsError(Exception):
    """Nothing more is taken in this round, for the reason in the message."""


class TakingRound:
    """Takes files of one delivery away, on one thread, which holds the delivery in the ledger."""

    def __init__(
        self,
        *,
        ledger: TakingLedger,
        clock: Clock,
        delivery: Delivery,
        taking: Taking,
        make_receipt: MakeReceipt,
        stop: StopFlag,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._delivery = delivery
        self._taking = taking
        self._make_receipt = make_receipt
        self._stop = stop
        self._files = self._size_bytes = self._failures = 0
        self._problem: str | None = None

    def go(self) -> Round:
        """Take what may be taken. Blocks as long as that takes.

        Raises LedgerUnavailableError, and InterruptedAttemptError when it was broken off.
        """
        delivery_id = self._delivery.delivery_id
        if not self._ledger.hold_taking(delivery_id):
            return Round(busy=True)
        try:
            self._begin()
        except (CannotTakeError, _RoundEndsError) as error:
            hint = error.hint if isinstance(error, CannotTakeError) else "it is tried again"
            self._left(str(error))
            _log.error("taking_failed", delivery=self._delivery.name, problem=str(error), hint=hint)
            self._failures = max(self._failures, 1)
            if isinstance(error, CannotTakeError):
                self._problem = f"{error}: {hint}"
        finally:
            self._ledger.release_taking(delivery_id)
        return Round(
            files=self._files,
            size_bytes=self._size_bytes,
            failures=self._failures,
            problem=self._problem,
        )

    def mend(self) -> Round:
        """Only find out what became of what was broken off. Raises as `go` does."""
        delivery_id = self._delivery.delivery_id
        if self._ledger.hold_taking(delivery_id):
            try:
                self._mend()
            except CannotTakeError as error:
                _log.error("taking_failed", delivery=self._delivery.name, problem=str(error),
                           hint=error.hint)  # fmt: skip
            finally:
                self._ledger.release_taking(delivery_id)
        return Round()

    def _begin(self) -> None:
        self._mend()
        self._taking.check()
        if self._delivery.settings.source.is_empty():
            return
        try:
            made = self._make_receipt(self._delivery, self._stop)
        except (NoReceiptError, OSError) as error:
            raise _RoundEndsError(f"there is no receipt: {error}") from error
        if made.document["verdict"] != Verdict.SAFE:
            self._not_safe(made)
            return
        rules = self._delivery.settings.rules
        for folder in self._ledger.begin_taking(self._delivery.delivery_id, rules):
            self._go_on()
            self._take_folder(folder, made.number)

    def _mend(self) -> None:
        """Find out what became of files whose taking was broken off, and put back what was on its
        way out.
        """
        for each in self._ledger.open_takings(self._delivery.delivery_id):
            self._go_on()
            try:
                traces = self._taking.mend(each.file, each.wish, self._stop)
            except LeftError as error:
                became = Became(outcome=TakingOutcome.LEFT, reason=str(error))
            else:
                became = what_became(each.wish.kind, traces)
            self._ledger.end_taking({each.file.number: became})
            tell = _log.info if became.outcome is not TakingOutcome.MISSING else _log.error
            tell("taking_mended", delivery=self._delivery.name, path=each.path_text,
                 outcome=became.outcome.value, moved_to=became.moved_to,
                 problem=became.reason)  # fmt: skip

    def _not_safe(self, made: MadeReceipt) -> None:
        """Say why nothing is touched. Where no file of ours is left, nothing is to be said."""
        document = made.document
        if not document["compared"] and len(document["problems"]) <= 1:
            _log.debug("nothing_to_take", delivery=self._delivery.name)
            return
        first = document["problems"][0] if document["problems"] else {"path": "", "reason": ""}
        words = ": ".join(word for word in (first["path"], first["reason"]) if word)
        problems = len(document["problems"]) + document["problems_left_out"]
        more = f" (and {problems - 1} more)" if problems > 1 else ""
        self._left(f"the verdict is NOT SAFE: {words}{more}")
        _log.warning("taking_refused", delivery=self._delivery.name, receipt=made.number,
                     problems=problems, problem=words,
                     hint="nothing was touched; sensordrop receipt lists all that is in the way")  # fmt: skip

    # --- one folder -----------------------------------------------------------------------

    def _take_folder(self, folder: TakingFolder, receipt: int) -> None:
        """Take the files of a folder, as long as it is as the receipt had it."""
        files, size_bytes = self._files, self._size_bytes
        emptied: set[bytes] = set()
        try:
            self._take_files(folder, receipt, emptied)
            self._taking.remove_empty(emptied)
        except LeftError as error:
            shown = folder.text or "what lies in its root"
            self._left(f"{shown} is left as it is: {error}")
            _log.warning("folder_left", delivery=self._delivery.name, folder=folder.text,
                         problem=str(error), files_taken=self._files - files,
                         hint="it changed after the receipt; when it is quiet another one is made")  # fmt: skip
        finally:
            if self._files > files:
                wish = self._taking.wish
                _log.info("files_taken_away", delivery=self._delivery.name, folder=folder.text,
                          files=self._files - files, bytes=self._size_bytes - size_bytes,
                          wish=wish.kind.value, target=wish.target, receipt=receipt)  # fmt: skip

    def _take_files(self, folder: TakingFolder, receipt: int, emptied: set[bytes]) -> None:
        after, list_at = 0, 0.0
        while page := self._ledger.candidates(folder, after=after, most=BATCH_FILES):
            if self._clock.monotonic() >= list_at:
                list_at = self._see_that_it_is_as_it_was(folder)
            batch = self._batch(page)
            after = batch[-1].place
            selection = self._delivery.settings.rules.selection
            wanted = [c for c in batch if selection.ignore_reason(c.known.path_text) is None]
            if wanted:
                self._take_batch(wanted, receipt, emptied)

    def _batch(self, page: Sequence[Candidate]) -> Sequence[Candidate]:
        """Give the first files of a page, at least one, as many as their bytes allow."""
        size_bytes = 0
        for number, each in enumerate(page):
            size_bytes += each.known.size_bytes
            if number and size_bytes > BATCH_BYTES:
                return page[:number]
        return page

    def _see_that_it_is_as_it_was(self, folder: TakingFolder) -> float:
        """List a folder; give when it is to be listed again. Raises LeftError where it changed."""
        began = self._clock.monotonic()
        settings = self._delivery.settings
        root = settings.root.rstrip("/")
        where = f"{root}/{_name(folder.path)}" if folder.path else settings.root
        finder = settings.make_finder()
        listing = finder.list(where, self._stop, lambda _: None, strict=True)
        changed = self._ledger.changed_in(folder, listing, settings.rules)
        self._go_on()
        if not finder.report.complete:
            raise LeftError(f"it could not be listed whole: {finder.report.problem}")
        if changed is not None:
            raise LeftError(changed)
        now = self._clock.monotonic()
        return now + max(LIST_SECONDS, LISTING_SHARE * (now - began))

    def _take_batch(self, batch: Sequence[Candidate], receipt: int, emptied: set[bytes]) -> None:
        """Take some files, written down before and after. What could not be taken stays, and with it
        all that was not begun.
        """
        numbers = self._ledger.note_taking(
            self._delivery.delivery_id,
            receipt,
            self._taking.wish,
            [each.known.upload_id for each in batch],
        )
        left = Became(outcome=TakingOutcome.LEFT, reason="broken off before it was its turn")
        became = dict.fromkeys(numbers.values(), left)
        try:
            for each in batch:
                self._go_on()
                number = numbers[each.known.upload_id]
                became[number] = Became(outcome=TakingOutcome.LEFT, reason="broken off")
                became[number] = self._take_file(each, number)
                emptied.update(_folders_of(each.known.path))
        except (LeftError, _RoundEndsError, CannotTakeError) as error:
            self._failures += 1
            became[number] = Became(outcome=TakingOutcome.LEFT, reason=str(error))
            raise
        finally:
            self._ledger.end_taking(became)

    def _take_file(self, candidate: Candidate, number: int) -> Became:
        self._see_that_it_is_stored(candidate)
        known = candidate.known
        file = FileToTake(
            number=number,
            path=known.path,
            fingerprint=candidate.fingerprint,
            sha256=known.sha256,
        )
        try:
            moved_to = self._taking.take(file, self._stop)
        except LeftError as error:
            raise LeftError(f"{known.path_text}: {error}") from error
        self._files += 1
        self._size_bytes += known.size_bytes
        return Became(outcome=TakingOutcome.TAKEN, moved_to=moved_to)

    def _see_that_it_is_stored(self, candidate: Candidate) -> None:
        """Ask the store for a file's object, now. Raises _RoundEndsError where it is not what it
        should be: a store that loses one object may be losing others.
        """
        known = candidate.known
        try:
            finding = self._ask_store(candidate)
        except FailureError as error:
            raise _RoundEndsError(
                f"the store could not be asked for {known.path_text}: {error.failure.message}"
            ) from error
        if finding.result is not CheckResult.SAME:
            raise _RoundEndsError(f"{known.path_text}: {finding.reason}")

    def _ask_store(self, candidate: Candidate) -> Finding:
        known, destination = candidate.known, self._delivery.settings.destination
        looked = compare_look(
            known, breakable(lambda: destination.look(known.object_key), self._stop)
        )
        if not must_be_read(looked, proven=candidate.proven):
            return looked
        read = destination.read_back(known.object_key, self._stop)
        if read is None:
            return Finding(result=None, reason="its object is archived out of reach")
        return compare_bytes(known, *read)

    def _left(self, problem: str) -> None:
        self._problem = self._problem or problem

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise InterruptedAttemptError


def _folders_of(path: bytes) -> Iterator[bytes]:
    """Give all folders that lead to a file."""
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path


def _name(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
