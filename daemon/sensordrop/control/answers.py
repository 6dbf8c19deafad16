"""What each operation answers, as JSON Schema. Tests hold real answers against it."""

from __future__ import annotations

from typing import Any

from sensordrop.control.refusal import Reason
from sensordrop.control.told import COUNTED, IN_SESSIONS

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _object(**keys: Schema) -> Schema:
    """Give an object that always has all of its keys, and may be given more by later versions."""
    return {"type": "object", "required": sorted(keys), "properties": keys}


def _counts(*states: str) -> Schema:
    return _object(**dict.fromkeys(states, WHOLE))


REFUSAL = _object(
    error=_object(reason={"enum": [each.value for each in Reason]}, message=TEXT),
)

_PROGRESS = _object(
    files=WHOLE,
    finished=WHOLE,
    bytes=WHOLE,
    bytes_left=WHOLE,
    share=NUMBER,
    files_per_second=NUMBER,
    bytes_per_second=WHOLE,
    seconds_left=_maybe(WHOLE),
    eta=_maybe(TIME),
)
_DELIVERY_STATUS = _object(
    name=TEXT,
    client=TEXT,
    project=TEXT,
    cycle=TEXT,
    state=TEXT,
    reason=_maybe(TEXT),
    daemon_alive=FLAG,
    counts=_counts(*COUNTED),
    bytes=_object(pending=WHOLE, uploaded=WHOLE),
    mismatches=WHOLE,
    letters=_object(delayed=WHOLE, failed=WHOLE),
    session=_maybe(_object(id=WHOLE, started_at=TIME)),
    progress=_maybe(_PROGRESS),
)
_BREAKER = _object(
    station=TEXT,
    scope=TEXT,
    target=TEXT,
    error_class=TEXT,
    reason=TEXT,
    hint=TEXT,
    failures=WHOLE,
    opened_at=TIME,
    next_probe_at=TIME,
)
_DELIVERY = _object(
    name=TEXT,
    station=_maybe(TEXT),
    client=_maybe(TEXT),
    project=_maybe(TEXT),
    cycle=_maybe(TEXT),
    state=_maybe(TEXT),
    reason=_maybe(TEXT),
    daemon_alive=FLAG,
    local_directory=TEXT,
    endpoint_url=_maybe(TEXT),
    bucket_name=TEXT,
    s3_prefix=TEXT,
    session_id=_maybe(WHOLE),
    last_sweep_at=_maybe(TIME),
    last_complete_sweep_at=_maybe(TIME),
    counts=_maybe(_counts(*COUNTED)),
)
_SESSION = _object(
    id=WHOLE,
    delivery=TEXT,
    state=TEXT,
    origin=TEXT,
    started_by=TEXT,
    started_at=TIME,
    ended_at=_maybe(TIME),
    files=WHOLE,
    counts=_counts(*IN_SESSIONS),
    bytes=_object(total=WHOLE, uploaded=WHOLE),
)
_TROUBLES = _list(_object(error_class=TEXT, files=WHOLE, example=TEXT))
_LETTERS = _list(
    _object(
        kind=TEXT,
        endpoint=TEXT,
        idempotency_key=TEXT,
        state={"enum": ["waiting", "told", "failed"]},
        attempts=WHOLE,
        asked_at=TIME,
        next_attempt_at=_maybe(TIME),
        told_at=_maybe(TIME),
        status=_maybe(WHOLE),
        answer=TEXT,
        problem=_maybe(TEXT),
    )
)
_FILE = _object(
    delivery=TEXT,
    sensor=TEXT,
    path=TEXT,
    state=TEXT,
    size_bytes=WHOLE,
    session_id=_maybe(WHOLE),
    attempts=WHOLE,
    enrolled_at=TIME,
    finished_at=_maybe(TIME),
    next_attempt_at=_maybe(TIME),
    error_class=_maybe(TEXT),
    reason=_maybe(TEXT),
)
_PAUSE = _object(delivery=_maybe(TEXT), set_by=TEXT, set_at=TIME, until=_maybe(TIME), reason=TEXT)
_PAST = _object(
    delivery=_maybe(TEXT),
    reason=TEXT,
    set_by=TEXT,
    set_at=TIME,
    until=_maybe(TIME),
    ended_by=_maybe(TEXT),
    ended_at=_maybe(TIME),
)
_LIMIT = _object(
    **{"from": {"enum": ["command", "configuration"]}},
    delivery=_maybe(TEXT),
    setting=TEXT,
    configured=TEXT,
    bytes_per_second=_maybe(WHOLE),
    next_change=_maybe(TIME),
    next_bytes_per_second=_maybe(WHOLE),
    set_by=_maybe(TEXT),
    set_at=_maybe(TIME),
    until=_maybe(TIME),
    reason=TEXT,
)
_PAUSES = _object(station=TEXT, paused=_list(_PAUSE), running=FLAG)
_LIMITS = _object(station=TEXT, limits=_list(_LIMIT), running=FLAG)

