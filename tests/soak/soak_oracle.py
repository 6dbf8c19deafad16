"""The soak's judge: what lies on the disk, in the bucket and in the ledger, held against what was
dropped.

Nothing here uses the product's code. It lists and hashes for itself, and asks the ledger's rows by
SQL of its own. `gather` looks, `judge` is pure.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import psycopg2.extras

OWN_PREFIX = "_sensordrop/"
READERS = 4
STORED = ("uploaded", "skipped")
VERDICTS = ("lost", "altered", "doubled", "stuck")

Path = tuple[str, bytes]
"""A delivery's name, and a path below its folder."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What whoever dropped the files knows, by SHA-256 in hex."""

    prefixes: Mapping[str, str]
    versions: Mapping[Path, AbstractSet[str]]
    """Every content that a file ever had as a whole."""
    junk: AbstractSet[Path] = frozenset()
    hopeless: AbstractSet[Path] = frozenset()
    """Files that can't be stored for good reason, and must be quarantined."""
    rewritten: AbstractSet[Path] = frozenset()
    """Files that were written again in place: bytes in between may have been sent, unclaimed."""
    damaged: AbstractSet[str] = frozenset()
    """Keys under which the way to the store put damaged bytes."""
    spoiled: AbstractSet[Path] = frozenset()
    """Files under whose second key, that of the copy, damaged bytes lie: where the first is taken
    as well, they are quarantined, because nothing is ever written over."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """What others had put into the bucket."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is there."""

    disk: Mapping[Path, str]
    objects: Mapping[str, str]
    etags: Mapping[str, str]
    seen: Mapping[str, str]
    """ETags of all objects that were ever seen, as they were first seen."""
    rows: Sequence[Mapping[str, Any]]
    queue: Sequence[Mapping[str, Any]] = ()
    ignored: AbstractSet[Path] = frozenset()
    sessions: Sequence[Mapping[str, Any]] = ()
    miscounted: Sequence[Mapping[str, Any]] = ()
    deliveries: Sequence[Mapping[str, Any]] = ()
    reasons: AbstractSet[int] = frozenset()
    """Rows that a final failure with a reason is written down for."""
    trouble: Sequence[str] = ()
    """What else went wrong: the daemon ended by itself, called something a mistake of its own."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it must be."""

    verdict: str
    words: str


def counted(findings: Iterable[Finding]) -> dict[str, int]:
    found = Counter(finding.verdict for finding in findings)
    return {verdict: found[verdict] for verdict in VERDICTS}


# --- names --------------------------------------------------------------------------------


def text_of(path: bytes) -> str:
    r"""Write a path as text: bytes that are not UTF-8 as `\xNN`, what looks so as `\x5cxNN`."""
    unambiguous = re.sub(rb"\\(?=x[0-9a-fA-F]{2})", rb"\\x5c", path)
    return unambiguous.decode("utf-8", "backslashreplace")


def keys_of(prefix: str, path: bytes, digest: str) -> tuple[str, str]:
    """Give the two keys that a file may be stored under: its own, and that of a copy beside."""
    key = f"{prefix}/{text_of(path)}"
    folder, name = os.path.split(key)
    stem, extension = os.path.splitext(name)  # noqa: PTH122  # keys are no paths
    return key, f"{folder}/{stem}~{digest[:16]}{extension}"


# --- looking ------------------------------------------------------------------------------


def files_below(name: str, root: str) -> dict[Path, str]:
    """Hash every regular file below a delivery's folder. Raises OSError for what is unreadable."""
    found: dict[Path, str] = {}

    def fail(error: OSError) -> None:
        raise error

    base = os.fsencode(root)
    for folder, _folders, names in os.walk(base, onerror=fail):
        for each in names:
            path = os.path.join(folder, each)  # noqa: PTH118  # names are bytes
            if stat.S_ISREG(os.lstat(path).st_mode):
                found[name, os.path.relpath(path, base)] = _digest_of(path)
    return found


def _digest_of(path: bytes) -> str:
    with open(path, "rb") as file:  # noqa: PTH123  # bytes
        return hashlib.file_digest(file, "sha256").hexdigest()


