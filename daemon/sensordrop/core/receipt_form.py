"""How a receipt is written down: its document, the bytes that are signed, the manifest's lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sensordrop.core.receipt import Accounted, FileClass

FORMAT = "sensordrop-receipt-1"
SIGNATURE = "signature"
"""The one key of a receipt that is not signed."""
MANIFEST = "manifest-sha256.txt"
FILES = "files.jsonl"
DOCUMENT = "receipt.json"
PAGE = "receipt.html"
BAG_INFO = "bag-info.txt"


def signed_bytes(document: Mapping[str, Any]) -> bytes:
    """Give the bytes of a receipt that its signature is over: all of it but the signature itself,
    with sorted keys and without white space, so that they can be made again from any copy.
    """
    bare = {key: value for key, value in document.items() if key != SIGNATURE}
    return json.dumps(
        bare, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def digest_of(document: Mapping[str, Any]) -> str:
    """Give the SHA-256 by which a receipt is known, in hex."""
    return hashlib.sha256(signed_bytes(document)).hexdigest()


def manifest_line(accounted: Accounted) -> str | None:
    """Give a stored file's line of the manifest, as BagIt has it (RFC 8493); None for others."""
    booked = accounted.facts.booked
    if accounted.file_class is not FileClass.STORED or booked is None or booked.sha256 is None:
        return None
    path = accounted.facts.path_text
    escaped = path.replace("%", "%25").replace("\n", "%0A").replace("\r", "%0D")
    return f"{booked.sha256.hex()}  {escaped}\n"


def file_line(accounted: Accounted) -> str:
    """Give a file's line of the list of all files: one JSON object."""
    facts = accounted.facts
    booked, proof = facts.booked, facts.proof
    told: dict[str, Any] = {
        "path": facts.path_text,
        "sensor": facts.sensor,
        "class": accounted.file_class.value,
        "bytes": accounted.size_bytes,
        "in_folder": facts.seen is not None,
    }
    if accounted.file_class is FileClass.STORED and booked is not None and proof is not None:
        assert booked.sha256 is not None
        assert proof.method is not None
        told |= {
            "key": booked.object_key,
            "sha256": booked.sha256.hex(),
            "version_id": booked.version_id,
            "etag": booked.etag,
            "verified_by": proof.method.value,
            "verified_at": None if proof.checked_at is None else proof.checked_at.isoformat(),
            "conflict": booked.conflict,
        }
        if booked.endpoint_url is not None:
            told["endpoint_url"] = booked.endpoint_url
    else:
        told |= {"reason": accounted.reason, "blocks": accounted.blocks}
    return json.dumps(told, ensure_ascii=False) + "\n"


def bag_info(*, size_bytes: int, files: int, made_at: str) -> str:
    """Give the few lines that BagIt keeps beside a manifest."""
    return (
        f"Bagging-Date: {made_at[:10]}\nPayload-Oxum: {payload_oxum(size_bytes, files)}\n"
        "Bag-Software-Agent: sensordrop\n"
    )


def payload_oxum(size_bytes: int, files: int) -> str:
    """Give BagIt's sum of what the manifest lists: bytes, a dot, files."""
    return f"{size_bytes}.{files}"
