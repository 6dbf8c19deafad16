"""`make soak`: everything breaks for some minutes, by a seed; then nothing is lost.

Two real daemons that share all deliveries, a real PostgreSQL and a real S3 server; cards are dropped
while all of them are killed, cut off and lied to. In the end all trouble stops, and the oracle looks
at what is there. The last line is JSON: {"faults": {kind: n}, "lost": 0, "altered": 0,
"doubled": 0, "stuck": 0}. The exit code is 1 if any of the four is not 0.

MINUTES, SEED, STORE and SABOTAGE come from the environment. SABOTAGE=lose|alter|double|stick damages
something behind the daemon's back: the oracle must see it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

import psycopg2
from s3_servers import MotoServer, RcloneServer
from soak_disk import SmallDisk
from soak_oracle import DELIVERIES, Finding, counted, gather, judge, ledger_says
from soak_proxy import FaultProxy
from soak_sabotage import KINDS as SABOTAGES
from soak_sabotage import sabotage
from soak_stage import Daemon, Postgres, as_nobody, give_away, say, see_objects
from soak_troubles import Troubles
from soak_writers import Record, Writer, leases_work

BUCKET = "soak-field-data"
STATIONS = ("hut", "barn")
"""Each has a daemon of its own, and both see the same folders."""
FEW_DESCRIPTORS = {"barn": 96}
"""A station that may open hardly any files: it is told so, and works on."""
STORES = {"moto": MotoServer, "rclone": RcloneServer}
PREFIXES = {"audio": "C1", "camera": "C1/camera-traps", "river": "rivers/C2"}
"""Three deliveries, two of them in nested places of the bucket."""
HEAL_SECONDS = 900.0
"""How long everything may take to be well again, after all trouble has ended. Breakers wait for up
to five minutes before they look again, and the machine may be busy."""
RETRY_SECONDS = 10.0
"""How often failed files are tried again by hand while everything heals."""
WAITING = """
    SELECT d.name, f.path_bytes, f.state::text AS state
    FROM file_uploads f JOIN deliveries d ON d.id = f.delivery_id
    WHERE f.state = 'pending' OR (f.state = 'failed' AND f.is_current)
"""
STARTED_SECONDS = 120.0
CLEAR_SECONDS = 30.0
"""How long the soak's folder may take to be empty."""
MOST_FINDINGS_SHOWN = 40
BROKEN_OFF = 130
"""The exit code of a soak that somebody ended: what a shell makes of SIGINT."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the environment asks for."""

    minutes: float
    seed: str
    sabotage: str
    keep: bool
    store: str

    @staticmethod
    def read() -> Wanted:
        """Read the environment. Raises SystemExit with what is wrong."""
        sabotage_kind = os.environ.get("SABOTAGE", "")
        if sabotage_kind not in ("", *SABOTAGES):
            raise SystemExit(f"SABOTAGE is one of {', '.join(SABOTAGES)}, not {sabotage_kind!r}")
        store = os.environ.get("STORE") or "moto"
        if store not in STORES:
            raise SystemExit(f"STORE is one of {', '.join(STORES)}, not {store!r}")
        try:
            minutes = float(os.environ.get("MINUTES") or "5")
        except ValueError:
            raise SystemExit("MINUTES is a number, such as 30 or 0.5") from None
        return Wanted(
            minutes=minutes,
            seed=os.environ.get("SEED") or str(random.SystemRandom().randrange(10**9)),
            sabotage=sabotage_kind,
            keep=bool(os.environ.get("KEEP")),
            store=store,
        )


