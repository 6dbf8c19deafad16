"""Makes receipts: of a delivery or one of its sensors, while it runs or not, at any moment.

The store is asked first and the folder is listed last, so that whatever changes meanwhile is seen:
what came later was not verified, and what changed is another than the one that was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sensordrop.core.failure import FailureError, InterruptedAttemptError
from sensordrop.core.keys import RESERVED_PREFIX
from sensordrop.core.receipt import (
    MOST_PROBLEMS,
    Account,
    Accounted,
    Circumstances,
    DoesNotAddUpError,
    FileClass,
    FileFacts,
    Reread,
    account,
    counts_of,
)
from sensordrop.core.receipt_form import DOCUMENT, FORMAT, MANIFEST, payload_oxum
from sensordrop.core.verification import Problem
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.verifier import Verifier, VerifyOptions
from sensordrop.ports.life import Clock, StopFlag
from sensordrop.ports.reading import DigestPlan, FileGoneError, RootMissingError, Source
from sensordrop.ports.receipts import (
    FinishedReceipt,
    NumberedFile,
    ReceiptLedger,
    ReceiptRecord,
    ReceiptWriter,
)
from sensordrop.ports.records import SessionReceipt
from sensordrop.ports.verifying import DeliveryToVerify, VerifyScope

PAGE_FILES = 2_000
"""Files of which the facts are in memory at a time."""
PROGRESS_FILES = 10_000
"""As often it is told how far a listing is."""
PROGRESS_SECONDS = 5.0
"""As often it is told how far reading is."""


class NoReceiptError(Exception):
    """There can be no receipt now; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class ReceiptTools:
    """What makers of receipts work with. `begin` starts a receipt under a name, `source` reads a
    folder of ours, to put what is in it into the bucket.
    """

    ledger: ReceiptLedger
    clock: Clock
    progress: Callable[[str], None]
    begin: Callable[[str], ReceiptWriter]
    source: Callable[[str], Source]
    station: str | None
    made_by: str


@dataclass(frozen=True, kw_only=True)
class MadeReceipt:
    """A receipt, where it is kept, and why it is not in the bucket where it is not."""

    finished: FinishedReceipt
    number: int
    object_key: str | None
    bucket_problem: str | None = None

    @property
    def document(self) -> Mapping[str, Any]:
        """All that the receipt says."""
        return self.finished.document


