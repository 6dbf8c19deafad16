"""What befalls the daemons, their database, their way to the store, and what people do meanwhile.

Each family of troubles has a thread and a stream of chance of its own, so that they mix; within a
family one thing happens at a time.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence

import psycopg2
from soak_disk import SmallDisk
from soak_proxy import BREAKS, KINDS, LIES, REFUSALS, FaultProxy, Weather
from soak_stage import Daemon, Postgres

Deed = Callable[[], None]

QUIET_WEATHER = Weather(share=0.01)
STORMS: Sequence[tuple[str, Weather]] = (
    ("errors", Weather(share=0.5, kinds=("error-500", "error-503", "slow-down", "too-many"))),
    ("refusals", Weather(share=0.4, kinds=tuple(REFUSALS))),
    ("breaks", Weather(share=0.4, kinds=BREAKS)),
    ("lies", Weather(share=0.3, kinds=LIES)),
    ("all", Weather(share=0.3, kinds=KINDS)),
    ("down", Weather(share=1.0, kinds=("error-503",))),
    ("signed-out", Weather(share=1.0, kinds=("expired",))),
    ("black-hole", Weather(share=1.0, kinds=("black-hole",))),
)
QUESTIONS = (
    ("status", "--json"),
    ("files", "--state", "failed", "--json"),
    ("sessions", "--json"),
    ("deliveries",),
    ("why", "audio-000001/20250909_000002.WAV"),
)


class Troubles:
    """All families. `run` returns when `stop` is set, and everything has been mended."""

    def __init__(
        self,
        *,
        seed: str,
        daemons: Sequence[Daemon],
        postgres: Postgres,
        disk: SmallDisk | None,
        proxy: FaultProxy,
        deliveries: Sequence[str],
        rest_seconds: float,
    ) -> None:
        """`disk` is what the database lives on, where it can be made full."""
        self._seed = seed
        self._daemons = list(daemons)
        self._postgres = postgres
        self._disk = disk
        self._proxy = proxy
        self._deliveries = list(deliveries)
        self._rest_seconds = rest_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.faults: Counter[str] = Counter()
        self.problem: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        """Make trouble until `stop` is set. Raises what went wrong with the soak itself."""
        self._stop = stop
        families = [self._daemon_troubles, self._databases, self._stores, self._people]
        threads = [threading.Thread(target=self._guarded, args=(each,)) for each in families]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.problem is not None:
            raise self.problem

    def _guarded(self, family: Deed) -> None:
        try:
            family()
        except BaseException as problem:  # noqa: BLE001 — raised again by `run`
            self.problem = problem

    def _count(self, kind: str) -> None:
        with self._lock:
            self.faults[kind] += 1

    def _again_and_again(
        self, name: str, rest: float, deeds: Sequence[tuple[int, Callable[[random.Random], None]]]
    ) -> None:
        dice = random.Random(f"{self._seed}/{name}")
        while not self._stop.wait(dice.uniform(0.3, 1.7) * rest * self._rest_seconds):
            (deed,) = dice.choices([each for _, each in deeds], [weight for weight, _ in deeds])
            deed(dice)

    # --- the daemon -----------------------------------------------------------------------

    def _daemon_troubles(self) -> None:
        self._again_and_again(
            "daemon", 8.0, [(5, self._kill9), (3, self._restart), (2, self._freeze)]
        )

    def _kill9(self, dice: random.Random) -> None:
        daemon = dice.choice(self._daemons)
        daemon.kill9()
        self._count("daemon-killed")
        self._stop.wait(dice.uniform(0, 2))
        daemon.start()
        while dice.random() < 0.3:  # and again, while it starts
            self._stop.wait(dice.uniform(0, 1.5))
            daemon.kill9()
            self._count("daemon-killed")
            daemon.start()

    def _restart(self, dice: random.Random) -> None:
        daemon = dice.choice(self._daemons)
        daemon.stop()
        self._count("daemon-stopped")
        self._stop.wait(dice.uniform(0, 2))
        daemon.start()

    def _freeze(self, dice: random.Random) -> None:
        dice.choice(self._daemons).frozen(dice.uniform(0.5, 5))
        self._count("daemon-frozen")

    # --- the database ---------------------------------------------------------------------

    def _databases(self) -> None:
        deeds = [
            (3, self._database_stopped),
            (3, self._database_killed),
            (4, self._connections_cut),
            (2, self._read_only),
            (2, self._locked),
        ]
        if self._disk is not None:
            deeds.append((3, self._disk_full))
        self._again_and_again("database", 10.0, deeds)

    def _database_stopped(self, dice: random.Random) -> None:
        self._postgres.stop()
        self._count("database-stopped")
        self._stop.wait(dice.uniform(0, 5))
        self._postgres.start()

    def _database_killed(self, dice: random.Random) -> None:
        self._postgres.kill()
        self._count("database-killed")
        self._stop.wait(dice.uniform(0, 2))
        self._postgres.start()

    def _connections_cut(self, dice: random.Random) -> None:
        for _ in range(dice.randrange(1, 8)):
            self._postgres.cut_connections()
            self._count("connections-cut")
            self._stop.wait(dice.uniform(0, 0.5))

    def _read_only(self, dice: random.Random) -> None:
        self._postgres.read_only(on=True)
        self._count("database-read-only")
        self._stop.wait(dice.uniform(0.5, 4))
        self._postgres.read_only(on=False)

    def _locked(self, dice: random.Random) -> None:
        try:
            self._postgres.locked(dice.uniform(0.5, 4))
        except psycopg2.errors.UndefinedTable:
            return  # the daemon has not made its tables yet
        self._count("database-locked")

    def _disk_full(self, dice: random.Random) -> None:
        """Leave the database no room; it may end by itself then, as on any full disk."""
        assert self._disk is not None
        if self._disk.fill():
            self._count("disk-full")
        self._stop.wait(dice.uniform(0.5, 6))
        self._disk.free()
        self._postgres.recover()

    # --- the store ------------------------------------------------------------------------

    def _stores(self) -> None:
        self._proxy.weather = QUIET_WEATHER
        self._again_and_again("store", 6.0, [(4, self._storm), (1, self._refused)])

    def _storm(self, dice: random.Random) -> None:
        _, self._proxy.weather = dice.choice(STORMS)
        self._stop.wait(dice.uniform(1, 8))
        self._proxy.weather = QUIET_WEATHER

    def _refused(self, dice: random.Random) -> None:
        self._proxy.cut()
        self._count("store-refused")
        self._stop.wait(dice.uniform(0.5, 6))
        self._proxy.mend()

    # --- people ---------------------------------------------------------------------------

    def _people(self) -> None:
        self._again_and_again(
            "people",
            9.0,
            [(3, self._pause), (3, self._bandwidth), (2, self._retry), (3, self._look)],
        )

    def _pause(self, dice: random.Random) -> None:
        whom = dice.choice([[], [dice.choice(self._deliveries)]])
        daemon = dice.choice(self._daemons)
        daemon.verb("pause", *whom, "--reason", "the soak wants it")
        self._count("paused")
        self._stop.wait(dice.uniform(0.5, 5))
        daemon.verb("resume", *whom)

    def _bandwidth(self, dice: random.Random) -> None:
        daemon = dice.choice(self._daemons)
        daemon.verb("bandwidth", dice.choice(["64 KiB/s", "1 MiB/s", "20 MiB/s"]))
        self._count("bandwidth-changed")
        self._stop.wait(dice.uniform(0.5, 5))
        daemon.verb("bandwidth", "config")

    def _retry(self, dice: random.Random) -> None:
        whose = dice.choice([["--all-failed"], ["--delivery", dice.choice(self._deliveries)]])
        dice.choice(self._daemons).verb("retry", *whose, *dice.choice([[], ["--now"]]))
        self._count("retried-by-hand")

    def _look(self, dice: random.Random) -> None:
        dice.choice(self._daemons).verb(*dice.choice(QUESTIONS))
