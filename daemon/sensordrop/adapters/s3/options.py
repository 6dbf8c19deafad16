"""What every object of a delivery is stored with: content type, metadata, class, encryption, tags."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, urlencode

from sensordrop.adapters.s3.client import S3Settings
from sensordrop.core.selection import extension_of

SHA256_METADATA = "sha256"
"""Name of the metadata entry (`x-amz-meta-sha256`) that holds the content's SHA-256 in hex."""
SHA256_HEADER = f"x-amz-meta-{SHA256_METADATA}"
"""The same entry as a header."""

DEFAULT_CONTENT_TYPE = "application/octet-stream"

FIELD_CONTENT_TYPES = {
    "wav": "audio/wav",
    "wave": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "m4a": "audio/mp4",
    "heic": "image/heic",
    "heif": "image/heif",
    "dng": "image/x-adobe-dng",
    "webp": "image/webp",
    "avi": "video/x-msvideo",
    "tls": "video/x-msvideo",
    "mkv": "video/x-matroska",
    "mts": "video/mp2t",
    "m2ts": "video/mp2t",
    "gpx": "application/gpx+xml",
    "log": "text/plain",
    "ini": "text/plain",
    "cfg": "text/plain",
    "miniconfig": "application/octet-stream",
}
"""Recorders' and cameras' extensions that the standard table lacks or names in old words."""

# Not the module's shared table: that one reads the host's files, and an object's content type
# would depend on the machine that sent it.
_STANDARD = mimetypes.MimeTypes(filenames=())


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectOptions:
    """How one object is to be kept. Values are as S3's headers have them; None is not sent."""

    content_type: str
    metadata: dict[str, str]
    acl: str | None
    storage_class: str | None
    sse: str | None
    kms_key_id: str | None
    tagging: str | None


def content_type(object_key: str) -> str:
    """Give the media type of a key by its extension."""
    return _media_type(extension_of(object_key))


@lru_cache(maxsize=256)
def _media_type(extension: str) -> str:
    known = FIELD_CONTENT_TYPES.get(extension)
    return known or _STANDARD.types_map[True].get(f".{extension}", DEFAULT_CONTENT_TYPE)


def options_for(settings: S3Settings, object_key: str, sha256: bytes) -> ObjectOptions:
    """Put together what an object is stored with."""
    return ObjectOptions(
        content_type=content_type(object_key),
        metadata={SHA256_METADATA: sha256.hex()},
        acl=settings.acl,
        storage_class=settings.storage_class,
        sse=settings.sse,
        kms_key_id=settings.kms_key_id,
        tagging=urlencode(settings.tags, quote_via=quote) or None,
    )
