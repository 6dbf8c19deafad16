"""Everything that a store and the way to it can do wrong, all at once, each to a delivery of its own.

One daemon has a delivery for every row of the table, each behind a fault proxy. All deliveries
first store a file; then all faults begin, more files are dropped, and each delivery must say what
is wrong; then all faults end, and everything must heal by itself. What is right in the end is
judged by the bucket's own bytes, read past the proxies.

SENSORDROP_TEST_SEED chooses where connections break; a failure tells the seed.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from daemon import Station, drop_files, sha256
from fault_proxy import (
    BOMB,
    Exchange,
    Fault,
    FaultProxy,
    Harm,
    answered_with,
    claimed,
    cut_answer,
    cut_request,
    done_but_answered,
    dripped,
    end,
    endless,
    hang,
    huge_header,
    one_bit_wrong,
    page,
    proxies,
    refused,
    reset,
)
from s3_servers import Asked, Reply, ScriptedServer, error_xml

from sensordrop.adapters.s3.failures import BY_CLASS

SEED = int(os.environ.get("SENSORDROP_TEST_SEED", "20261121"))
MIB = 1024 * 1024
LARGE_BYTES = 5 * MIB + 1
"""Goes in parts here."""
SMALL_BYTES = 3000
STALL_SECONDS = 4
LONG_SECONDS = 240.0

ANY = frozenset({"put", "begin", "part", "complete", "abort", "look", "list", "read", "other"})
PUT = frozenset({"put"})
GIVEN_OUT = "a-secret-that-must-not-be-shown"
OTHER_ETAG = "0123456789abcdef0123456789abcdef"
WRONG = '"' + OTHER_ETAG + '"'
OTHER_SHA256 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault, what it is done to, and what must be told of it."""

    name: str
    fault: Fault | None
    """None: nobody listens any more."""
    on: frozenset[str] = PUT
    tells: frozenset[str] = field(default_factory=frozenset)
    """Classes of failure, one of which the operator must be told. None: it is no trouble."""
    hits: int | None = None
    """How often the fault is done; None: until all are told."""
    large: bool = False
    """Whether the files go in parts."""
    keys: dict[str, object] = field(default_factory=dict)
    """Of the delivery's configuration, beside the usual ones."""


def case(name: str, fault: Fault | None, *tells: str, on: str | frozenset[str] = PUT, **more):
    kinds = frozenset({on}) if isinstance(on, str) else on
    large = bool(kinds & {"begin", "part", "complete"}) and kinds != ANY
    chosen = {"large": large, **more}
    return Case(name=name, fault=fault, on=kinds, tells=frozenset(tells), **chosen)


REFUSALS = [
    case("500", refused(500, "InternalError"), "server-error"),
    case("500-part", refused(500, "InternalError"), "server-error", on="part"),
    case("500-complete", refused(500, "InternalError"), "server-error", on="complete"),
    case("500-all", refused(500, "InternalError"), "server-error", on=ANY),
    case("502-page", page(502, b"<html>Bad gateway</html>"), "server-error", on=ANY),
    case("503", refused(503, "ServiceUnavailable", retry_after="Fri, 01 Jan 2021 00:00:00 GMT"), "server-error"),
    case("slowdown", refused(503, "SlowDown"), "slow-down"),
    case("slowdown-after", refused(503, "SlowDown", retry_after="3"), "slow-down"),
    case("429", refused(429, "", retry_after="-17 moons"), "slow-down"),
    case("429-after", refused(429, "TooManyRequests", retry_after="2"), "slow-down"),
    case("403-denied", refused(403, "AccessDenied"), "access-denied", on=ANY),
    case("403-signature", refused(403, "SignatureDoesNotMatch"), "credentials-refused", on=ANY),
    case("403-key", refused(403, "InvalidAccessKeyId"), "credentials-refused", on=ANY),
    case("403-skew", refused(403, "RequestTimeTooSkewed"), "clock-skew", on=ANY),
    case("403-expired", refused(403, "ExpiredToken"), "credentials-expired", on=ANY),
    case("404-bucket", refused(404, "NoSuchBucket"), "bucket-missing", on=ANY),
]  # fmt: skip

