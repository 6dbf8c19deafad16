"""What is known of the objects in a bucket before anything is sent there."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

from sensordrop.adapters.ledger.connection import Connections
from sensordrop.adapters.ledger.queries import query
from sensordrop.ports.records import ObjectListing
from sensordrop.ports.storing import ListedObject

KEY_DIGEST_BYTES = 16
"""As much of a key's SHA-256 as is kept: a key may be too long for an index."""
FORGET_ROWS = 20_000
"""Objects that are forgotten in one transaction, so that none holds others up."""


class ListedObjects:
    """The part of the ledger that takes in listings of destinations."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def listing_age_seconds(self, delivery_id: int) -> float | None:
        """Tell how old the last complete listing is; see `ports.Ledger`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("listing_age"), {"delivery_id": delivery_id})
            row = cursor.fetchone()
            return None if row is None else row[0]

    def begin_object_listing(self, delivery_id: int) -> ObjectListing:
        """Begin to list a delivery's prefix; see `ports.Ledger.begin_object_listing`."""
        with self._connections.transaction() as cursor:
            cursor.execute(query("begin_object_listing"), {"delivery_id": delivery_id})
            row = cursor.fetchone()
            assert row is not None
            return ObjectListing(listing_id=row[0], began_at=row[1])

    def add_listed(self, listing: ObjectListing, objects: Sequence[ListedObject]) -> None:
        """Take in objects of a listing; see `ports.Ledger.add_listed`."""
        rows = b"".join(
            b"\\\\x%s\t%d\t%s\n"
            % (key_digest(o.key).hex().encode(), o.size_bytes, copy_text(o.etag))
            for o in objects
        )
        with self._connections.transaction() as cursor:
            cursor.execute(query("make_listed_table"))
            cursor.copy_expert(query("copy_listed"), io.BytesIO(rows))
            cursor.execute(
                query("merge_listed"),
                {"listing_id": listing.listing_id, "began_at": listing.began_at},
            )

    def end_object_listing(self, listing: ObjectListing, objects: int) -> int:
        """Forget what a complete listing no longer had; see `ports.Ledger`."""
        forgotten = 0
        parameters = {"listing_id": listing.listing_id, "began_at": listing.began_at}
        while True:
            with self._connections.transaction() as cursor:
                cursor.execute(query("forget_unlisted"), {**parameters, "most": FORGET_ROWS})
                forgotten += cursor.rowcount
                if cursor.rowcount < FORGET_ROWS:
                    cursor.execute(query("end_object_listing"), {**parameters, "objects": objects})
                    return forgotten


def key_digest(key: str) -> bytes:
    """Give what a key is known by in the ledger; its SQL computes the same."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:KEY_DIGEST_BYTES]


def copy_text(value: str) -> bytes:
    """Write a stranger's text for COPY."""
    plain = value.replace("\0", "").encode("utf-8", "backslashreplace")
    return (
        plain.replace(b"\\", b"\\\\")
        .replace(b"\t", b"\\t")
        .replace(b"\n", b"\\n")
        .replace(b"\r", b"\\r")
    )
