"""Getting files on the books: listings and sightings are compared with the ledger by SQL."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg2.extensions import AsIs
from psycopg2.extensions import cursor as Cursor  # noqa: N812 — it is a class

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.outbox import tell_session_began
from sensordrop.adapters.ledger.queries import query
from sensordrop.core.guard import VanishRule
from sensordrop.core.keys import path_text
from sensordrop.core.model import Fingerprint, Sighting
from sensordrop.core.selection import KIND_BY_EXTENSION
from sensordrop.core.settle import NANOSECONDS
from sensordrop.core.verification import Problem
from sensordrop.ports.finding import ListingChunk
from sensordrop.ports.records import (
    EnrollResult,
    EnrollRules,
    GoneResult,
    ProbePath,
    SettledSighting,
    Vouched,
)
from sensordrop.ports.verifying import Listed, VerifyScope

COPY_BYTES = 256 * 1024
"""Bytes handed to the database at a time while a listing streams in."""
CHUNK_ROWS = 20_000
"""Rows that go on the books in one transaction: short enough for uploads to begin early and for
locks to be brief, long enough that a commit's cost does not count."""
GONE_BATCH = 1_000
"""Files that are looked at again on disk before one statement marks them vanished."""

_KINDS = json.dumps({extension: kind.value for extension, kind in KIND_BY_EXTENSION.items()})