class ReceiptMaker:
    """Makes receipts of deliveries, one after the other, on one thread."""

    def __init__(
        self,
        tools: ReceiptTools,
        *,
        sensor: str | None,
        reread: bool,
        stop: StopFlag | None = None,
    ) -> None:
        """`stop`: when it is set the receipt that is being made is broken off."""
        self._tools = tools
        self._sensor = sensor
        self._reread = reread
        self._stop = stop or threading.Event()

    def make(self, target: DeliveryToVerify, delivery: Delivery | None) -> MadeReceipt | None:
        """Make the receipt of one delivery; None where it has no file of the sensor.

        Blocks as long as it takes. Raises LedgerUnavailableError, NoReceiptError, OSError (where
        the receipt can't be kept); whatever is wrong with the store is a problem of the receipt.
        """
        delivery = _configured(target, delivery)
        scope = VerifyScope(delivery_id=target.delivery_id, sensor=self._sensor)
        about = self._look(scope, target, delivery)
        if self._sensor is not None and not about.listed + about.booked:
            return None
        return self._write(scope, target, delivery, about)

    def make_each(self, target: DeliveryToVerify, delivery: Delivery | None) -> list[MadeReceipt]:
        """Make a receipt of every sensor's folder of one delivery, and of the files in its root, if
        it has any; as `make`. The store is asked once, and the folder listed once, for all of them.
        """
        delivery = _configured(target, delivery)
        whole = VerifyScope(delivery_id=target.delivery_id, sensor=None)
        about = self._look(whole, target, delivery)
        scopes = [
            replace(whole, sensor=sensor) for sensor in self._tools.ledger.accounted_sensors()
        ]
        counted = [self._tools.ledger.count_accounted(each) for each in scopes]
        made = []
        for scope, (listed, booked) in zip(scopes, counted, strict=True):
            own = replace(about, listed=listed, booked=booked)
            made.append(self._write(scope, target, delivery, own))
        return made

    def _look(
        self, scope: VerifyScope, target: DeliveryToVerify, delivery: Delivery
    ) -> Circumstances:
        """Ask the store, then list the folder."""
        self._ask_store(scope, delivery)
        self._go_on()
        about = self._list_folder(scope, target, delivery)
        self._go_on()  # what a listing has that was broken off is not what the folder has
        return about

    def _write(
        self,
        scope: VerifyScope,
        target: DeliveryToVerify,
        delivery: Delivery,
        about: Circumstances,
    ) -> MadeReceipt:
        moment = self._tools.clock.now()
        parts = [f"{moment:%Y%m%dT%H%M%SZ}", target.name]
        writer = self._tools.begin("-".join(parts + ([scope.sensor] if scope.sensor else [])))
        try:
            summed = self._sum_up(scope, delivery, writer)
            if self._reread:
                self._list_again(scope, delivery, summed)
            try:
                verdict = summed.close(about)
            except DoesNotAddUpError as error:
                raise NoReceiptError(f"{target.name}: {error}") from error
            document = {
                **_about(target, delivery, scope.sensor, reread=self._reread),
                **told_of(summed),
                "verdict": verdict.value,
                "made_at": moment.isoformat(),
                "made_by": self._tools.made_by,
                "station": self._tools.station,
            }
            finished = writer.finish(document)
        except BaseException:
            writer.discard()
            raise
        return keep(self._tools, finished, [delivery], delivery_id=target.delivery_id)

    def _list_again(self, scope: VerifyScope, delivery: Delivery, summed: Account) -> None:
        """See that the folder is what it was before its files were read, which may take hours."""
        settings = delivery.settings
        finder = settings.make_finder()
        listing = finder.list(settings.root, self._stop, self._tell_found, strict=True)
        changes = self._tools.ledger.changed_meanwhile(
            scope, listing, settings.rules, most=MOST_PROBLEMS
        )
        self._go_on()
        if not finder.report.complete:
            why = finder.report.problem or "no reason is known"
            summed.block(Problem(path="", reason=f"its folder could not be listed again: {why}"))
        for path in changes:
            reason = "it came, went or changed while the folder was read again: try once more"
            summed.block(Problem(path=path, reason=reason))

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise InterruptedAttemptError

    def _ask_store(self, scope: VerifyScope, delivery: Delivery) -> None:
        tools = self._tools
        verifier = Verifier(
            ledger=tools.ledger,
            clock=tools.clock,
            options=VerifyOptions(sensor=self._sensor, download=True),
            progress=tools.progress,
            stop=self._stop,
        )
        files, _ = tools.ledger.begin_verification(scope)
        verifier.prove(scope, delivery, files)

    def _list_folder(
        self, scope: VerifyScope, target: DeliveryToVerify, delivery: Delivery
    ) -> Circumstances:
        settings = delivery.settings
        if settings.source.device() is None:
            raise NoReceiptError(
                f"the folder of {target.name} is missing, so nobody knows what is in it: "
                f"{settings.root}"
            )
        finder = settings.make_finder()
        listing = finder.list(settings.root, self._stop, self._tell_found, strict=True)
        files = self._tools.ledger.account_files(scope, listing, settings.rules)
        report = finder.report
        problem = None if report.complete else report.problem or "no reason is known"
        if files.astray or files.twice or files.read != report.files:
            raise NoReceiptError(
                f"there is no receipt of {target.name}: {report.files} entries were listed, "
                f"{files.read} arrived, {files.twice} of them twice, {files.astray} are in no "
                "class; the folder or the ledger changed meanwhile: try again"
            )
        return Circumstances(
            listed=files.listed,
            booked=files.booked,
            swept=target.swept,
            last_sweep_complete=target.last_sweep_complete,
            last_sweep_problem=target.last_sweep_problem,
            listing_problem=problem,
        )

    def _sum_up(self, scope: VerifyScope, delivery: Delivery, writer: ReceiptWriter) -> Account:
        summed = Account()
        selection = delivery.settings.rules.selection
        reading = Reading(self._tools, delivery.settings.source, self._stop)
        for each in self._files(scope):
            facts = reading.again(each) if self._reread else each.facts
            accounted: Accounted = account(facts, selection)
            summed.add(accounted)
            writer.add(accounted)
        return summed

    def _files(self, scope: VerifyScope) -> Iterator[NumberedFile]:
        after = 0
        while page := self._tools.ledger.accounted_files(scope, after=after, most=PAGE_FILES):
            yield from page
            after = page[-1].number

    def _tell_found(self, entries: int) -> None:
        if entries >= PROGRESS_FILES:
            self._tools.progress(f"find: Found {entries:,} files so far…")