CONNECTIONS = [
    case("away", None, "connect", "connection-lost"),
    case("reset-request", cut_request(reset), "connection-lost"),
    case("reset-answer", cut_answer(reset), "connection-lost"),
    case("reset-part", cut_request(reset), "connection-lost", on="part"),
    case("reset-part-answer", cut_answer(reset), "connection-lost", on="part"),
    case("reset-complete", cut_answer(reset), "connection-lost", on="complete", hits=1),
    case("end-answer", cut_answer(end), "connection-lost", "bad-answer"),
    case("hang-request", cut_request(hang), "timeout"),
    case("hang-answer", cut_answer(hang), "timeout"),
    case("hang-part", cut_request(hang), "timeout", on="part"),
    case("hang-complete", cut_answer(hang), "timeout", on="complete", hits=1),
    case("hang-all", hang, "timeout", on=ANY),
    case("drip", dripped(0.003), on=ANY, hits=12),
]

LIES = [
    case("wrong-etag", answered_with(etag=WRONG), "checksum-mismatch", hits=1),
    case("wrong-etag-part", answered_with(etag=WRONG), "checksum-mismatch", on="part", hits=1),
    case("wrong-sum", answered_with(x_amz_checksum_sha256=OTHER_SHA256), "checksum-mismatch", hits=1),
    case("not-done", claimed(etag=WRONG), "checksum-mismatch", hits=1),
    case("no-etag", page(200, b"<html>Please sign in</html>"), "bad-answer"),
    case("bit", one_bit_wrong, "checksum-mismatch", hits=1),
    case("200-error", page(200, error_xml("InternalError")), "server-error", on="complete"),
    # The library takes a completion that it can't read for a failure of the server.
    case("200-error-done", done_but_answered(200, error_xml("InternalError")), "server-error", on="complete", hits=1),
    case("garbage-done", done_but_answered(200, b"<a><b>"), "server-error", on="complete", hits=1),
    case("bomb-complete", page(200, BOMB), "server-error", on="complete"),
    case("bomb-put", page(400, BOMB), "rejected", hits=1),
    case("header-put", huge_header(10 * MIB, 1000), "bad-answer", "connection-lost"),
    case("header-complete", huge_header(10 * MIB, 1000), "bad-answer", "connection-lost", on="complete"),
    case("endless-put", endless(b" " * 60_000, 0.001), "bad-answer", "timeout"),
    case("endless-drip-put", endless(b" ", 0.1), "bad-answer", "timeout"),
    case("endless-part", endless(b" ", 0.1), "bad-answer", "timeout", on="part"),
    case("endless-complete", endless(b" " * 60_000, 0.001), "bad-answer", "timeout", on="complete"),
    case("endless-drip-complete", endless(b" ", 0.1), "bad-answer", "timeout", on="complete"),
]  # fmt: skip


AT_THE_SERVER = frozenset(
    {
        *("503", "drip", "reset-answer", "end-answer", "hang-answer", "reset-part-answer"),
        *("reset-complete", "hang-complete", "wrong-etag", "wrong-etag-part", "wrong-sum"),
        *("bit", "200-error-done", "garbage-done"),
    }
)
"""Faults in which the real server does something. The others are the same before any server."""