class Enrollment:
    """The part of the ledger that takes in what was seen on disk."""

    def __init__(self, connections: Connections, *, origin: str, started_by: str) -> None:
        self._connections = connections
        self._opener = {"origin": origin, "started_by": started_by}

    def begin_sweep(self) -> datetime:
        """Give the database's time; what goes on the books later is not judged gone by it."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("database_now"))
            row = cursor.fetchone()
            assert row is not None
            began: datetime = row[0]
            return began

    def enroll_listing(
        self,
        delivery_id: int,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        wall_ns: int,
        most_unsettled: int,
        vouched: Vouched | None = None,
    ) -> EnrollResult:
        """Compare a listing with the books; see `ports.Ledger.enroll_listing`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_listing_tables"))
            cursor.copy_expert(query("copy_listing"), ChunkReader(iter(chunks)), COPY_BYTES)
            cursor.execute("ANALYZE listing")
        with self._connections.transaction() as cursor:
            cursor.execute(query("release_held"), {"delivery_id": delivery_id})
        return self._enroll(
            delivery_id, rules, wall_ns=wall_ns, most_unsettled=most_unsettled, vouched=vouched
        )

    def enroll_sightings(
        self,
        delivery_id: int,
        settled: Sequence[SettledSighting],
        rules: EnrollRules,
        *,
        wall_ns: int,
    ) -> EnrollResult:
        """Put single files on the books; see `ports.Ledger.enroll_sightings`."""
        rows = b"".join(_copy_row(s) for s in settled)
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_listing_tables"))
            cursor.copy_expert(
                query("copy_sightings"), ChunkReader(iter((ListingChunk(rows=rows, entries=0),)))
            )
        return self._enroll(
            delivery_id, rules, wall_ns=wall_ns, most_unsettled=len(settled) or 1, singly=True
        )

    def unaccounted(
        self,
        scope: VerifyScope,
        chunks: Iterable[ListingChunk],
        rules: EnrollRules,
        *,
        wall_ns: int,
        most: int,
    ) -> Listed:
        """Find what is on disk and not on the books as it is; see `ports.VerifyLedger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_listing_tables"))
            cursor.copy_expert(query("copy_listing"), ChunkReader(iter(chunks)), COPY_BYTES)
            cursor.execute("ANALYZE listing")
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("compare_listing"),
                rule_parameters(scope.delivery_id, rules, wall_ns),
            )
            cursor.execute(query("unaccounted"), {"sensor": scope.sensor, "most": most})
            rows = cursor.fetchall()
        return Listed(
            problems=tuple(Problem(path=path, reason=reason) for path, reason, _ in rows),
            count=rows[0][2] if rows else 0,
        )

    def mark_gone(
        self, delivery_id: int, probe: ProbePath, *, sweep_began: datetime, rule: VanishRule
    ) -> GoneResult:
        """Mark or hold waiting files that left the disk; see `ports.Ledger.mark_gone`."""
        about = {
            "delivery_id": delivery_id,
            "sweep_began": sweep_began,
            "confirmed": rule.confirmed,
        }
        with self._connections.transaction() as cursor:
            cursor.execute(query("find_gone"), about)
            candidates = cursor.rowcount
        batches = [
            {"first": first, "last": first + GONE_BATCH - 1}
            for first in range(1, candidates + 1, GONE_BATCH)
        ]
        for batch in batches:
            self._look_again(batch, probe)
        with self._connections.transaction() as cursor:
            cursor.execute(query("count_gone"), about)
            row = cursor.fetchone()
            assert row is not None
            missing, in_hand, waiting, held = row
        if not missing:
            return GoneResult(held=held)
        # Those that are held, or that an uploader has in hand, are missing too: of many that left,
        # no few must go because the others were looked at a moment before, or will be a moment
        # later. Confirmed, they are among the missing already.
        missing_too = 0 if rule.confirmed else in_hand + held
        vanish = rule.lets_vanish(missing + missing_too, waiting)
        marked = 0
        for batch in batches:
            with self._connections.transaction() as cursor:
                cursor.execute(query("lock_delivery"), about)
                cursor.execute(query("mark_vanished" if vanish else "hold_gone"), batch)
                marked += cursor.rowcount
        if not vanish:
            return GoneResult(held=held + marked)
        return GoneResult(gone=marked, held=0 if rule.confirmed else held)

    def _look_again(self, batch: dict[str, int], probe: ProbePath) -> None:
        """Take those off the missing ones that are there after all."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("gone_batch"), batch)
            rows = cursor.fetchall()
        there = [upload_id for upload_id, path in rows if probe(bytes(path)) is not None]
        if there:
            with self._connections.transaction() as cursor:
                cursor.execute(query("there_after_all"), {"upload_ids": there})

    def known_roots(self, daemon_id: int, delivery_ids: Sequence[int]) -> dict[int, str]:
        """Give the file systems that folders were last swept on; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("known_roots"),
                {"daemon_id": daemon_id, "delivery_ids": list(delivery_ids)},
            )
            return dict(cursor.fetchall())

    def remember_root(self, daemon_id: int, delivery_id: int, filesystem: str) -> None:
        """Note on which file system a folder is; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("remember_root"),
                {
                    "daemon_id": daemon_id,
                    "delivery_id": delivery_id,
                    "filesystem": _storable(filesystem),
                },
            )

    def _enroll(
        self,
        delivery_id: int,
        rules: EnrollRules,
        *,
        wall_ns: int,
        most_unsettled: int,
        singly: bool = False,
        vouched: Vouched | None = None,
    ) -> EnrollResult:
        with self._connections.transaction() as cursor:
            cursor.execute(
                query("compare_listing"),
                {
                    **rule_parameters(delivery_id, rules, wall_ns),
                    "one_by_one": AsIs("OFFSET 0" if singly else ""),
                },
            )
            cursor.execute(
                query("work_totals"),
                {
                    "since_ns": vouched.since_ns if vouched else None,
                    "until_ns": vouched.until_ns if vouched else None,
                },
            )
            row = cursor.fetchone()
            assert row is not None
            new, changed, ignored, unsettled_count, last_n, missed = row
            unsettled = _unsettled(cursor, most_unsettled) if unsettled_count else ()
            if last_n > CHUNK_ROWS:
                # Without it a chunk is planned as if it had a row or two, and joined row by row.
                cursor.execute("ANALYZE work")
        opened: int | None = None
        for first in range(1, last_n + 1, CHUNK_ROWS):
            chunk = {
                "delivery_id": delivery_id,
                "first": first,
                "last": first + CHUNK_ROWS - 1,
            }
            with self._connections.transaction() as cursor:
                if ignored:
                    cursor.execute(query("note_ignored"), chunk)
                if new or changed:
                    session_id, opened_now = running_session(cursor, delivery_id, self._opener)
                    opened = session_id if opened_now else opened
                    _enroll_chunk(cursor, {**chunk, "session_id": session_id}, changed=changed > 0)
            if first == 1 and last_n > CHUNK_ROWS:
                with self._connections.transaction() as cursor:
                    # A queue that was empty until now is not claimed from by its index before this.
                    cursor.execute("ANALYZE upload_queue")
        return EnrollResult(
            new=new,
            changed=changed,
            ignored=ignored,
            session_opened=opened,
            unsettled=unsettled,
            unsettled_left=unsettled_count - len(unsettled),
            missed=missed,
        )