class Reading:
    """Reads files of a folder again, and tells now and then how far it is."""

    def __init__(self, tools: ReceiptTools, source: Source, stop: StopFlag) -> None:
        self._tools = tools
        self._source = source
        self._stop = stop
        self._done = 0
        self._told_at = tools.clock.monotonic()

    def again(self, each: NumberedFile) -> FileFacts:
        """Give the facts of a file with what reading it came to, where there is something to read:
        it is stored, and in the folder.
        """
        facts = each.facts
        if facts.seen is None or facts.booked is None or not facts.booked.stored:
            return facts
        return replace(facts, reread=self.read(each.path))

    def read(self, path: bytes) -> Reread:
        """Hash one file. One that changes while it is read has no hash."""
        try:
            with self._source.open(path) as file:
                size_bytes = file.digest(DigestPlan(md5=False), self._stop)
                sha256 = file.sha256
                if file.fingerprint() != file.opened:
                    return Reread(problem="it changed while it was read")
        except FileGoneError:
            return Reread(problem="it is no longer there")
        except RootMissingError:
            return Reread(problem="its folder is no longer there")
        except FailureError as error:
            return Reread(problem=error.failure.message)
        self._tell()
        return Reread(size_bytes=size_bytes, sha256=sha256)

    def _tell(self) -> None:
        self._done += 1
        now = self._tools.clock.monotonic()
        if now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._tools.progress(f"disk: read {self._done:,} files so far…")


def told_of(summed: Account) -> dict[str, Any]:
    """Give what a receipt says of its files."""
    stored = summed.classes[FileClass.STORED]
    return {
        "counts": counts_of(summed.classes),
        "sensors": {
            name: {**counts_of(own.classes), "verdict": summed.verdict_of(name).value,
                   "problems": own.problem_count}
            for name, own in sorted(summed.sensors.items())
        },
        "compared": summed.compared,
        "gone": summed.gone,
        "conflicts": summed.conflicts,
        "ignored": dict(sorted(summed.ignored.items())),
        "problems": [{"path": p.path, "reason": p.reason} for p in summed.problems],
        "problems_left_out": summed.problem_count - len(summed.problems),
        "payload_oxum": payload_oxum(stored.size_bytes, stored.files),
    }  # fmt: skip


def keep(
    tools: ReceiptTools,
    finished: FinishedReceipt,
    deliveries: Sequence[Delivery],
    *,
    delivery_id: int | None,
) -> MadeReceipt:
    """Put a receipt into the buckets of the deliveries that it is about, and on the books. That it
    could not be put into one is told, and takes nothing from what it says.
    """
    document = finished.document
    name = finished.folder.rstrip("/").rpartition("/")[2]
    prefix = f"{RESERVED_PREFIX}receipts/{name}"
    problems = []
    for delivery in deliveries:
        try:
            _put(tools.source(finished.folder), delivery, finished.files, prefix)
        except (FailureError, FileGoneError, RootMissingError) as error:
            message = error.failure.message if isinstance(error, FailureError) else str(error)
            problems.append(f"the receipt could not be put into the bucket: {message}")
    key = f"{prefix}/{DOCUMENT}" if deliveries and not problems else None
    problem_count = len(document["problems"]) + document["problems_left_out"]
    number = tools.ledger.record_receipt(
        ReceiptRecord(
            delivery_id=delivery_id,
            sensor=document["scope"]["sensor"],
            folder=document["folder"],
            verdict=document["verdict"],
            made_at=tools.clock.now(),
            made_by=tools.made_by,
            digest=finished.digest,
            counts=document["counts"],
            problems=problem_count,
            kept_in=finished.folder,
            object_key=key,
        )
    )
    return MadeReceipt(
        finished=finished,
        number=number,
        object_key=key,
        bucket_problem="; ".join(problems) or None,
    )


