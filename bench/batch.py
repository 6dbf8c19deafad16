"""The rows about runs by hand: `sensordrop upload` beside the daemon, on the same files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from costs import Cost
from figures import Better, Goal, Row, make_row, per_thousand
from plan import KIB, MIB, PEAK, Bench, about_store
from station import (
    FINISH_SECONDS,
    PROGRAM,
    START_SECONDS,
    Station,
    StationError,
    copied_station,
    upload_all,
)
from trees import Tree
from uploads import WORKERS, Load, interleaved, load

BEGUN = "run_stored_before"
"""What a run tells when its checks are done and its services begin: the daemon's clock starts
there too."""


@dataclass(kw_only=True)
class Hand(Station):
    """Somebody who uploads a folder by hand, with the ledger that is embedded for them."""

    @property
    def state(self) -> Path:
        """Where the run keeps its books."""
        return self.folder / "data" / "sensordrop"

    def start(self) -> None:
        """Start the run and wait until it begins to work."""
        file = self.folder / "bench.yaml"
        file.write_text(yaml.safe_dump(self.delivery()), encoding="utf-8")
        self._log = self.folder / "upload.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(PROGRAM.with_name("sensordrop")), "upload", "--config", str(file), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**self._environment(), "XDG_DATA_HOME": str(self.folder / "data")},
                cwd=self.folder,
                start_new_session=True,
            )
        self.wait_for(lambda: self.told(BEGUN), "the start", seconds=START_SECONDS)

    def finish(self) -> None:
        """Wait until the run has ended well by itself. Raises StationError."""
        assert self._process is not None
        try:
            code = self._process.wait(FINISH_SECONDS)
        except subprocess.TimeoutExpired:
            raise StationError(f"the run did not end\n{self.story()}") from None
        if code != 0:
            raise StationError(f"the run ended with {code}\n{self.story()}")


@contextmanager
def _hand(bench: Bench, what: Load) -> Iterator[Hand]:
    hand = Hand(
        folder=bench.work / "stations" / "hand", drop=what.folder, store=what.store,
        keys={"max_workers": what.workers},
    )  # fmt: skip
    with copied_station(bench.work, hand):
        yield hand


def _by_hand(bench: Bench, what: Load) -> Cost:
    """Send it by hand; what comes before the first look at the folder is not counted."""
    with _hand(bench, what) as hand:
        return upload_all(hand, what.spec.files, end=hand.finish).cost


def batch(bench: Bench) -> list[Row]:
    """Measure a run by hand and the daemon on the same files: both have the same engine."""
    assert bench.sink is not None
    spec = Tree(files=bench.sizes.small_files, size_bytes=64 * KIB, folders=100)
    what = load(bench, spec, bench.sink.near, WORKERS)
    runs = {"ours": lambda: _by_hand(bench, what), "sensordropd": what.ours}
    costs = interleaved(what, runs, bench.sizes.rounds)
    hand, daemon = costs["ours"], costs["sensordropd"]
    title = f"{spec.files:,} × 64 KiB by hand, beside the daemon"

    def cpu(found: Sequence[Cost]) -> list[float]:
        return [per_thousand(cost.cpu_seconds, spec.files) for cost in found]

    def speed(found: Sequence[Cost]) -> list[float]:
        return [spec.files / cost.wall_seconds for cost in found]

    rows = [
        make_row(
            measure=f"{title}: speed", group="batch", unit="files/s", ours=speed(hand),
            peer=speed(daemon), peer_name="sensordropd",
            goal=Goal(better=Better.MORE, must=0.9, reach=1.0),
            note="each from the beginning of its services to the last committed row",
        ),
        make_row(
            measure=f"{title}: CPU", group="batch", unit="CPU s / 1,000 files", ours=cpu(hand),
            peer=cpu(daemon), peer_name="sensordropd",
            goal=Goal(better=Better.LESS, must=1.1, reach=1.0),
        ),
        make_row(
            measure=f"{title}: peak memory of the run", group="batch", unit="MiB",
            ours=[cost.peak_bytes / MIB for cost in hand],
            peer=[cost.peak_bytes / MIB for cost in daemon], peer_name="sensordropd", goal=PEAK,
        ),
    ]  # fmt: skip
    return about_store(rows, what.store, max_workers=WORKERS)