def running_session(
    cursor: Cursor, delivery_id: int, opener: Mapping[str, str]
) -> tuple[int, bool]:
    """Give the delivery's running session, held open until the transaction ends, and whether it
    was opened just now. `opener`: its origin, and who it was started by.
    """
    parameters = {**opener, "delivery_id": delivery_id}
    while True:
        cursor.execute(query("open_session"), parameters)
        if row := cursor.fetchone():
            return row[0], False
        cursor.execute(query("reopen_session"), parameters)
        if row := cursor.fetchone():
            return row[0], False
        cursor.execute(query("begin_session"), parameters)
        if row := cursor.fetchone():
            tell_session_began(cursor, delivery_id, row[0])
            return row[0], True


def _enroll_chunk(cursor: Cursor, chunk: dict[str, Any], *, changed: bool) -> None:
    cursor.execute(query("enroll_sensors"), chunk)
    if changed:
        cursor.execute(query("enroll_supersede"), chunk)
        cursor.execute(query("enroll_back"), chunk)
        cursor.execute(query("enroll_different"), chunk)
    cursor.execute(query("enroll_new"), chunk)
    cursor.execute(query("enroll_unignore"), chunk)


def rule_parameters(delivery_id: int, rules: EnrollRules, wall_ns: int) -> dict[str, Any]:
    """Give what `compare_listing` is asked with for a whole listing."""
    selection = rules.selection
    extensions = selection.extensions
    return {
        "delivery_id": delivery_id,
        "sensor_level": rules.sensor_level,
        "kinds": _KINDS,
        "junk": f"(?i)^({selection.junk_regex})$",
        "exclude": selection.exclude_regex and f"^({selection.exclude_regex})$",
        "include": selection.include_regex and f"^({selection.include_regex})$",
        "extensions": None if extensions is None else list(extensions),
        "one_by_one": AsIs(""),
        "wall_ns": wall_ns,
        "edge_ns": wall_ns - int(rules.quiet_seconds * NANOSECONDS),
    }


def _unsettled(cursor: Cursor, most: int) -> tuple[Sighting, ...]:
    cursor.execute(query("unsettled_work"), {"most": most})
    return tuple(
        Sighting(
            path=bytes(path),
            fingerprint=Fingerprint(size_bytes=size, mtime_ns=mtime_ns, ctime_ns=ctime_ns),
        )
        for path, size, mtime_ns, ctime_ns in cursor.fetchall()
    )


def _copy_row(settled: SettledSighting) -> bytes:
    sighting = settled.sighting
    text = path_text(sighting.path)
    plain = sighting.path.decode("utf-8", "surrogateescape")
    return (
        b"\t".join(
            (
                sighting.entry_type.value.encode(),
                b"%d" % sighting.fingerprint.size_bytes,
                _seconds(sighting.fingerprint.mtime_ns),
                _seconds(sighting.fingerprint.ctime_ns),
                _copy_escaped(sighting.path.replace(b"\\", b"\\\\")),
                b"" if text == plain else _copy_escaped(text.encode()),
                b"eager" if settled.eager else b"quiet",
                b"\\N" if settled.seen_ago is None else b"%.3f" % settled.seen_ago,
            )
        )
        + b"\n"
    )


def _copy_escaped(value: bytes) -> bytes:
    return (
        value.replace(b"\\", b"\\\\")
        .replace(b"\t", b"\\t")
        .replace(b"\n", b"\\n")
        .replace(b"\r", b"\\r")
    )


def _storable(text: str) -> str:
    """Make any text one that PostgreSQL takes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _seconds(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, rest = divmod(abs(nanoseconds), NANOSECONDS)
    return b"%s%d.%09d" % (sign, seconds, rest)


class ChunkReader(io.RawIOBase):
    """Lets psycopg2's COPY read a stream of chunks as one file."""

    def __init__(self, chunks: Iterator[ListingChunk]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Give the next bytes; none at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk.rows
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
