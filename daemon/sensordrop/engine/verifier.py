"""The verifier: is everything that the ledger says is stored still in the store, and as it was?

One delivery at a time. A listing settles almost all of it by SQL; what it leaves in doubt is looked
at; what was picked for a closer look is looked at, read back, or compared with the disk.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sensordrop.core.failure import FailureError, FailureScope, InterruptedAttemptError
from sensordrop.core.verification import (
    CheckMethod,
    DeliveryReport,
    ExtraObject,
    Finding,
    Problem,
    compare_bytes,
    compare_look,
)
from sensordrop.engine.delivery import Delivery
from sensordrop.ports.life import Clock, StopFlag
from sensordrop.ports.reading import DigestPlan, FileGoneError, RootMissingError
from sensordrop.ports.storing import ListedObject
from sensordrop.ports.verifying import (
    DeliveryToVerify,
    Listed,
    VerifiedObject,
    VerifyLedger,
    VerifyScope,
)

MOST_PROBLEMS = 10_000
"""Problems that are listed for a delivery; more are counted. A person reads fewer, and a program
that wants all of them asks the ledger."""
MOST_EXTRAS = 1_000
"""Objects nobody knows that are listed; more are counted."""
LOOKS = 1_000
"""Objects that are looked at one by one where a listing left them in doubt, and the size up to
which a part of a delivery is looked at instead of listing all of its prefix."""
PAGE_OBJECTS = 500
"""Objects of which the details are in memory at a time."""
AT_ONCE = 8
"""Requests that are under way at a time: each is mostly waiting for the store."""
PROGRESS_OBJECTS = 10_000
"""As often it is told how far a listing is; also as many are handed to the ledger together."""
PROGRESS_SECONDS = 5.0
"""As often it is told how far a closer look is."""


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """What the user asked for. `sample` is the share of a closer look; None: of none, or of all
    where `source` or `download` ask for one.
    """

    session_id: int | None = None
    sensor: str | None = None
    source: bool = False
    download: bool = False
    sample: float | None = None
    every_version: bool = False
    """Whether `prove` reads objects, too, that hold an older version of a file."""

    @property
    def closer_share(self) -> float:
        """The share of the objects that get a closer look."""
        if self.sample is not None:
            return self.sample
        return 1.0 if self.source or self.download else 0.0


@dataclass(kw_only=True)
class _Findings:
    """What has been gathered of one delivery."""

    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    source_same: int = 0
    source_gone: int = 0
    extra: int | None = None
    extras: Sequence[ExtraObject] = ()

    def add(self, problem: Problem) -> None:
        """Take in one problem."""
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def add_all(self, problems: Sequence[Problem], count: int) -> None:
        """Take in problems, of which `count` are there in all."""
        self.problem_count += count
        self.problems += problems[: MOST_PROBLEMS - len(self.problems)]


@dataclass(frozen=True)
class _Either:
    """A stop flag that is set as soon as one of two is."""

    one: StopFlag
    other: StopFlag

    def is_set(self) -> bool:
        """Tell whether to break off."""
        return self.one.is_set() or self.other.is_set()


class _StoreTroubleError(Exception):
    """The store can't be asked: it makes no sense to ask for the other objects."""


