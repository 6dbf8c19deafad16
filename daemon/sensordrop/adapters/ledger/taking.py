"""What is to be taken away from drop folders, and the log of what was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg2.extras import Json

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.enrollment import COPY_BYTES, ChunkReader
from sensordrop.adapters.ledger.queries import query
from sensordrop.adapters.ledger.verification import known_object
from sensordrop.core.failure import LedgerUnavailableError
from sensordrop.core.model import Fingerprint
from sensordrop.core.taking import Became, TakingOutcome, Wish, WishKind, is_whole_below
from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.records import EnrollRules
from sensordrop.ports.taking import Candidate, FileToTake, OpenTaking, TakingFolder


class Takings:
    """The part of the ledger that taking away works on; see `ports.TakingLedger`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def hold_taking(self, delivery_id: int) -> bool:
        """Take hold of a delivery; see `ports.TakingLedger`."""
        ((held,),) = self._asked("hold_taking", delivery_id=delivery_id)
        return bool(held)

    def release_taking(self, delivery_id: int) -> None:
        """Let go of a delivery; see `ports.TakingLedger`."""
        self._asked("release_taking", delivery_id=delivery_id)

    def open_takings(self, delivery_id: int) -> list[OpenTaking]:
        """Give what was begun and not ended; see `ports.TakingLedger`."""
        return [
            OpenTaking(
                file=FileToTake(
                    number=number,
                    path=bytes(path),
                    fingerprint=Fingerprint(size_bytes=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns),
                    sha256=bytes(sha256),
                ),
                path_text=text,
                wish=Wish(kind=WishKind(wish), target=target),
            )
            for number, path, text, size, mtime_ns, ctime_ns, sha256, wish, target in self._asked(
                "open_takings", delivery_id=delivery_id
            )
        ]

    def begin_taking(self, delivery_id: int, rules: EnrollRules) -> list[TakingFolder]:
        """Take note of what the receipt had; see `ports.TakingLedger`."""
        level = rules.sensor_level
        with self._connections.transaction() as cursor:
            cursor.execute(query("has_receipt_files"))
            if cursor.fetchone() != (True,):
                raise LedgerUnavailableError("the connection that the receipt was made on is gone")
            cursor.execute(query("make_taking_tables"))
            cursor.execute(
                query("fill_taking_files"), {"delivery_id": delivery_id, "sensor_level": level}
            )
            cursor.execute("ANALYZE taking_files")
            cursor.execute(query("taking_folders"))
            rows = cursor.fetchall()
        return [
            TakingFolder(
                text=folder,
                path=_first_parts(bytes(path), folder),
                whole=is_whole_below(folder, level),
                files=files,
            )
            for folder, path, files in rows
        ]

    def candidates(self, folder: TakingFolder, *, after: int, most: int) -> list[Candidate]:
        """Give the next files that may be taken; see `ports.TakingLedger`."""
        rows = self._asked("taking_candidates", folder=folder.text, after=after, most=most)
        return [
            Candidate(
                place=place,
                known=known_object(known),
                fingerprint=Fingerprint(size_bytes=known[5], mtime_ns=mtime_ns, ctime_ns=ctime_ns),
                proven=proven,
            )
            for *known, place, mtime_ns, ctime_ns, proven in rows
        ]

    def changed_in(
        self, folder: TakingFolder, chunks: Iterable[ListingChunk], rules: EnrollRules
    ) -> str | None:
        """Hold a listing against what the receipt had; see `ports.TakingLedger`."""
        before = folder.text + "/" if folder.text else ""
        before_bytes = folder.path + b"/" if folder.path else b""
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_listing_tables"))
            cursor.copy_expert(query("copy_listing"), ChunkReader(iter(chunks)), COPY_BYTES)
            cursor.execute("ANALYZE listing")
            cursor.execute(
                query("changed_in_folder"),
                {
                    "folder": folder.text,
                    "before": before,
                    "before_bytes": before_bytes,
                    "whole": folder.whole,
                    "junk": f"(?i)^({rules.selection.junk_regex})$",
                },
            )
            row = cursor.fetchone()
        return None if row is None else f"{row[0]}: {row[1]}"

    def note_taking(
        self, delivery_id: int, receipt: int, wish: Wish, upload_ids: Sequence[int]
    ) -> Mapping[int, int]:
        """Write down what is about to be taken; see `ports.TakingLedger`."""
        rows = self._asked(
            "note_taking",
            delivery_id=delivery_id,
            receipt=receipt,
            wish=wish.kind.value,
            target=wish.target,
            upload_ids=list(upload_ids),
        )
        return dict(rows)

    def end_taking(self, became: Mapping[int, Became]) -> None:
        """Write down what became of files; see `ports.TakingLedger`."""
        told = [
            {
                "id": number,
                "outcome": each.outcome.value,
                "moved_to": each.moved_to,
                "reason": each.reason or None,
            }
            for number, each in became.items()
        ]
        with self._connections.transaction() as cursor:
            cursor.execute(query("end_taking"), {"became": Json(told)})
            taken = [row[0] for row in cursor.fetchall() if row[1] == TakingOutcome.TAKEN]
            cursor.execute(query("has_taking_files"))
            if cursor.fetchone() == (True,):
                cursor.execute(query("forget_taken"), {"upload_ids": taken})

    def _asked(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self._connections.transaction() as cursor:
            cursor.execute(query(name), parameters)
            return cursor.fetchall()


def _first_parts(path: bytes, folder: str) -> bytes:
    """Give the exact bytes of a folder, of which a path below it is known."""
    depth = folder.count("/") + 1 if folder else 0
    return b"/".join(path.split(b"/")[:depth])