class Soak:
    """One soak in a folder of its own."""

    def __init__(self, folder: Path, wanted: Wanted, stack: ExitStack) -> None:
        self._wanted = wanted
        self._folder = folder
        self._server = STORES[wanted.store](folder / "store")
        stack.callback(self._server.kill)
        self._server.start()
        self._client = self._server.client()
        self._client.create_bucket(Bucket=BUCKET)
        self._proxy = stack.enter_context(FaultProxy(self._server.endpoint_url, wanted.seed))
        self._disk = SmallDisk.mount(folder / "disk")
        if self._disk is None:
            say("nothing can be mounted here: no disk is full, and no folder mounted over")
        else:
            stack.callback(self._disk.unmount)
        self._postgres = Postgres(folder / "disk" / "postgres", folder / "postgres.log")
        stack.callback(self._postgres.kill)
        self._postgres.start()
        # One is enough to see whether the oracle sees, and several such soaks run at once.
        stations = STATIONS[:1] if wanted.sabotage else STATIONS
        self._daemons = [
            Daemon(
                folder / name,
                name,
                self._server,
                self._postgres.url,
                self._proxy.endpoint_url,
                most_descriptors=FEW_DESCRIPTORS.get(name),
            )
            for name in stations
        ]
        for daemon in self._daemons:
            stack.callback(daemon.close)
        self._record = Record()
        self._seen: dict[str, str] = {}
        self._roots: dict[str, Path] = {}
        self._writers = [self._writer(name) for name in PREFIXES]
        self._faults: Counter[str] = Counter()

    def _writer(self, name: str) -> Writer:
        root, aside = self._folder / "drop" / name, self._folder / "aside" / name
        for each in (root, aside):
            each.mkdir(parents=True)
            give_away(each)
        self._roots[name] = root
        dice = random.Random(f"{self._wanted.seed}/delivery/{name}")
        for daemon in self._daemons:
            workers = dice.choice([2, 4, 8])
            shared = len(self._daemons) > 1
            daemon.deliver(name, root, BUCKET, PREFIXES[name], workers, shared=shared)
        return Writer(
            name=name,
            root=root,
            aside=aside,
            prefix=PREFIXES[name],
            seed=self._wanted.seed,
            record=self._record,
            owner=self._roots[name].stat().st_uid if as_nobody() else None,
            put_foreign=self._put_foreign,
            may_rewrite=leases_work(aside),
            may_mount=self._disk is not None,
        )

    def _put_foreign(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=BUCKET, Key=key, Body=content)

    # --- the story ------------------------------------------------------------------------

    def run(self) -> list[Finding]:
        """Play the whole story and give what is not as it must be."""
        for daemon in self._daemons:
            daemon.start()
        self._wait_for_start()
        self._storm()
        self._heal()
        if self._wanted.sabotage:
            dice = random.Random(f"{self._wanted.seed}/sabotage")
            say(sabotage(self._wanted.sabotage, dice, self._client, BUCKET, self._postgres.dsn))
            time.sleep(2)  # the daemon may notice what it can
        for daemon in self._daemons:
            daemon.stop()
        outcomes = sum((daemon.outcomes for daemon in self._daemons), Counter[int]())
        evidence = gather(
            roots={name: str(root) for name, root in self._roots.items()},
            dsn=self._postgres.dsn,
            client=self._client,
            bucket=BUCKET,
            seen=self._seen,
            trouble=self._trouble(),
        )
        say(
            f"{len(evidence.disk):,} files on the disk, {len(evidence.objects):,} objects,"
            f" {len(evidence.rows):,} rows, {len(evidence.sessions):,} sessions;"
            f" the verbs ended with {dict(outcomes)}"
        )
        return judge(self._record.truth(PREFIXES, self._damaged()), evidence)

    def keep(self) -> None:
        """Put the ledger where it outlasts its disk, for a look."""
        if self._disk is not None:
            self._postgres.kill()
            shutil.copytree(self._disk.folder, self._folder / "ledger-kept", symlinks=True,
                            ignore=shutil.ignore_patterns(".s.PGSQL*"))  # fmt: skip

    def faults(self) -> dict[str, int]:
        """Count what befell everybody, by kind."""
        found = self._faults + self._proxy.faults + self._record.done
        return dict(sorted(found.items()))

    def _look(self) -> None:
        for daemon in self._daemons:
            daemon.look()

    def _trouble(self) -> list[str]:
        return [words for daemon in self._daemons for words in daemon.trouble]

    def _wait_for_start(self) -> None:
        give_up = time.monotonic() + STARTED_SECONDS
        while time.monotonic() < give_up:
            try:
                if len(ledger_says(self._postgres.dsn, DELIVERIES)) == len(PREFIXES):
                    return
            except psycopg2.Error:
                pass  # it has not made its tables yet
            self._look()
            time.sleep(0.2)
        raise SystemExit(f"the daemon did not start: {self._trouble()}")

    def _storm(self) -> None:
        calm = threading.Event()
        end_of_seeing = threading.Event()
        troubles = Troubles(
            seed=self._wanted.seed,
            daemons=self._daemons,
            postgres=self._postgres,
            disk=self._disk,
            proxy=self._proxy,
            deliveries=list(PREFIXES),
            rest_seconds=min(1.0, self._wanted.minutes),
        )
        seeing = threading.Thread(
            target=see_objects, args=(self._client, BUCKET, self._seen, end_of_seeing)
        )
        threads = [threading.Thread(target=each.run, args=(calm,)) for each in self._writers]
        trouble = threading.Thread(target=troubles.run, args=(calm,))
        for thread in [*threads, trouble, seeing]:
            thread.start()
        until = time.monotonic() + self._wanted.minutes * 60
        try:
            while time.monotonic() < until:
                time.sleep(0.5)
                self._look()
                if troubles.problem or any(writer.problem for writer in self._writers):
                    break
        finally:  # also for whoever breaks it off: nobody works on in what is taken away
            calm.set()
            for thread in [*threads, trouble]:
                thread.join()
            end_of_seeing.set()
            seeing.join()
        self._faults = troubles.faults
        for problem in [troubles.problem, *(writer.problem for writer in self._writers)]:
            if problem is not None:
                raise problem

    # --- healing --------------------------------------------------------------------------

    def _heal(self) -> None:
        """End all trouble, and wait until nothing waits any more, or for long enough."""
        say(f"all trouble ends after {self._wanted.minutes:g} minutes; now everything may heal")
        self._proxy.clear()
        self._resume()
        for daemon in self._daemons:
            daemon.verb("bandwidth", "config")
        began = time.monotonic()
        (now,) = ledger_says(self._postgres.dsn, "SELECT now() AS now")
        retried = time.monotonic()
        while time.monotonic() - began < HEAL_SECONDS:
            self._look()
            if self._is_well(now["now"]):
                say(f"well again after {time.monotonic() - began:.0f} s")
                return
            if time.monotonic() - retried > RETRY_SECONDS:
                self._retry_by_hand()
                retried = time.monotonic()
            time.sleep(1)
        say(f"not well again after {HEAL_SECONDS:.0f} s")

    def _is_well(self, since: Any) -> bool:
        """Tell whether nothing waits, as one look at the ledger shows it."""
        rows = ledger_says(self._postgres.dsn, WAITING)
        hopeless = self._hopeless()
        if any(
            row["state"] == "pending" or (row["name"], bytes(row["path_bytes"])) not in hopeless
            for row in rows
        ):
            return False
        return all(
            row["state"] == "watching"
            and row["reason"] is None
            and row["settling"] == 0
            and row["session"] is None
            and row["last_sweep_complete"]
            and row["last_sweep_started_at"] > since
            for row in ledger_says(self._postgres.dsn, DELIVERIES)
        )

    def _hopeless(self) -> set[tuple[str, bytes]]:
        truth = self._record.truth(PREFIXES, self._damaged())
        return {*truth.hopeless, *truth.spoiled}

    def _damaged(self) -> set[str]:
        return {path.removeprefix(f"/{BUCKET}/") for path in self._proxy.damaged}

    def _failed(self) -> list[tuple[str, bytes]]:
        """Name the files that are failed and should not be."""
        rows = ledger_says(
            self._postgres.dsn,
            "SELECT d.name, f.path_bytes FROM file_uploads f JOIN deliveries d"
            " ON d.id = f.delivery_id WHERE f.is_current AND f.state = 'failed'",
        )
        hopeless = self._hopeless()
        found = [(row["name"], bytes(row["path_bytes"])) for row in rows]
        return [each for each in found if each not in hopeless]

    def _retry_by_hand(self) -> None:
        """Do what people do about files that failed, and about deliveries that wait for them."""
        if self._failed():
            self._daemons[0].verb("retry", "--all-failed", "--now")
            self._faults["retried-by-hand"] += 1
        self._resume()

    def _resume(self) -> None:
        for daemon in self._daemons:
            for whom in ([], *([name] for name in PREFIXES)):
                daemon.verb("resume", *whom)