@dataclass
class Thief:
    """A server that a redirect leads to. Nobody must ever speak to it."""

    server: ScriptedServer

    def redirects(self) -> list[Case]:
        elsewhere = self.server.endpoint_url
        body = error_xml("PermanentRedirect").replace(
            b"</Error>", f"<Endpoint>{elsewhere}</Endpoint></Error>".encode()
        )

        def moved(status: int, code: str, **headers: str) -> Fault:
            def fault(exchange: Exchange) -> None:
                target = elsewhere + exchange.target
                exchange.refuse(status, code, {"Location": target, **headers})

            return fault

        def told_in_the_body(exchange: Exchange) -> None:
            page(301, body)(exchange)

        region = {"x-amz-bucket-region": "eu-west-9"}
        return [
            case("301", moved(301, "PermanentRedirect"), "wrong-region"),
            case("301-region", moved(301, "PermanentRedirect", **region), "wrong-region", on=ANY),
            case("301-body", told_in_the_body, "wrong-region", on=ANY),
            case("307", moved(307, "TemporaryRedirect"), "wrong-region"),
            case("307-part", moved(307, "TemporaryRedirect"), "wrong-region", on="part"),
            case("302-list", moved(302, ""), "wrong-region", on=ANY),
        ]


class Credentials:
    """Credentials that a program gives out, and a store that knows which of them hold."""

    def __init__(self, folder: Path, profile: str, *, expires_in_seconds: float) -> None:
        self._file = folder / f"{profile}.json"
        self.profile = profile
        self._expires_in_seconds = expires_in_seconds
        self._number = 0
        self._revoked = False
        self.renew()

    @property
    def configuration(self) -> str:
        return f"[profile {self.profile}]\ncredential_process = cat {self._file}\n"

    def renew(self) -> None:
        """Give out new ones, which hold."""
        self._number += 1
        self._revoked = False
        self._write(self._expires_in_seconds)

    def revoke(self) -> None:
        """Let the store refuse all that were given out."""
        self._revoked = True

    def go_stale(self) -> None:
        """Give out some whose time is over, as a program does whose own sign-in has ended."""
        self.revoke()
        self._write(-60.0)

    def _write(self, expires_in_seconds: float) -> None:
        until = datetime.now(UTC) + timedelta(seconds=expires_in_seconds)
        told = {
            "Version": 1,
            "AccessKeyId": f"KEY{self._number}",
            "SecretAccessKey": GIVEN_OUT,
            "SessionToken": f"token-{self._number}",
            "Expiration": until.isoformat(),
        }
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(told))
        fresh.replace(self._file)

    def judge(self, exchange: Exchange) -> None:
        """Let pass what is signed with the newest ones, as long as they hold."""
        newest = exchange.header("x-amz-security-token") == f"token-{self._number}"
        if newest and not self._revoked:
            exchange.send(exchange.ask().raw(exchange.method))
        else:
            exchange.refuse(400, "ExpiredToken")


# --- the run ------------------------------------------------------------------------------


