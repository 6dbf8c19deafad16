"""The key that receipts are signed with (Ed25519), and signatures of others' receipts."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sensordrop.adapters.processes import open_private, sync_folder
from sensordrop.adapters.state import RECEIPT_KEY
from sensordrop.core.receipt_form import SIGNATURE, signed_bytes

_FORM = "ed25519:"


class KeyProblemError(Exception):
    """The key can't be used; the message says why and what to do."""


class ReceiptKey:
    """This station's key. It never leaves its file: only its public half is shown."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @property
    def public(self) -> str:
        """The public key as text: `ed25519:` and 32 bytes in base64."""
        return _FORM + base64.b64encode(self._private.public_key().public_bytes_raw()).decode()

    def sign(self, document: Mapping[str, Any]) -> str:
        """Give the signature over all of a receipt but the signature itself, in base64."""
        return base64.b64encode(self._private.sign(signed_bytes(document))).decode()


def receipt_key(state: Path, *, make: bool = True) -> ReceiptKey:
    """Give the key of a state directory, made at its first use unless `make` is off.

    Raises KeyProblemError.
    """
    path = state / RECEIPT_KEY
    try:
        if not make and not path.exists():
            raise KeyProblemError(
                f"there is no key {path}: say who must have signed it with --public-key"
            )
        if not path.exists():
            _make(path)
        private = load_pem_private_key(path.read_bytes(), password=None)
    except PermissionError as error:
        raise KeyProblemError(
            f"receipts can't be signed: {path}: {error.strerror}. Run this as the user of "
            "sensordropd, or as root"
        ) from error
    except (OSError, ValueError) as error:
        raise KeyProblemError(
            f"receipts can't be signed: {path}: {error}. Restore it from a backup; without one, "
            "move it away, and the next receipt makes another key"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyProblemError(f"receipts can't be signed: {path} is no Ed25519 key")
    return ReceiptKey(private)


def _make(path: Path) -> None:
    """Make a key; where two programs do so together, one of them is kept by both."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    beside = path.with_name(f"{RECEIPT_KEY}.{os.getpid()}")
    descriptor = open_private(beside, os.O_WRONLY | os.O_TRUNC)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor, no path
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        try:
            path.hardlink_to(beside)
        except FileExistsError:
            return  # another program was first
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def signature_problem(document: Mapping[str, Any], public: str) -> str | None:
    """Say why a receipt is not what the holder of this key signed; None: it is.

    Nothing that the receipt says of itself is believed: whose key it is comes from outside.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(
            base64.b64decode(public.removeprefix(_FORM), validate=True)
        )
    except (ValueError, binascii.Error):
        return "the public key is none: it must be ed25519: and 32 bytes in base64"
    if document.get("public_key") != _FORM + public.removeprefix(_FORM):
        return f"it names another key: {document.get('public_key')}"
    try:
        signature = base64.b64decode(str(document.get(SIGNATURE, "")), validate=True)
        key.verify(signature, signed_bytes(document))
    except (InvalidSignature, ValueError):
        return "its signature does not fit: it was changed, or others made it"
    return None
