r"""Paths as text, and the object keys made of them.

One text form is used in keys, ledger, JSON, command line and logs: valid UTF-8 stands as it is,
each invalid byte is written `\xNN`, and a backslash that would begin such an escape is written
`\x5c`. The form is reversible, so any name that Linux allows survives the trip.
"""

from __future__ import annotations

import re

from sensordrop.core.failure import Failure, FailureError, FailureScope

KEY_LIMIT_BYTES = 1024
"""S3's limit for an object key in UTF-8 (Amazon S3 User Guide, "Naming objects")."""

RESERVED_PREFIX = "_sensordrop/"
"""Where everything of ours lies in a bucket that is not a delivery's file."""

CONFLICT_DIGEST_CHARACTERS = 16
"""Hex characters of the SHA-256 in a conflict copy's name."""

_TO_ESCAPE = re.compile("[\udc80-\udcff]|\\\\(?=x[0-9a-fA-F]{2})")
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")


def path_text(path: bytes) -> str:
    """Give the text form of a path's exact bytes."""
    text = path.decode("utf-8", "surrogateescape")
    if text.isascii() and "\\" not in text:
        return text
    return _TO_ESCAPE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return "\\x5c" if character == "\\" else f"\\x{ord(character) - 0xDC00:02x}"


def path_bytes(text: str) -> bytes:
    """Give back the exact bytes of a path in text form: the inverse of `path_text`."""
    return _ESCAPED.sub(lambda m: bytes([int(m.group(1), 16)]), text.encode("utf-8"))


def sensor_of(text: str, sensor_level: int) -> str:
    """Name the sensor of a path: the folder at `sensor_level` under the root, or ''.

    Level 1 is the first folder under the root. A path with fewer folders than that, and every
    path at level 0, belongs to the sensor ''.
    """
    folders = text.split("/")[:-1]
    return folders[sensor_level - 1] if 0 < sensor_level <= len(folders) else ""


def object_key(prefix: str, text: str) -> str:
    """Make the key of a file: `<prefix>/<path as text>`.

    Raises FailureError (file scope, permanent): `key-too-long` above S3's 1,024 bytes,
    `key-reserved` where it would lie among what is ours at the bucket's root.
    """
    key = f"{prefix}/{text}" if prefix else text
    _check_length(key)
    if key.startswith(RESERVED_PREFIX):
        raise FailureError(
            Failure(
                scope=FailureScope.FILE,
                error_class="key-reserved",
                message=f"the object key {key[:200]} is in the place kept for receipts",
                hint="rename the folder _sensordrop, or give the delivery an s3_prefix",
                permanent=True,
            )
        )
    return key


def conflict_key(key: str, sha256: bytes) -> str:
    """Name the copy that is kept beside `key` because other content is already there.

    `<stem>~<first 16 hex of its SHA-256><.ext>`. Raises FailureError like `object_key`.
    """
    folder, slash, name = key.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    if not stem:  # no dot at all, or only a leading one: all of the name is the stem
        stem, dot, extension = name, "", ""
    beside = f"{folder}{slash}{stem}~{sha256.hex()[:CONFLICT_DIGEST_CHARACTERS]}{dot}{extension}"
    _check_length(beside)
    return beside


def _check_length(key: str) -> None:
    length = len(key.encode("utf-8"))
    if length > KEY_LIMIT_BYTES:
        raise FailureError(
            Failure(
                scope=FailureScope.FILE,
                error_class="key-too-long",
                message=f"the object key would have {length} bytes; "
                f"S3 allows {KEY_LIMIT_BYTES}: {key[:200]}…",
                hint="shorten the folder or file names, or the delivery's s3_prefix",
                permanent=True,
            )
        )