def _put(source: Source, delivery: Delivery, names: Sequence[str], prefix: str) -> None:
    """Store the files of a receipt, its document last: where it is, all of it is."""
    destination = delivery.settings.destination
    stop = threading.Event()
    for name in sorted(names, key=lambda each: each == DOCUMENT):
        with source.open(name.encode()) as file:
            file.digest(destination.digest_plan(file.size_bytes), stop)
            destination.store(file, f"{prefix}/{name}", stop)


def _configured(target: DeliveryToVerify, delivery: Delivery | None) -> Delivery:
    if delivery is None:
        raise NoReceiptError(
            f"{target.name} is not in this configuration, or goes elsewhere there: its objects "
            "and its folder can't be asked for"
        )
    return delivery


def _about(
    target: DeliveryToVerify, delivery: Delivery, sensor: str | None, *, reread: bool
) -> dict[str, Any]:
    settings = delivery.settings
    return {
        "format": FORMAT,
        "scope": {"delivery": target.name, "sensor": sensor, "card": None},
        "client": settings.client,
        "project": settings.project,
        "cycle": settings.cycle,
        "folder": settings.root,
        "stores": [
            {
                "endpoint_url": target.endpoint_url,
                "address": address_of(delivery),
                "bucket_name": target.bucket_name,
                "s3_prefix": target.s3_prefix,
            }
        ],
        "reread": reread,
    }


def address_of(delivery: Delivery) -> str | None:
    """Say where requests for a delivery's objects really go: a profile may name the address. None:
    nobody can say now; the receipt tells what is wrong.
    """
    try:
        return delivery.settings.destination.address()
    except FailureError:
        return None


def delivery_receipt(
    tools: ReceiptTools, delivery: Delivery, stop: StopFlag | None = None
) -> MadeReceipt:
    """Make a receipt of a delivery's folder.

    Raises NoReceiptError, OSError, LedgerUnavailableError, and InterruptedAttemptError when `stop`
    is set.
    """
    known = {
        each.delivery_id: each
        for each in tools.ledger.deliveries_to_verify(station=None, session_id=None)
    }
    if delivery.delivery_id not in known:
        raise NoReceiptError(f"{delivery.name} was pointed elsewhere meanwhile")
    maker = ReceiptMaker(tools, sensor=None, reread=False, stop=stop)
    made = maker.make(known[delivery.delivery_id], delivery)
    assert made is not None, "only a sensor can have no file"
    return made


def session_receipt(
    tools: ReceiptTools, delivery: Delivery, mark: str, stop: StopFlag | None = None
) -> SessionReceipt:
    """Make the receipt that a session ends with. That there can be none is told in it: a session
    that can't end helps nobody.

    Raises LedgerUnavailableError, and InterruptedAttemptError when `stop` is set.
    """
    try:
        made = delivery_receipt(tools, delivery, stop)
    except (NoReceiptError, OSError) as error:
        return SessionReceipt(mark=mark, problem=str(error))
    location = None
    if made.object_key is not None:
        home = made.document["stores"][0]["bucket_name"]
        folder = made.object_key.rpartition("/")[0]
        location = f"s3://{home}/{folder}/{MANIFEST}"
    return SessionReceipt(
        mark=mark,
        number=made.number,
        verdict=made.document["verdict"],
        digest=made.finished.digest,
        manifest_location=location,
    )
