"""The routes: one table of all that can be asked for over the socket, and how it is asked.

The server finds the operation in it, the client builds its request from it, and the description
in OpenAPI is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from sensordrop.control.refusal import Reason, RefusedError
from sensordrop.control.service import Operations
from sensordrop.control.told import Told
from sensordrop.core.model import UploadState
from sensordrop.core.principal import Principal, Role
from sensordrop.core.timetable import TEXT_LIMIT

BASE = "/api/v1"
OPENAPI = f"{BASE}/openapi.json"
"""Where all of this is described, in OpenAPI."""
BEHALF = "Sensordrop-Behalf"
"""Header in which root says for whom it asks, as sudo knows it."""
MOST_LINES = 1_000
"""Lines of one page at most: more are asked for with `after`, and no answer fills a memory."""
USUAL_LINES = 50
MOST_PATHS = 1_000
"""Paths of one request at most."""
LONGEST_PATH = 4 * 4096
"""Characters of a path: Linux allows 4,096 bytes, each of which may be written in four."""
LONGEST_NAME = 4 * 255
"""Characters of a folder's name, likewise."""
LONGEST_SECONDS = 366 * 86_400
"""Whoever means longer than a year means the configuration."""
LARGEST_NUMBER = 2**63 - 1
"""What the ledger's numbers go up to."""


class Form(StrEnum):
    """What a value is: the words of JSON Schema."""

    TEXT = "string"
    WHOLE = "integer"
    NUMBER = "number"
    FLAG = "boolean"
    TEXTS = "array"


class Place(StrEnum):
    """Where in a request a value stands."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One value that an operation takes."""

    name: str
    meaning: str
    form: Form = Form.TEXT
    required: bool = False
    default: int | None = None
    choices: tuple[str, ...] = ()
    least: int = 1
    most: int = LARGEST_NUMBER
    """The largest number, or the most items of a list."""
    longest: int = 200
    """Characters of a text."""

    def read(self, value: object) -> object:
        """Give a value as the operation takes it. Raises RefusedError."""
        right = False
        match self.form:
            case Form.TEXT:
                right = _is_text(value, self.longest) and (
                    not self.choices or value in self.choices
                )
            case Form.WHOLE:
                right = _is_number(value, int) and self.least <= value <= self.most  # type: ignore[operator]
            case Form.NUMBER:
                right = _is_number(value, int | float) and 0 < value <= self.most  # type: ignore[operator]
            case Form.FLAG:
                right = isinstance(value, bool)
            case Form.TEXTS:
                right = isinstance(value, list) and 0 < len(value) <= self.most
                right = right and all(_is_text(item, self.longest) for item in value)  # type: ignore[attr-defined]
        if not right:
            raise RefusedError(Reason.USAGE, f"{self.name} must be {self.expected}")
        return value

    def from_text(self, text: str) -> object:
        """Read a value that stands in an address. Raises RefusedError."""
        value: object = text
        if self.form is Form.WHOLE and text.isascii() and text.isdigit() and len(text) < 20:
            value = int(text)
        return self.read(value)

    @property
    def expected(self) -> str:
        """What is accepted, in words."""
        match self.form:
            case Form.WHOLE:
                return f"a whole number from {self.least} to {self.most}"
            case Form.NUMBER:
                return f"a number above 0, at most {self.most}"
            case Form.FLAG:
                return "true or false"
            case Form.TEXTS:
                return f"a list of 1 to {self.most} texts of at most {self.longest} characters"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        return f"a text of at most {self.longest} characters"


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One operation: how it is asked for, who may, and what it takes."""

    method: str
    path: str
    operation: Callable[..., Told]
    role: Role
    summary: str
    parameters: tuple[Parameter, ...] = ()

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.operation.__name__

    def place_of(self, parameter: Parameter) -> Place:
        """Say where a parameter stands: in the path, else after the ?, or in the JSON body."""
        if f"{{{parameter.name}}}" in self.path:
            return Place.PATH
        return Place.QUERY if self.method == "GET" else Place.BODY

    def values(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Read what was given: all of it right, nothing missing, nothing unknown, or RefusedError.

        A value that is null counts as not given.
        """
        known = {each.name: each for each in self.parameters}
        for name in given:
            if name not in known:
                names = ", ".join(known) or "none"
                raise RefusedError(
                    Reason.USAGE, f"{name!r} is not known to {self.name}; it takes: {names}"
                )
        read: dict[str, Any] = {}
        for name, parameter in known.items():
            if given.get(name) is not None:
                read[name] = parameter.read(given[name])
            elif parameter.required:
                raise RefusedError(
                    Reason.USAGE, f"{name} is missing: {parameter.expected} ({parameter.meaning})"
                )
            elif parameter.default is not None:
                read[name] = parameter.default
        return read

    def perform(
        self, operations: Operations, principal: Principal, given: Mapping[str, object]
    ) -> Told:
        """Do it, if the principal may. Raises what operations raise."""
        if not principal.may(Role.VIEWER):
            raise RefusedError(
                Reason.NOT_PERMITTED,
                f"{principal.name} may not ask this daemon anything: that takes root, the daemon's "
                "own user, a member of its control_group, or somebody whom control_principals names",
            )
        if not principal.may(self.role):
            raise RefusedError(
                Reason.NOT_PERMITTED,
                f"{principal.name} may look, and not {self.name.replace('_', ' ')}: that takes "
                "root, the daemon's own user, a member of its control_group (usermod -aG, then "
                "log in anew), or an admin of its control_principals",
            )
        return self.operation(operations, principal, **self.values(given))