_STORY = _object(
    path=TEXT,
    ignored=_maybe(TEXT),
    place=_object(
        delivery_id=WHOLE,
        name=TEXT,
        station=_maybe(TEXT),
        local_directory=TEXT,
        endpoint_url=TEXT,
        bucket_name=TEXT,
        s3_prefix=TEXT,
        enabled=FLAG,
        state=_maybe(TEXT),
        reason=_maybe(TEXT),
        last_sweep_ended_at=_maybe(TIME),
        last_sweep_complete=_maybe(FLAG),
        last_complete_sweep_at=_maybe(TIME),
        session_id=_maybe(WHOLE),
        quiet_seconds=_maybe(NUMBER),
        daemon_alive=FLAG,
    ),
    pauses=_list(
        _object(
            kind=TEXT,
            delivery_id=_maybe(WHOLE),
            value=TEXT,
            reason=TEXT,
            set_by=TEXT,
            set_at=TIME,
            until=_maybe(TIME),
        )
    ),
    versions=_list(
        _object(
            upload_id=WHOLE,
            state=TEXT,
            session_id=_maybe(WHOLE),
            sensor=TEXT,
            size_bytes=WHOLE,
            fingerprint=_object(size_bytes=WHOLE, mtime_ns=WHOLE, ctime_ns=WHOLE),
            seen_at=_maybe(TIME),
            enrolled_at=TIME,
            finished_at=_maybe(TIME),
            object_key=_maybe(TEXT),
            reason=_maybe(TEXT),
            attempts=WHOLE,
            crashes=WHOLE,
            claimed=FLAG,
            next_at=_maybe(TIME),
            failures=_list(
                _object(
                    begun_at=_maybe(TIME),
                    ended_at=TIME,
                    attempts=WHOLE,
                    scope=TEXT,
                    error_class=TEXT,
                    message=TEXT,
                    hint=TEXT,
                    charged=FLAG,
                    final=FLAG,
                )
            ),
            retries=_list(_object(asked_at=TIME, asked_by=TEXT, reason=TEXT, at_once=FLAG)),
        )
    ),
)

ANSWERS: dict[str, Schema] = {
    "about": _object(version=TEXT, station=TEXT, pid=WHOLE, started_at=TIME, ledger=TEXT),
    "bandwidth": _LIMITS,
    "deliveries": _object(deliveries=_list(_DELIVERY)),
    "files": _object(files=_list(_FILE), next=_maybe(WHOLE)),
    "known": _object(delivery=TEXT, path=TEXT, known=FLAG),
    "pause": _PAUSES,
    "pause_history": _object(station=TEXT, pauses=_list(_PAST)),
    "pauses": _PAUSES,
    "rescan": _object(
        station=TEXT,
        rescan=_list(TEXT),
        running=FLAG,
        deliveries=_list(_object(name=TEXT, state=TEXT, reason=_maybe(TEXT), daemon_alive=FLAG)),
    ),
    "resume": _PAUSES,
    "retry": _object(
        retried=WHOLE,
        hurried=WHOLE,
        deliveries=_list(TEXT),
        paths=_list(_object(path=TEXT, delivery=TEXT, state_before=_maybe(TEXT), retried=FLAG)),
        running=FLAG,
    ),
    "session": {
        **_SESSION,
        "required": sorted([*_SESSION["required"], "failures", "letters"]),
        "properties": {**_SESSION["properties"], "failures": _TROUBLES, "letters": _LETTERS},
    },
    "sessions": _object(sessions=_list(_SESSION), next=_maybe(WHOLE)),
    "set_bandwidth": _LIMITS,
    "status": _object(
        version=TEXT,
        station=_maybe(TEXT),
        deliveries=_list(_DELIVERY_STATUS),
        breakers=_list(_BREAKER),
        configuration=_list(
            _object(station=TEXT, since=TIME, refused_at=_maybe(TIME), problem=_maybe(TEXT))
        ),
    ),
    "trigger": _object(session_id=WHOLE, delivery=TEXT, running=FLAG, letters=_LETTERS),
    "why": _object(delivery=TEXT, path=TEXT, story=_STORY),
    "whoami": _object(name=TEXT, role={"enum": ["viewer", "admin"]}, clients=_maybe(_list(TEXT))),
}
"""The answer of each operation, by its name."""