class Verifier:
    """Verifies deliveries, one after the other, on one thread."""

    def __init__(
        self,
        *,
        ledger: VerifyLedger,
        clock: Clock,
        options: VerifyOptions,
        progress: Callable[[str], None],
        stop: StopFlag | None = None,
    ) -> None:
        """`stop`: when it is set, `prove` breaks off and says so with InterruptedAttemptError."""
        self._ledger = ledger
        self._clock = clock
        self._options = options
        self._progress = progress
        self._told_at = 0.0
        self._broken_off = threading.Event()
        """Set where the program is being ended: what still runs must not hold that up."""
        self._stop: StopFlag = _Either(self._broken_off, stop or self._broken_off)

    def verify(self, target: DeliveryToVerify, delivery: Delivery | None) -> DeliveryReport:
        """Verify one delivery; `delivery` None: it is not configured here, so nobody can ask.

        Blocks as long as it takes. Raises LedgerUnavailableError; whatever is wrong with the
        store or the folder is a problem of the report.

        The folder comes first, then what waits, then what is stored: a file that moves from one
        to the next meanwhile is seen at least once.
        """
        scope = VerifyScope(
            delivery_id=target.delivery_id,
            session_id=self._options.session_id,
            sensor=self._options.sensor,
        )
        found = _Findings()
        self._look_at_sweep(target, found)
        if delivery is None:
            found.add(Problem(path="", reason="it is not in this configuration, or goes elsewhere "
                              "there: its objects can't be asked for"))  # fmt: skip
        elif scope.session_id is None:
            self._look_at_folder(scope, delivery, found)
        waiting = self._ledger.unfinished(scope, most=MOST_PROBLEMS)
        found.add_all(waiting.problems, waiting.count)
        files, size_bytes = self._ledger.begin_verification(scope)
        if delivery is not None and files + waiting.count:
            self._ask_store(scope, delivery, files, found)
        self._ledger.give_up("nobody could ask the store")
        result = self._ledger.end_verification(scope, most=MOST_PROBLEMS)
        found.add_all(result.problems, result.missing + result.different + result.unchecked)
        return DeliveryReport(
            delivery=target.name,
            files=files,
            size_bytes=size_bytes,
            checked=result.checked,
            missing=result.missing,
            different=result.different,
            unchecked=result.unchecked,
            source_same=found.source_same,
            source_gone=found.source_gone,
            extra=found.extra,
            extras=found.extras,
            problems=found.problems,
            problem_count=found.problem_count,
        )

    def prove(self, scope: VerifyScope, delivery: Delivery | None, files: int) -> None:
        """Ask the store for the `files` objects of the verification that was begun, until the bytes
        of each are proven or a reason stands why not, and write down what was found.

        An ETag counts where the store was seen to check the bytes when it gave it; where nothing
        ties it to them the object is read back. Blocks as `verify` does. `delivery` None: nobody
        can ask.
        """
        if delivery is not None and files:
            try:
                self._look_until_proven(delivery, files)
            except FailureError as error:
                self._ledger.give_up(_words(error))
            except _StoreTroubleError as trouble:
                self._ledger.give_up(str(trouble))
        self._ledger.give_up("nobody could ask the store")
        self._ledger.end_verification(scope, most=1)

    def _look_until_proven(self, delivery: Delivery, files: int) -> None:
        if files > LOOKS:
            self._list(delivery)
            self._ledger.compare_listed()
        self._look(delivery, self._ledger.doubtful(after=0, most=LOOKS))
        unproven = self._ledger.pick_unproven(every_version=self._options.every_version)
        if unproven:
            self._look_closer(delivery, unproven)

    # --- the folder and the ledger --------------------------------------------------------

    def _look_at_sweep(self, target: DeliveryToVerify, found: _Findings) -> None:
        if not target.swept:
            found.add(Problem(path="", reason="its folder was never swept: start sensordropd"))
        elif not target.last_sweep_complete:
            why = target.last_sweep_problem or "no reason is kept"
            found.add(Problem(path="", reason=f"its last sweep was partial: {why}"))

    def _look_at_folder(self, scope: VerifyScope, delivery: Delivery, found: _Findings) -> None:
        """Compare the folder as it is now with the books: the daemon may be down, or behind."""
        settings = delivery.settings
        if settings.source.device() is None:
            found.add(Problem(path="", reason=f"its folder is missing, so what is in it can't be "
                              f"compared: {settings.root}"))  # fmt: skip
            return
        finder = settings.make_finder()
        unaccounted: Listed = self._ledger.unaccounted(
            scope,
            finder.list(settings.root, self._stop, self._tell_found, strict=True),
            settings.rules,
            wall_ns=self._clock.wall_ns(),
            most=MOST_PROBLEMS,
        )
        found.add_all(unaccounted.problems, unaccounted.count)
        if not finder.report.complete:
            found.add(Problem(path="", reason=f"its folder could not be read: "
                              f"{finder.report.problem}"))  # fmt: skip

    def _tell_found(self, entries: int) -> None:
        if entries >= PROGRESS_OBJECTS:
            self._progress(f"find: Found {entries:,} files so far…")

    # --- the store ------------------------------------------------------------------------

    def _ask_store(
        self, scope: VerifyScope, delivery: Delivery, files: int, found: _Findings
    ) -> None:
        options = self._options
        try:
            if not scope.narrowed or files > LOOKS:
                self._list(delivery)
                self._ledger.compare_listed()
                if not scope.narrowed:
                    found.extra, found.extras = self._ledger.extra_objects(scope, most=MOST_EXTRAS)
            doubts = self._ledger.doubtful(after=0, most=LOOKS)
            self._look(delivery, doubts)
        except FailureError as error:
            self._ledger.give_up(_words(error))
            return
        except _StoreTroubleError as trouble:
            self._ledger.give_up(str(trouble))
            return
        most = math.ceil(files * options.closer_share)
        if not most:
            return
        self._ledger.pick(most)
        if options.source:
            self._compare_with_disk(delivery, most, found)
        if options.download or not options.source:
            self._look_closer(delivery, most)

    def _list(self, delivery: Delivery) -> None:
        settings = delivery.settings
        objects: list[ListedObject] = []
        token: str | None = None
        count = 0
        while True:
            if self._stop.is_set():
                raise InterruptedAttemptError
            page = settings.destination.list_page(settings.s3_prefix, token)
            objects.extend(page.objects)
            token = page.next_token
            if token is None or len(objects) >= PROGRESS_OBJECTS:
                self._ledger.add_verify_listed(objects)
                count += len(objects)
                objects.clear()
            if token is None:
                return
            if not objects:
                self._progress(f"s3: Listed {count:,} objects so far…")

    def _look_closer(self, delivery: Delivery, most: int) -> None:
        """Read back what was picked, or look at it where nothing more was asked for."""
        download = self._options.download
        method = CheckMethod.READ_BACK if download else CheckMethod.HEAD
        try:
            done = 0
            for page in self._pages():
                self._look(delivery, page, read=download)
                done += len(page)
                verb = "read back" if download else "looked at"
                self._tell(f"s3: {verb} {done:,} of {most:,} objects so far…")
        except _StoreTroubleError as trouble:
            self._ledger.give_up(str(trouble), picked_but_by=method)

    def _pages(self) -> Iterable[list[VerifiedObject]]:
        after = 0
        while page := self._ledger.picked(after=after, most=PAGE_OBJECTS):
            yield page
            after = page[-1].number

    def _look(
        self, delivery: Delivery, objects: Sequence[VerifiedObject], *, read: bool = False
    ) -> None:
        """Look at objects (or read them back), several at once, and note what was found.

        Raises _StoreTroubleError where the trouble is not that of single objects.
        """
        method = CheckMethod.READ_BACK if read else CheckMethod.HEAD
        trouble: list[str] = []

        def ask(each: VerifiedObject) -> Finding:
            if trouble:
                return Finding(result=None, reason=trouble[0])
            if self._stop.is_set():
                raise InterruptedAttemptError
            try:
                return _read(delivery, each, self._stop) if read else _head(delivery, each)
            except FailureError as error:
                if error.failure.scope is not FailureScope.FILE:
                    trouble.append(_words(error))
                return Finding(result=None, reason=_words(error))

        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                findings = list(pool.map(ask, objects))
            except BaseException:
                self._broken_off.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if findings:
            numbers = [each.number for each in objects]
            self._ledger.note_findings(method, list(zip(numbers, findings, strict=True)))
        if trouble:
            raise _StoreTroubleError(trouble[0])

    # --- the disk -------------------------------------------------------------------------

    def _compare_with_disk(self, delivery: Delivery, most: int, found: _Findings) -> None:
        """Hash the files that are still there: are they what was stored?"""
        done = 0
        for page in self._pages():
            for each in page:
                done += 1
                if each.known.current:
                    problem = self._compare_file(delivery, each, found)
                    if problem:
                        found.add(Problem(path=each.known.path_text, reason=problem))
                self._tell(f"disk: compared {done:,} of {most:,} files so far…")

    def _compare_file(
        self, delivery: Delivery, each: VerifiedObject, found: _Findings
    ) -> str | None:
        try:
            with delivery.settings.source.open(each.known.path) as file:
                size_bytes = file.digest(DigestPlan(md5=False), self._stop)
                sha256 = file.sha256
        except (FileGoneError, RootMissingError):
            found.source_gone += 1
            return None
        except FailureError as error:
            return f"the file on disk could not be compared: {_words(error)}"
        if (size_bytes, sha256) == (each.known.size_bytes, each.known.sha256):
            found.source_same += 1
            return None
        return (
            f"the file on disk has SHA-256 {sha256.hex()} ({size_bytes} bytes); what was stored "
            f"has {each.known.sha256.hex()} ({each.known.size_bytes} bytes)"
        )

    def _tell(self, words: str) -> None:
        now = self._clock.monotonic()
        if self._told_at == 0.0:
            self._told_at = now
        if now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._progress(words)


def _head(delivery: Delivery, each: VerifiedObject) -> Finding:
    known = each.known
    return compare_look(known, delivery.settings.destination.look(known.object_key))


def _read(delivery: Delivery, each: VerifiedObject, stop: StopFlag) -> Finding:
    destination, known = delivery.settings.destination, each.known
    looked = destination.look(known.object_key)
    if looked is None:
        return compare_look(known, None)
    read = destination.read_back(known.object_key, stop)
    if read is None:
        reason = "it is archived out of reach; have the store restore it before reading it back"
        return Finding(result=None, reason=reason)
    return compare_bytes(known, *read)


def _words(error: FailureError) -> str:
    hint = error.failure.hint
    return f"{error.failure.message}; {hint}" if hint else error.failure.message