def _broken_off(_number: int, _frame: object) -> None:
    """End in order; whoever is impatient does not cut the tidying short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _clear(folder: Path) -> None:
    """Remove the folder. PostgreSQL's processes outlive their killed first by a moment, and write."""
    give_up = time.monotonic() + CLEAR_SECONDS
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < give_up:
        time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run one soak and tell what came of it."""
    wanted = Wanted.read()
    say(f"a soak of {wanted.minutes:g} minutes with SEED={wanted.seed}")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    folder.chmod(0o755)
    findings: list[Finding] = []
    signal.signal(signal.SIGINT, _broken_off)  # a shell's background job ignores it
    signal.signal(signal.SIGTERM, _broken_off)
    try:
        with ExitStack() as stack:
            soak = Soak(folder, wanted, stack)
            findings = soak.run()
            faults = soak.faults()
            if wanted.keep or (findings and not wanted.sabotage):
                soak.keep()
    except KeyboardInterrupt:
        say("broken off: nothing was shown")
        return BROKEN_OFF
    finally:
        if wanted.keep or (findings and not wanted.sabotage):
            say(f"kept for a look: {folder}")
        else:
            _clear(folder)
    for finding in findings[:MOST_FINDINGS_SHOWN]:
        say(f"{finding.verdict}: {finding.words}")
    if len(findings) > MOST_FINDINGS_SHOWN:
        say(f"… and {len(findings) - MOST_FINDINGS_SHOWN} more")
    if findings:
        say(
            f"again with: make soak MINUTES={wanted.minutes:g} SEED={wanted.seed} STORE={wanted.store}"
        )
    say(json.dumps({"faults": faults, **counted(findings)}))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