def etags_in(client: Any, bucket: str) -> dict[str, str]:
    """List the bucket: every object's ETag, but the program's own objects."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    found = {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", ())}
    return {key: etag for key, etag in found.items() if not key.startswith(OWN_PREFIX)}


def objects_in(client: Any, bucket: str, keys: Iterable[str]) -> dict[str, str]:
    """Read every object and give its SHA-256."""
    names = sorted(keys)

    def read(key: str) -> str:
        digest = hashlib.sha256()
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
        while block := body.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()

    with ThreadPoolExecutor(READERS) as readers:
        return dict(zip(names, readers.map(read, names), strict=True))


ROWS = """
    SELECT f.id, d.name AS delivery, f.path_bytes, f.state::text AS state,
           f.superseded_from::text AS superseded_from, f.is_current, f.object_key,
           encode(f.sha256, 'hex') AS sha256, f.size_bytes, f.session_id, f.conflict
    FROM file_uploads f JOIN deliveries d ON d.id = f.delivery_id ORDER BY f.id
"""
QUEUE = "SELECT upload_id, next_at::text AS next_at, claimed_by FROM upload_queue"
IGNORED = """
    SELECT d.name AS delivery, i.path_bytes
    FROM ignored_files i JOIN deliveries d ON d.id = i.delivery_id
"""
SESSIONS = """
    SELECT s.id, s.state::text AS state, s.files_total, s.bytes_total,
           s.files_uploaded + s.files_skipped + s.files_failed + s.files_superseded
               + s.files_vanished AS files_told,
           count(f.id) AS files, coalesce(sum(f.size_bytes), 0) AS bytes
    FROM sync_sessions s LEFT JOIN file_uploads f ON f.session_id = s.id
    GROUP BY s.id ORDER BY s.id
"""
MISCOUNTED = """
    SELECT delivery_id, sensor_id, kind, state, sum(files) AS files, sum(bytes) AS bytes
    FROM (
        SELECT delivery_id, sensor_id, kind::text, state, files, bytes FROM file_counts
        UNION ALL
        SELECT delivery_id, sensor_id, kind::text, state, files, bytes FROM counter_deltas
        UNION ALL
        SELECT delivery_id, sensor_id, kind::text, state::text, -1, -size_bytes FROM file_uploads
        UNION ALL
        SELECT delivery_id, 0, 'other', 'ignored', -1, -size_bytes FROM ignored_files
    ) AS difference
    GROUP BY delivery_id, sensor_id, kind, state
    HAVING sum(files) <> 0 OR sum(bytes) <> 0
    UNION ALL
    SELECT NULL, session_id, 'session', state, sum(files), sum(bytes)
    FROM (
        SELECT session_id, state, files, bytes FROM session_counts
        UNION ALL
        SELECT session_id, state, files, bytes FROM counter_deltas WHERE session_id IS NOT NULL
        UNION ALL
        SELECT session_id, state::text, -1, -size_bytes FROM file_uploads
        WHERE session_id IS NOT NULL
    ) AS difference
    GROUP BY session_id, state
    HAVING sum(files) <> 0 OR sum(bytes) <> 0
"""
DELIVERIES = """
    SELECT d.name, s.state, s.reason, s.settling, s.last_sweep_started_at, s.last_sweep_complete,
           (SELECT max(id) FROM sync_sessions x
            WHERE x.delivery_id = d.id AND x.state <> 'ended') AS session
    FROM deliveries d LEFT JOIN delivery_status s ON s.delivery_id = d.id
    WHERE d.retired_at IS NULL ORDER BY d.name