class Run:
    """One daemon with a delivery for each case."""

    def __init__(self, station: Station, cases: list[Case], through: dict[str, FaultProxy]) -> None:
        self.station = station
        self.cases = cases
        self.through = through
        self.expected: dict[str, str] = {}
        """SHA-256 by `<delivery>/<path>`, which is also the key."""
        self._chance = random.Random(SEED)
        for each in cases:
            (station.folder / "cards" / each.name).mkdir(parents=True)
            keys: dict[str, object] = {
                "local_directory": str(station.folder / "cards" / each.name),
                "s3_prefix": each.name,
                "project": each.name,
                "endpoint_url": through[each.name].endpoint_url,
                "max_workers": 16,
                "retry_delay_seconds": 0.5,
                "stall_seconds": STALL_SECONDS,
                "multipart_threshold_bytes": 5 * MIB,
            }
            station.delivery(each.name, **(keys | each.keys))

    def drop(self, file: str) -> None:
        """Drop a file of this name into every delivery."""
        for each in self.cases:
            size = LARGE_BYTES if each.large and "before" not in file else SMALL_BYTES
            content = self._chance.randbytes(size)
            drop_files(self.station.folder / "cards" / each.name, {file: content})
            self.expected[f"{each.name}/{file}"] = sha256(content)

    def stored(self) -> dict[str, str]:
        """Give the digest that the ledger vouches for, by delivery and path."""
        return {
            f"{row['delivery']}/{row['path']}": row["digest"]
            for row in self.station.ledger.uploads()
            if row["state"] in ("uploaded", "skipped")
        }

    def wait_until_stored(self, what: str) -> None:
        def missing() -> list[str]:
            stored = self.stored()
            return sorted(name for name in self.expected if name not in stored)

        try:
            self.station.wait_for(lambda: not missing(), what=what, seconds=LONG_SECONDS)
        except AssertionError as error:
            raise AssertionError(
                f"seed {SEED}: {what}: not stored: {missing()}\n{error}"
            ) from error

    def untold(self, cases: list[Case]) -> list[Case]:
        """Give the cases whose trouble the operator was not told yet in the right words."""
        rows = self.station.ledger.rows(
            "SELECT d.name, s.state, s.reason FROM delivery_status s"
            " JOIN deliveries d ON d.id = s.delivery_id"
        )
        published = {row["name"]: row for row in rows}
        failed = self.station.ledger.rows(
            "SELECT d.name, x.error_class, x.charged FROM upload_failures x"
            " JOIN deliveries d ON d.id = x.delivery_id"
        )
        charged = {(row["name"], row["error_class"]) for row in failed if row["charged"]}
        # What happens once opens no breaker, nor does an answer that is lost when the bytes are
        # there, which the next try finds: it is in the file's story, uncharged.
        stored = self.stored()
        noted = {(row["name"], row["error_class"]) for row in failed}
        opened = self.station.daemon.logs("breaker_opened")

        def told(each: Case) -> bool:
            rules = [BY_CLASS[name] for name in each.tells]
            waits = [f for f in self.expected if f.startswith(f"{each.name}/") and f not in stored]
            failures = charged if each.hits is None and waits else noted
            if not rules or any((each.name, rule.error_class) in failures for rule in rules):
                return True
            status = published[each.name]
            if status["state"] == "blocked":
                return any(rule.meaning in (status["reason"] or "") for rule in rules)
            # A fault that is done once may be over before anybody looks.
            return each.hits is not None and any(
                line["error_class"] in each.tells
                and self.through[each.name].endpoint_url in line["problem"]
                for line in opened
            )

        return [each for each in cases if not told(each)]

    def wait_until_told(self) -> None:
        left = list(self.cases)

        def all_told() -> bool:
            left[:] = self.untold(left)
            return not left

        try:
            self.station.wait_for(all_told, what="trouble is told", seconds=LONG_SECONDS)
        except AssertionError as error:
            silent = {
                each.name: (sorted(each.tells), self.station.published(each.name)["reason"])
                for each in left
            }
            message = f"seed {SEED}: told otherwise or not at all: {silent}\n{error}"
            raise AssertionError(message) from error

    def assert_nothing_false(self) -> dict[str, str]:
        """Assert that everything the ledger says is stored is there, byte for byte."""
        rows = self.station.ledger.uploads()
        objects = self.station.bucket.digests()
        for row in rows:
            name = f"{row['delivery']}/{row['path']}"
            if row["state"] in ("uploaded", "skipped"):
                assert row["digest"] == self.expected[name], name
                assert objects.get(row["object_key"]) == row["digest"], f"{name} is not there"
        return objects

    def assert_all_is_well(self) -> None:
        objects = self.assert_nothing_false()
        rows = self.station.ledger.uploads()
        assert len(rows) == len(self.expected), "a file is on the books twice"
        kept_beside = [row["object_key"] for row in rows if row["conflict"]]
        assert all(key.startswith("bit/") for key in kept_beside), kept_beside
        extra = objects.keys() - self.expected.keys()
        assert extra == set(kept_beside), "something is stored that nobody asked for"
        wrong = {key for key, digest in self.expected.items() if objects.get(key) != digest}
        assert {key.partition("/")[0] for key in wrong} <= {"bit"}, f"seed {SEED}: {wrong}"
        assert self.station.ledger.miscounted() == []
        assert self.station.ledger.sessions_miscounted() == []
        for name, through in self.through.items():
            puts = [path for path in through.stored("put") if "~" not in path]
            assert len(puts) == len(set(puts)), f"{name}: bytes were taken twice: {puts}"

    def charged(self) -> set[str]:
        """Give the deliveries that had a file charged with an attempt."""
        return {
            row["name"]
            for row in self.station.ledger.rows(
                "SELECT DISTINCT d.name FROM upload_failures x JOIN deliveries d"
                " ON d.id = x.delivery_id WHERE x.charged"
            )
        }


