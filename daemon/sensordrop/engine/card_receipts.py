"""Makes the receipt of a card: any folder, whatever it is called, compared by its content alone.

Every file is hashed; then it is asked where that content is stored, and the store is asked whether
it still is. At last the folder is listed again: what changed meanwhile was not compared.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sensordrop.core.model import EntryType, UploadState
from sensordrop.core.receipt import (
    Account,
    Accounted,
    Booked,
    Circumstances,
    DoesNotAddUpError,
    FileClass,
    account,
)
from sensordrop.core.receipt_form import FORMAT
from sensordrop.core.selection import Selection
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.receipts import (
    PAGE_FILES,
    MadeReceipt,
    NoReceiptError,
    Reading,
    ReceiptTools,
    address_of,
    keep,
    told_of,
)
from sensordrop.engine.verifier import Verifier, VerifyOptions
from sensordrop.ports.finding import Finder
from sensordrop.ports.reading import Source
from sensordrop.ports.receipts import FoundContent, ReadFile, ReceiptWriter
from sensordrop.ports.records import EnrollRules
from sensordrop.ports.verifying import DeliveryToVerify, VerifyScope

NOWHERE = VerifyScope(delivery_id=0)
"""The scope of a folder that is on nobody's books: no delivery has this number."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A folder to be compared. `selection` says what may be absent: junk, and what is excluded."""

    folder: str
    source: Source
    finder: Finder
    selection: Selection


class CardReceiptMaker:
    """Makes the receipt of one card, on one thread. It is compared with what `targets` stored;
    `deliveries` are those of them that can be asked. `only`: the one that the user named.
    """

    def __init__(
        self,
        tools: ReceiptTools,
        card: Card,
        *,
        targets: Mapping[int, DeliveryToVerify],
        deliveries: Mapping[int, Delivery],
        only: str | None,
    ) -> None:
        self._tools = tools
        self._card = card
        self._targets = targets
        self._deliveries = deliveries
        self._only = only
        self._stop = threading.Event()
        self._rules = EnrollRules(selection=card.selection, sensor_level=0, quiet_seconds=0.0)

    def make(self) -> MadeReceipt:
        """Make the receipt. Blocks as long as reading the card and asking the store take.

        Raises LedgerUnavailableError, NoReceiptError, OSError where the receipt can't be kept.
        """
        ledger = self._tools.ledger
        self._list()
        ledger.begin_content(self._read(), delivery_ids=list(self._targets))
        holders = ledger.content_deliveries()
        for delivery_id in holders:
            self._ask_store(delivery_id)
        about = self._list()
        moment = self._tools.clock.now()
        writer = self._tools.begin(f"{moment:%Y%m%dT%H%M%SZ}-card")
        try:
            summed = self._sum_up(writer)
            try:
                verdict = summed.close(replace(about, booked=summed.booked))
            except DoesNotAddUpError as error:
                raise NoReceiptError(f"{self._card.folder}: {error}") from error
            document = {
                "format": FORMAT,
                "scope": {"delivery": self._only, "sensor": None, "card": self._card.folder},
                "folder": self._card.folder,
                "client": None,
                "project": None,
                "cycle": None,
                "stores": [self._store(each) for each in holders],
                "reread": True,
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
        known = [self._deliveries[each] for each in holders if each in self._deliveries]
        return keep(self._tools, finished, known, delivery_id=None)

    def _store(self, delivery_id: int) -> dict[str, str | None]:
        target = self._targets[delivery_id]
        known = self._deliveries.get(delivery_id)
        return {
            "endpoint_url": target.endpoint_url,
            "address": None if known is None else address_of(known),
            "bucket_name": target.bucket_name,
            "s3_prefix": target.s3_prefix,
        }

    def _list(self) -> Circumstances:
        card = self._card
        if card.source.device() is None:
            raise NoReceiptError(f"there is no folder {card.folder}: is the card mounted?")
        listing = card.finder.list(card.folder, self._stop, lambda _: None, strict=True)
        files = self._tools.ledger.account_files(NOWHERE, listing, self._rules)
        report = card.finder.report
        if files.astray or files.twice or files.read != report.files:
            raise NoReceiptError(f"{card.folder} changed while it was listed: try again")
        return Circumstances(
            listed=files.listed,
            booked=0,
            swept=True,
            last_sweep_complete=True,
            listing_problem=None if report.complete else report.problem or "no reason is known",
        )

    def _read(self) -> Iterator[ReadFile]:
        """Hash every file that must be in the store."""
        card, ledger = self._card, self._tools.ledger
        reading = Reading(self._tools, card.source, self._stop)
        after = 0
        while page := ledger.accounted_files(NOWHERE, after=after, most=PAGE_FILES):
            after = page[-1].number
            for each in page:
                seen = each.facts.seen
                assert seen is not None, "nothing is on the books of a card"
                if seen.entry_type is not EntryType.FILE or card.selection.ignore_reason(
                    each.facts.path_text
                ):
                    continue
                read = reading.read(each.path)
                problem = read.problem
                if not problem and read.size_bytes != seen.fingerprint.size_bytes:
                    problem = "it changed while the card was read"
                yield ReadFile(
                    path=each.path,
                    fingerprint=seen.fingerprint,
                    sha256=None if problem else read.sha256,
                    problem=problem,
                )

    def _ask_store(self, delivery_id: int) -> None:
        tools = self._tools
        files = tools.ledger.verify_content(delivery_id)
        verifier = Verifier(
            ledger=tools.ledger,
            clock=tools.clock,
            options=VerifyOptions(download=True, every_version=True),
            progress=tools.progress,
        )
        scope = VerifyScope(delivery_id=delivery_id)
        verifier.prove(scope, self._deliveries.get(delivery_id), files)
        tools.ledger.note_content()

    def _sum_up(self, writer: ReceiptWriter) -> Account:
        summed = Account()
        after = 0
        while page := self._tools.ledger.found_content(after=after, most=PAGE_FILES):
            after = page[-1].file.number
            for found in page:
                accounted = _accounted(found, self._card.selection)
                summed.add(accounted)
                writer.add(accounted)
        return summed


def _accounted(found: FoundContent, selection: Selection) -> Accounted:
    """Put a card's file into its class: its content counts as the books' version of it."""
    facts, read = found.file.facts, found.read
    if read is not None and read.sha256 is not None and found.object_key is not None:
        booked = Booked(
            state=UploadState.UPLOADED,
            fingerprint=read.fingerprint,
            object_key=found.object_key,
            sha256=read.sha256,
            version_id=found.version_id,
            endpoint_url=found.endpoint_url,
        )
        return account(replace(facts, booked=booked, proof=found.proof), selection)
    accounted = account(facts, selection)
    if accounted.file_class is not FileClass.PENDING:
        return accounted
    if read is None:
        reason = "it appeared while the card was read: try again"
    elif read.problem:
        reason = f"it could not be compared: {read.problem}"
    else:
        reason = "its content is not stored"
    return replace(accounted, reason=reason)
