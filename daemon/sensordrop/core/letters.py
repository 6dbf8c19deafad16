"""What is told about sessions, whether it was heard, and when it is told again.

A letter is a row of the outbox: one thing to be told to one endpoint under one idempotency key.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from enum import StrEnum

FIRST_RETRY_SECONDS = 5.0
"""Wait after the first attempt; it doubles with each."""
LONGEST_RETRY_SECONDS = 900.0
"""Longest wait between two attempts: an endpoint that is back is told within a quarter of an hour."""
LONGEST_ASKED_SECONDS = 86_400.0
"""The longest wait that an endpoint may ask for (Retry-After)."""
TRANSIENT_REFUSALS = frozenset({408, 425, 429})
"""Statuses from 400 to 499 that a later attempt may change; all others are permanent."""

_NOBODYS = "is nobody's endpoint: link-local, multicast, a cloud's metadata or none"

_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "fd00:ec2::254",  # Amazon
        "fd20:ce::254",  # Google
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
    )
)
"""Where clouds hand a machine its credentials, beside the link-local address that all have."""
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
"""A gateway makes the last four bytes the IPv4 address that is connected to."""
_COMPATIBLE = ipaddress.IPv6Network("::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class LetterKind(StrEnum):
    """What is told."""

    REGISTRATION = "registration"
    START = "start"
    FAILURE = "failure"
    DONE = "done"


class LetterState(StrEnum):
    """Where a letter stands."""

    WAITING = "waiting"
    TOLD = "told"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came of one attempt. Without a `status` nobody answered, and `problem` says why."""

    status: int | None = None
    text: str = ""
    """The beginning of the answer's body, as text."""
    retry_after_seconds: float | None = None
    problem: str | None = None
    hint: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterPlan:
    """What becomes of a letter after an attempt. `problem` None: it was heard."""

    state: LetterState
    retry_seconds: float = 0.0
    problem: str | None = None
    hint: str = ""


def plan_letter(
    answer: Answer, *, attempts: int, waited_seconds: float, give_up_seconds: float, dice: float
) -> LetterPlan:
    """Decide what becomes of a letter.

    `attempts` that failed before this one; `waited_seconds` since it was asked for; `dice` from 0
    to 1 spreads out the attempts of many, between half the wait and all of it.
    """
    problem, hint = trouble_of(answer)
    if problem is None:
        return LetterPlan(state=LetterState.TOLD)
    if _is_permanent(answer):
        return LetterPlan(state=LetterState.FAILED, problem=problem, hint=hint)
    wait = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(attempts, 30))
    wait *= 0.5 + dice / 2
    if answer.retry_after_seconds is not None:
        wait = max(wait, min(answer.retry_after_seconds, LONGEST_ASKED_SECONDS))
    if waited_seconds + wait > give_up_seconds:
        return LetterPlan(
            state=LetterState.FAILED,
            problem=f"{problem}; it was tried for {waited_seconds / 3600:.1f} hours",
            hint="once the endpoint is mended: sensordrop trigger",
        )
    return LetterPlan(state=LetterState.WAITING, retry_seconds=wait, problem=problem, hint=hint)


def trouble_of(answer: Answer) -> tuple[str | None, str]:
    """Say in words what is wrong with an answer, and what helps; None: nothing is."""
    if answer.problem is not None:
        return answer.problem, answer.hint
    status = answer.status or 0
    if 200 <= status < 300:
        return None, ""
    if 300 <= status < 400:
        return (
            f"the endpoint answered with a redirect ({status})",
            "give the address that it points to, or set follow_redirects (307 and 308 only)",
        )
    if status in (401, 403):
        hint = "check token, secret and headers of the endpoint"
    elif status in TRANSIENT_REFUSALS or status >= 500:
        hint = "it is tried again by itself"
    else:
        hint = "ask whoever runs the endpoint; then: sensordrop trigger"
    return f"the endpoint answered {status}", hint


def _is_permanent(answer: Answer) -> bool:
    if answer.status is None or answer.problem is not None:
        return False
    return answer.status < 500 and answer.status not in TRANSIENT_REFUSALS


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """Sign a body as of a moment (seconds since 1970): HMAC-SHA-256 over both, in hex."""
    signed = str(timestamp).encode() + b"." + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def address_problem(text: str, *, allow_private: bool) -> str | None:
    """Say why an IP address must not be connected to; None: it may be.

    A cloud's metadata service and its like (link-local addresses) are nobody's endpoint: they are
    refused whatever is allowed.
    """
    address = _meant(ipaddress.ip_address(text))
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return f"the address {address} {_NOBODYS}"
    if address in _METADATA:
        return f"the address {address} {_NOBODYS}"
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    if (address.is_global and not site_local) or allow_private:
        return None
    return f"the address {address} is private or this machine's own"


def _meant(address: _Address) -> _Address:
    """Give the IPv4 address that an IPv6 one leads to by a gateway or a tunnel, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inside = address.ipv4_mapped or address.sixtofour
    if inside is None and address.teredo is not None:
        inside = address.teredo[1]
    lasting = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if inside is None and any(address in network for network in _NAT64):
        inside = lasting
    if inside is None and address in _COMPATIBLE and int(address) > 1:
        inside = lasting
    return address if inside is None else inside