def _is_text(value: object, longest: int) -> bool:
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair, which JSON can write and nobody can store
        return False
    return True


def _is_number(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


_DELIVERY = Parameter(name="delivery", meaning="Name of the delivery; none: all of the station.")
_THE_DELIVERY = Parameter(name="delivery", meaning="Name of the delivery.", required=True)
_OF_DELIVERY = Parameter(name="delivery", meaning="Of this delivery alone.")
_SECONDS = Parameter(
    name="for_seconds", meaning="For so long; then it is as before.", form=Form.NUMBER,
    most=LONGEST_SECONDS,
)  # fmt: skip
_REASON = Parameter(name="reason", meaning="Why, for those who look later.", longest=TEXT_LIMIT)
_SESSION = Parameter(
    name="session_id", meaning="Number of the session.", form=Form.WHOLE, required=True
)
_PAGE = (
    Parameter(
        name="limit", meaning="Lines of a page.", form=Form.WHOLE, default=USUAL_LINES,
        most=MOST_LINES,
    ),
    Parameter(
        name="after", meaning="`next` of the page before: go on after it.", form=Form.WHOLE,
    ),
)  # fmt: skip

ROUTES = (
    Route(
        method="GET", path=f"{BASE}/bandwidth", operation=Operations.bandwidth, role=Role.VIEWER,
        summary="The bandwidth limits in force.",
    ),
    Route(
        method="POST", path=f"{BASE}/bandwidth", operation=Operations.set_bandwidth,
        role=Role.ADMIN,
        summary="Set a bandwidth limit, or let the configuration hold again.",
        parameters=(
            Parameter(
                name="limit", required=True, longest=TEXT_LIMIT,
                meaning="A rate, a timetable, `off`, or `config` for what is configured.",
            ),
            _DELIVERY, _SECONDS, _REASON,
        ),
    ),
    Route(
        method="GET", path=f"{BASE}/daemon", operation=Operations.about, role=Role.VIEWER,
        summary="Which daemon answers, and on which ledger it works.",
    ),
    Route(
        method="GET", path=f"{BASE}/deliveries", operation=Operations.deliveries,
        role=Role.VIEWER, summary="Where the deliveries take from and put to.",
    ),
    Route(
        method="GET", path=f"{BASE}/deliveries/{{delivery}}/known", operation=Operations.known,
        role=Role.VIEWER, summary="Whether a path is on a delivery's books, or ignored there.",
        parameters=(
            _THE_DELIVERY,
            Parameter(
                name="path", required=True, longest=LONGEST_PATH,
                meaning="The file's path below the delivery's folder, as text.",
            ),
        ),
    ),
    Route(
        method="GET", path=f"{BASE}/deliveries/{{delivery}}/why", operation=Operations.why,
        role=Role.VIEWER, summary="The whole story of a path, as the ledger knows it.",
        parameters=(
            _THE_DELIVERY,
            Parameter(
                name="path", required=True, longest=LONGEST_PATH,
                meaning="The file's path below the delivery's folder, as text.",
            ),
        ),
    ),
    Route(
        method="GET", path=f"{BASE}/files", operation=Operations.files, role=Role.VIEWER,
        summary="Files, the newest first; those that failed: the last to fail first.",
        parameters=(
            _OF_DELIVERY,
            Parameter(name="sensor", meaning="Of this sensor alone.", longest=LONGEST_NAME),
            Parameter(
                name="state", meaning="In this state alone.",
                choices=tuple(state.value for state in UploadState),
            ),
            *_PAGE,
        ),
    ),
    Route(
        method="POST", path=f"{BASE}/pause", operation=Operations.pause, role=Role.ADMIN,
        summary="Stop the uploads of a delivery, or of the whole station.",
        parameters=(_DELIVERY, _SECONDS, _REASON),
    ),
    Route(
        method="GET", path=f"{BASE}/pauses", operation=Operations.pauses, role=Role.VIEWER,
        summary="What is paused.",
    ),
    Route(
        method="GET", path=f"{BASE}/pauses/history", operation=Operations.pause_history,
        role=Role.VIEWER, summary="Who paused what, when, why, and who let it go on.",
    ),
    Route(
        method="POST", path=f"{BASE}/rescan", operation=Operations.rescan, role=Role.ADMIN,
        summary="Have a delivery's folder swept now, or those of all.",
        parameters=(
            _DELIVERY,
            Parameter(
                name="confirm_vanished", form=Form.FLAG,
                meaning="The delivery's files that wait and are missing are gone for good.",
            ),
        ),
    ),
    Route(
        method="POST", path=f"{BASE}/resume", operation=Operations.resume, role=Role.ADMIN,
        summary="End the pause of a delivery, or that of the station.",
        parameters=(_DELIVERY,),
    ),
    Route(
        method="POST", path=f"{BASE}/retry", operation=Operations.retry, role=Role.ADMIN,
        summary="Have files tried again that failed, with all their attempts before them.",
        parameters=(
            _OF_DELIVERY,
            Parameter(
                name="paths", form=Form.TEXTS, most=MOST_PATHS, longest=LONGEST_PATH,
                meaning="These files of the delivery, as text below its folder.",
            ),
            Parameter(
                name="session_id", form=Form.WHOLE, meaning="All that failed in this session.",
            ),
            Parameter(name="all_failed", form=Form.FLAG, meaning="All that failed, everywhere."),
            Parameter(
                name="now", form=Form.FLAG,
                meaning="Without the wait before the next try; also files that wait for one.",
            ),
            _REASON,
        ),
    ),
    Route(
        method="GET", path=f"{BASE}/sessions", operation=Operations.sessions, role=Role.VIEWER,
        summary="The bursts of work, the newest first.",
        parameters=(_OF_DELIVERY, *_PAGE),
    ),
    Route(
        method="GET", path=f"{BASE}/sessions/{{session_id}}", operation=Operations.session,
        role=Role.VIEWER, summary="One session, and what failed in it.",
        parameters=(_SESSION,),
    ),
    Route(
        method="GET", path=f"{BASE}/status", operation=Operations.status, role=Role.VIEWER,
        summary="How every delivery stands.",
    ),
    Route(
        method="POST", path=f"{BASE}/trigger",
        operation=Operations.trigger, role=Role.ADMIN,
        summary="Have a session's registration told once more, under the same key.",
        parameters=(_SESSION,),
    ),
    Route(
        method="GET", path=f"{BASE}/whoami", operation=Operations.whoami, role=Role.VIEWER,
        summary="Who asks, and what they may do.",
    ),
)  # fmt: skip
"""All routes, sorted by path and method."""

BY_NAME = {route.name: route for route in ROUTES}


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Find the route of a request, and the values that stand in its path; `path` is still quoted."""
    pieces = path.split("/")
    for route in ROUTES:
        pattern = route.path.split("/")
        if route.method != method or len(pattern) != len(pieces):
            continue
        held = {
            wanted[1:-1]: unquote(piece)
            for wanted, piece in zip(pattern, pieces, strict=True)
            if wanted.startswith("{")
        }
        if all(
            wanted == piece or wanted.startswith("{")
            for wanted, piece in zip(pattern, pieces, strict=True)
        ):
            return route, held
    return None


def methods_of(path: str) -> list[str]:
    """Give the methods that a path can be asked with."""
    return [method for method in ("GET", "POST") if find_route(method, path) is not None]
