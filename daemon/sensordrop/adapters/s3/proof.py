"""How a store proves that it got the bytes: what is sent to be checked, and what that is worth.

What is recorded of a file is what is known of its store, never what was hoped for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sensordrop.core.model import StoreCheck

ChosenCheck = Literal["auto", "payload-hash", "content-md5", "read-back"]
"""The setting `store_check` of a delivery."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a store was seen to do. None: it could not be seen, so nothing is built on it."""

    conditional_put: bool | None = None
    """Refuses a put under `If-None-Match: *` where the key is taken."""
    conditional_complete: bool | None = None
    """Refuses likewise to complete an upload in parts."""
    checks_payload_hash: bool | None = None
    """Refuses a body that contradicts its signed `x-amz-content-sha256`."""
    checks_content_md5: bool | None = None
    """Refuses a body that contradicts its `Content-MD5`."""
    problem: str | None = None
    """Why something could not be seen, in words."""

    @property
    def store_check(self) -> StoreCheck | None:
        """The strongest check of the bytes that the store was seen to make itself."""
        if self.checks_payload_hash:
            return StoreCheck.PAYLOAD_HASH
        return StoreCheck.CONTENT_MD5 if self.checks_content_md5 else None


UNKNOWN = Capabilities()
AMAZON = Capabilities(
    conditional_put=True,
    conditional_complete=True,
    checks_payload_hash=True,
    checks_content_md5=True,
)
"""Amazon documents all of it ("Conditional writes", "Checking object integrity")."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """How the bytes of one bucket's objects are proven."""

    sends_content_md5: bool
    checked: StoreCheck | None
    """What the store is known to check of every request; None: only its ETag tells."""
    reads_back: bool = False
    """Every object is read again after it was sent."""

    @property
    def refuses_other_bytes(self) -> bool:
        """Whether the store is known to refuse bytes that are not those that were hashed."""
        return self.checked in (StoreCheck.PAYLOAD_HASH, StoreCheck.CONTENT_MD5)

    @property
    def needs_md5(self) -> bool:
        """Whether an MD5 is sent, or compared with the ETag. Else nobody has to compute it."""
        return self.sends_content_md5 or self.checked is None


def proof_of(chosen: ChosenCheck, capabilities: Capabilities) -> Proof:
    """Decide how a store proves what it got, by the setting and by what was seen of it."""
    seen = capabilities
    by_md5 = StoreCheck.CONTENT_MD5 if seen.checks_content_md5 else None
    match chosen:
        case "payload-hash":
            # The operator's word counts, unless the store was seen to take what contradicts it.
            refuted = seen.checks_payload_hash is False
            checked = None if refuted else StoreCheck.PAYLOAD_HASH
            return Proof(sends_content_md5=False, checked=checked)
        case "content-md5":
            return Proof(sends_content_md5=True, checked=by_md5)
        case "auto" | "read-back":
            reads_back = chosen == "read-back"
            if seen.checks_payload_hash:
                return Proof(
                    sends_content_md5=False,
                    checked=StoreCheck.PAYLOAD_HASH,
                    reads_back=reads_back,
                )
            return Proof(sends_content_md5=True, checked=by_md5, reads_back=reads_back)