"""
REASONS = "SELECT upload_id FROM upload_failures WHERE final AND message <> ''"


def ledger_says(dsn: str, sql: str, *values: object) -> list[dict[str, Any]]:
    """Ask the ledger by SQL. Raises psycopg2.Error."""
    connection = psycopg2.connect(dsn, connect_timeout=5)
    try:
        connection.autocommit = True
        with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql, values or None)
            return [dict(row) for row in cursor.fetchall()]
    finally:
        connection.close()


def gather(
    *,
    roots: Mapping[str, str],
    dsn: str,
    client: Any,
    bucket: str,
    seen: Mapping[str, str],
    trouble: Sequence[str],
) -> Evidence:
    """Look at everything. Blocks for as long as it takes to read every file and object."""
    disk: dict[Path, str] = {}
    for name, root in roots.items():
        disk |= files_below(name, root)
    etags = etags_in(client, bucket)
    rows = ledger_says(dsn, ROWS)
    return Evidence(
        disk=disk,
        objects=objects_in(client, bucket, etags),
        etags=etags,
        seen=seen,
        rows=[row | {"path": bytes(row["path_bytes"])} for row in rows],
        queue=ledger_says(dsn, QUEUE),
        ignored=frozenset(
            (row["delivery"], bytes(row["path_bytes"])) for row in ledger_says(dsn, IGNORED)
        ),
        sessions=ledger_says(dsn, SESSIONS),
        miscounted=ledger_says(dsn, MISCOUNTED),
        deliveries=ledger_says(dsn, DELIVERIES),
        reasons=frozenset(row["upload_id"] for row in ledger_says(dsn, REASONS)),
        trouble=trouble,
    )


# --- judging ------------------------------------------------------------------------------


def judge(truth: Truth, evidence: Evidence) -> list[Finding]:
    """Name everything that is lost, altered, doubled or stuck. Pure."""
    findings = [
        *_of_files(truth, evidence),
        *_of_rows(truth, evidence),
        *_of_objects(truth, evidence),
        *_of_counts(evidence),
        *_of_rest(evidence),
    ]
    return list(dict.fromkeys(findings))


def _of_files(truth: Truth, evidence: Evidence) -> Iterable[Finding]:
    """Every file on the disk ended as it must, and somebody knows of it."""
    current = {(row["delivery"], row["path"]): row for row in evidence.rows if row["is_current"]}
    for path, digest in evidence.disk.items():
        name = f"{path[0]}: {path[1]!r}"
        row = current.get(path)
        if path in truth.junk:
            if path not in evidence.ignored:
                yield Finding(verdict="lost", words=f"{name} is junk that nobody accounts for")
            continue
        if path in truth.hopeless:
            if row is None or row["state"] != "failed" or row["id"] not in evidence.reasons:
                yield Finding(verdict="stuck", words=f"{name} is not quarantined with a reason")
            continue
        quarantined = row is not None and row["state"] == "failed" and row["id"] in evidence.reasons
        if path in truth.spoiled and quarantined:
            continue
        keys = keys_of(truth.prefixes[path[0]], path[1], digest)
        if digest not in (evidence.objects.get(key) for key in keys):
            yield Finding(verdict="lost", words=f"{name} is nowhere in the bucket")
        if row is None:
            yield Finding(verdict="lost", words=f"{name} is on no books")
        elif row["state"] in ("pending", "failed"):
            yield Finding(verdict="stuck", words=f"{name} is {row['state']}")
        elif row["state"] not in STORED:
            yield Finding(verdict="lost", words=f"{name} is there, and said to be {row['state']}")
        elif row["sha256"] != digest:
            yield Finding(verdict="altered", words=f"{name} is not what the ledger vouches for")


def _of_rows(truth: Truth, evidence: Evidence) -> Iterable[Finding]:
    """What the ledger says to be stored is there, is what was dropped, and is there once."""
    current: Counter[Path] = Counter()
    stored: Counter[tuple[Path, str]] = Counter()
    waiting = {row["upload_id"] for row in evidence.queue}
    for row in evidence.rows:
        path = (row["delivery"], row["path"])
        name = f"{row['delivery']}: {row['path']!r} (row {row['id']})"
        current[path] += row["is_current"]
        if row["state"] == "pending":
            where = "" if row["id"] in waiting else ", and in no queue"
            yield Finding(verdict="stuck", words=f"{name} is pending{where}")
        elif row["id"] in waiting:
            yield Finding(verdict="stuck", words=f"{name} is {row['state']}, and still queued")
        if not {row["state"], row["superseded_from"]} & {*STORED}:
            continue
        # `skipped` says truly that the same was stored before; sent twice is what must not be.
        stored[path, row["sha256"]] += "uploaded" in (row["state"], row["superseded_from"])
        found = evidence.objects.get(row["object_key"])
        if found is None:
            yield Finding(verdict="lost", words=f"{name} is not at {row['object_key']!r}")
        elif found != row["sha256"]:
            yield Finding(verdict="altered", words=f"{row['object_key']!r} is not {name}")
        if row["sha256"] not in truth.versions.get(path, ()):
            yield Finding(verdict="altered", words=f"{name} was stored as it never was")
    for path, times in current.items():
        if times > 1:
            yield Finding(verdict="doubled", words=f"{path} is on the books {times} times")
    for (path, digest), times in stored.items():
        if times > 1:
            yield Finding(verdict="doubled", words=f"{path} {digest[:8]} was stored {times} times")


def _of_objects(truth: Truth, evidence: Evidence) -> Iterable[Finding]:
    """No object changed or went since it was seen, and each is there for a reason."""
    for key, digest in truth.foreign.items():
        if evidence.objects.get(key, digest) != digest:
            yield Finding(verdict="altered", words=f"{key!r}, somebody else's, was overwritten")
    for key, etag in evidence.seen.items():
        if key not in evidence.etags:
            yield Finding(verdict="lost", words=f"{key!r} is gone from the bucket")
        elif evidence.etags[key] != etag:
            yield Finding(verdict="altered", words=f"{key!r} is not what it was")
    yield from _of_unclaimed(truth, evidence)


def _of_unclaimed(truth: Truth, evidence: Evidence) -> Iterable[Finding]:
    """Objects that no row claims are there for a reason that is known, and are there once.

    One such reason is no fault at all: a file was stored, and then it was taken away or replaced
    before the daemon could be told so, because it was killed or the answer was lost.
    """
    claimed = {row["object_key"] for row in evidence.rows if row["sha256"] is not None}
    debris = set(truth.damaged)
    places: dict[str, Path] = {}
    for path in truth.versions:
        key = keys_of(truth.prefixes[path[0]], path[1], "")[0]
        places[key] = path
        if path in truth.rewritten:
            debris.add(key)
    held: dict[Path, Counter[str]] = defaultdict(Counter)
    for key, digest in evidence.objects.items():
        path = places.get(key) or places.get(key.replace(f"~{digest[:16]}", ""))
        if path is not None:
            held[path][digest] += 1
    for key, digest in evidence.objects.items():
        plain = key.replace(f"~{digest[:16]}", "")
        if {key, plain} & debris or key in claimed or key in truth.foreign:
            continue
        path = places.get(key) or places.get(plain)
        if path is None or digest not in truth.versions[path]:
            yield Finding(verdict="doubled", words=f"{key!r} was put there for nobody")
        elif held[path][digest] > 1:
            yield Finding(verdict="doubled", words=f"{key!r} is stored elsewhere as well")
        elif evidence.disk.get(path) == digest:
            yield Finding(verdict="lost", words=f"{key!r} is stored, and on no books")


def _of_counts(evidence: Evidence) -> Iterable[Finding]:
    """What was counted is what can be counted."""
    for row in evidence.miscounted:
        more = row["files"] > 0 or (row["files"] == 0 and row["bytes"] > 0)
        yield Finding(
            verdict="doubled" if more else "lost", words=f"the counters are wrong: {dict(row)}"
        )
    for row in evidence.sessions:
        if row["state"] != "ended":
            yield Finding(verdict="stuck", words=f"session {row['id']} is {row['state']}")
        elif (row["files_total"], row["bytes_total"], row["files_told"]) != (
            row["files"],
            row["bytes"],
            row["files"],
        ):
            more = row["files_total"] > row["files"] or row["files_told"] > row["files"]
            yield Finding(
                verdict="doubled" if more else "lost",
                words=f"session {row['id']} does not add up: {dict(row)}",
            )


def _of_rest(evidence: Evidence) -> Iterable[Finding]:
    for row in evidence.deliveries:
        if row["state"] not in ("watching", "sweeping") or row["reason"] or row["settling"]:
            yield Finding(verdict="stuck", words=f"delivery {dict(row)}")
    for words in evidence.trouble:
        yield Finding(verdict="stuck", words=words)
