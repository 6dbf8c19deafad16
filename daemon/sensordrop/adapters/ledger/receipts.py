"""What receipts are made from, and that they were made."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.enrollment import COPY_BYTES, ChunkReader
from sensordrop.adapters.ledger.listed import copy_text
from sensordrop.adapters.ledger.queries import query
from sensordrop.core.model import EntryType, Fingerprint, UploadState
from sensordrop.core.receipt import Booked, FileClass, FileFacts, Proof, Seen
from sensordrop.core.verification import CheckMethod, CheckResult
from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.receipts import (
    AccountedFiles,
    FoundContent,
    NumberedFile,
    ReadFile,
    ReceiptRecord,
)
from sensordrop.ports.records import EnrollRules
from sensordrop.ports.verifying import VerifyScope

MOST_CANDIDATES = 20
"""Objects of one content that a card's file is compared with: empty files and equal settings are
stored a thousand times, and one of them is enough."""
COPY_ROWS = 10_000
"""Contents that are handed over together."""


class Receipts:
    """The part of the ledger that receipts are made from; see `ports.ReceiptLedger`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def pick_unproven(self, *, every_version: bool) -> int:
        """Choose the objects that must be read; see `ports.VerifyLedger.pick_unproven`."""
        ((count,),) = self._rows("pick_unproven", every_version=every_version)
        return int(count)

    def account_files(
        self, scope: VerifyScope, chunks: Iterable[ListingChunk], rules: EnrollRules
    ) -> AccountedFiles:
        """Bring a listing, the books and what was verified together; see `ports.ReceiptLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_listing_tables"))
            cursor.copy_expert(query("copy_listing"), ChunkReader(iter(chunks)), COPY_BYTES)
            cursor.execute("ANALYZE listing")
            cursor.execute(query("make_verify_tables"))
            cursor.execute(query("make_receipt_tables"))
        about = {
            "delivery_id": scope.delivery_id,
            "sensor": scope.sensor,
            "sensor_level": rules.sensor_level,
        }
        with self._connections.transaction() as cursor:
            cursor.execute(query("one_moment"))
            cursor.execute(query("fill_receipt_files"), about)
            cursor.execute(query("count_receipt_files"), about)
            row = cursor.fetchone()
            assert row is not None, "the counts are always there"
        listed, booked, read, twice, astray = row
        return AccountedFiles(listed=listed, booked=booked, read=read, twice=twice, astray=astray)

    def accounted_sensors(self) -> list[str]:
        """Name the sensors under account; see `ports.ReceiptLedger`."""
        return [row[0] for row in self._rows("accounted_sensors")]

    def count_accounted(self, scope: VerifyScope) -> tuple[int, int]:
        """Count a scope's files; see `ports.ReceiptLedger`."""
        about = {"delivery_id": scope.delivery_id, "sensor": scope.sensor}
        ((listed, booked, *_),) = self._rows("count_receipt_files", **about)
        return int(listed), int(booked)

    def changed_meanwhile(
        self,
        scope: VerifyScope,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        most: int,
    ) -> list[str]:
        """Compare another listing with the first; see `ports.ReceiptLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_listing_tables"))
            cursor.copy_expert(query("copy_listing"), ChunkReader(iter(chunks)), COPY_BYTES)
            cursor.execute("ANALYZE listing")
        level = rules.sensor_level
        rows = self._rows("changed_meanwhile", sensor=scope.sensor, sensor_level=level, most=most)
        return [row[0] for row in rows]

    def accounted_files(self, scope: VerifyScope, *, after: int, most: int) -> list[NumberedFile]:
        """Give the next files under account; see `ports.ReceiptLedger`."""
        rows = self._rows("receipt_files", after=after, most=most, sensor=scope.sensor)
        return [_numbered(row) for row in rows]

    # --- a card's contents ---

    def begin_content(self, files: Iterable[ReadFile], *, delivery_ids: Sequence[int]) -> None:
        """Find a card's contents among what is stored; see `ports.ReceiptLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_content_tables"))
        every = iter(files)
        while part := list(islice(every, COPY_ROWS)):
            rows = "".join(map(_read_row, part))
            with self._connections.transaction() as cursor:
                cursor.copy_expert(query("copy_content"), io.StringIO(rows))
        with self._connections.transaction() as cursor:
            cursor.execute(query("index_content"))
            cursor.execute("ANALYZE card_files")
            cursor.execute(
                query("find_content"),
                {
                    "most": MOST_CANDIDATES,
                    "delivery_ids": list(delivery_ids),
                },
            )

    def content_deliveries(self) -> list[int]:
        """Name the deliveries that hold any of the contents; see `ports.ReceiptLedger`."""
        return [row[0] for row in self._rows("content_deliveries")]

    def verify_content(self, delivery_id: int) -> int:
        """Take note of a delivery's objects with these contents; see `ports.ReceiptLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_verify_tables"))
            cursor.execute(query("empty_verify_tables"))
            cursor.execute(query("fill_content"), {"delivery_id": delivery_id})
            row = cursor.fetchone()
            assert row is not None, "a count is always there"
            cursor.execute("ANALYZE verify_files")
            return int(row[0])

    def note_content(self) -> None:
        """Keep what was found about the contents; see `ports.ReceiptLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("note_content"))

    def found_content(self, *, after: int, most: int) -> list[FoundContent]:
        """Give the next contents with what is known of them; see `ports.ReceiptLedger`."""
        return [_found(row) for row in self._rows("found_content", after=after, most=most)]

    # --- what was made ---

    def record_receipt(self, record: ReceiptRecord) -> int:
        """Write down that a receipt was made; see `ports.ReceiptLedger`."""
        counts = record.counts
        ((number,),) = self._rows(
            "record_receipt",
            delivery_id=record.delivery_id,
            sensor=record.sensor,
            folder=record.folder,
            verdict=record.verdict,
            made_at=record.made_at,
            made_by=record.made_by,
            digest=record.digest,
            files_stored=counts[FileClass.STORED]["files"],
            bytes_stored=counts[FileClass.STORED]["bytes"],
            files_skipped=counts[FileClass.SKIPPED]["files"],
            files_quarantined=counts[FileClass.QUARANTINED]["files"],
            files_pending=counts[FileClass.PENDING]["files"],
            problems=record.problems,
            kept_in=record.kept_in,
            object_key=record.object_key,
        )
        return int(number)

    def _rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self._connections.transaction() as cursor:
            cursor.execute(query(name), parameters)
            return cursor.fetchall()


def _numbered(row: Sequence[Any]) -> NumberedFile:
    number, path, text, sensor = row[:4]
    entry_type, size, mtime_ns, ctime_ns = row[4:8]
    proof, result, method, reason, checked_at = row[18:23]
    seen = entry_type and Seen(
        entry_type=_entry_type(entry_type),
        fingerprint=Fingerprint(size_bytes=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns),
    )
    return NumberedFile(
        number=number,
        path=bytes(path),
        facts=FileFacts(
            path_text=text,
            sensor=sensor,
            seen=seen or None,
            booked=_booked(row[8:18]),
            proof=_proof(result, method, reason, checked_at) if proof else None,
        ),
    )


def _read_row(file: ReadFile) -> str:
    sha256 = r"\N" if file.sha256 is None else f"\\\\x{file.sha256.hex()}"
    times = f"{file.fingerprint.mtime_ns}\t{file.fingerprint.ctime_ns}"
    problem = copy_text(file.problem).decode("utf-8")
    return f"\\\\x{file.path.hex()}\t{file.fingerprint.size_bytes}\t{times}\t{sha256}\t{problem}\n"


def _found(row: Sequence[Any]) -> FoundContent:
    number, path, text, sensor, entry_type, size, mtime_ns, ctime_ns = row[:8]
    read_bytes, read_mtime, read_ctime, sha256, problem = row[8:13]
    key, endpoint_url, version, result, method, reason, checked_at = row[13:]
    path = bytes(path)
    read = None
    if read_bytes is not None:
        read = ReadFile(
            path=path,
            fingerprint=Fingerprint(
                size_bytes=read_bytes, mtime_ns=read_mtime, ctime_ns=read_ctime
            ),
            sha256=None if sha256 is None else bytes(sha256),
            problem=problem,
        )
    seen = Seen(
        entry_type=_entry_type(entry_type),
        fingerprint=Fingerprint(size_bytes=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns),
    )
    return FoundContent(
        file=NumberedFile(
            number=number, path=path, facts=FileFacts(path_text=text, sensor=sensor, seen=seen)
        ),
        read=read,
        object_key=key,
        endpoint_url=endpoint_url,
        version_id=version,
        proof=None if key is None else _proof(result, method, reason, checked_at),
    )


def _booked(row: Sequence[Any]) -> Booked | None:
    state, size, mtime_ns, ctime_ns, key, sha256, version, etag, conflict, reason = row
    if state is None:
        return None
    return Booked(
        state=UploadState(state),
        fingerprint=Fingerprint(size_bytes=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns),
        object_key=key,
        sha256=None if sha256 is None else bytes(sha256),
        version_id=version,
        etag=etag,
        conflict=conflict,
        reason=reason,
    )


def _proof(result: str | None, method: str | None, reason: str | None, at: Any) -> Proof:
    return Proof(
        result=None if result is None else CheckResult(result),
        method=None if method is None else CheckMethod(method),
        reason=reason or "",
        checked_at=at,
    )


def _entry_type(letter: str) -> EntryType:
    try:
        return EntryType(letter)
    except ValueError:  # find has more letters for what it can't tell
        return EntryType.UNKNOWN