def start(station: Station, cases: list[Case], through: dict[str, FaultProxy]) -> Run:
    """Start a daemon that has stored a file in each delivery."""
    run = Run(station, cases, through)
    run.drop("s1/before.wav")
    station.start()
    run.wait_until_stored("a healthy run")
    return run


def do_harm(cases: list[Case], through: dict[str, FaultProxy]) -> None:
    for each in cases:
        if each.fault is None:
            through[each.name].be_away()
        else:
            through[each.name].harm = Harm(fault=each.fault, on=each.on, hits=each.hits)


def assert_healed(run: Run) -> None:
    """Wait until nothing is left to do, and assert that all is as if nothing had been."""
    run.wait_until_stored("all is healed")
    run.station.wait_for(
        lambda: all(s["state"] == "ended" for s in run.station.ledger.sessions()),
        what="sessions ended",
    )
    for each in run.cases:
        told = run.station.wait_for_published("watching", name=each.name)
        assert told["reason"] is None
    run.assert_all_is_well()
    assert run.station.daemon.logs("bug") == []
    assert run.station.daemon.stop() == 0
    assert run.station.server.secret_key not in run.station.daemon.output()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("server_kind", ["moto", "rclone"])
def test_every_fault_of_a_store_is_told_and_healed(make_station, request, server_kind):
    server = request.getfixturevalue(server_kind)
    station = make_station(server)
    station.configure()
    with ScriptedServer(lambda _asked: Reply(status=200)) as server_of_a_thief:
        thief = Thief(server_of_a_thief)
        cases = [*REFUSALS, *CONNECTIONS, *LIES, *thief.redirects()]
        if server_kind == "moto":
            cases = [each for each in cases if each.name in AT_THE_SERVER]
        with proxies(server.endpoint_url, [each.name for each in cases], SEED) as through:
            run = start(station, cases, through)
            do_harm(cases, through)
            run.drop("s2/during.wav")
            run.drop("s2/during too.wav")
            run.wait_until_told()
            assert station.daemon.running
            run.assert_nothing_false()
            for each in through.values():
                each.heal()
            assert_healed(run)
    of_files = {c.name for c in cases if any(BY_CLASS[t].scope.value == "file" for t in c.tells)}
    assert run.charged() == of_files, "trouble of others was charged to files"
    stolen: list[Asked] = server_of_a_thief.asked
    assert stolen == [], "a redirect was followed to another host"


def test_credentials_that_expire_in_the_middle_are_read_anew(make_station, moto):
    station = make_station(moto)
    station.configure()
    lasting = Credentials(station.folder, "lasting", expires_in_seconds=86_400)
    # The library asks again and again for such that end soon.
    ending = Credentials(station.folder, "ending", expires_in_seconds=300)
    (station.home / ".aws").mkdir()
    text = lasting.configuration + ending.configuration
    (station.home / ".aws" / "config").write_text(text)
    cases = [
        case(
            each.profile, each.judge, "credentials-expired", on=ANY,
            keys={"aws_profile": each.profile},
        )
        for each in (lasting, ending)
    ]  # fmt: skip
    with proxies(moto.endpoint_url, ["lasting", "ending"], SEED) as through:
        do_harm(cases, through)
        run = start(station, cases, through)
        lasting.revoke()
        ending.go_stale()
        run.drop("s2/during.wav")
        run.wait_until_told()
        run.assert_nothing_false()
        lasting.renew()
        ending.renew()
        assert_healed(run)
    assert run.charged() == set()
    assert GIVEN_OUT not in station.daemon.output()
