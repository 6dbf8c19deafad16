"""The rows about uploads: whole product, engine alone, and the peers on the same files."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import peers
from costs import Cost, measure
from figures import Better, Goal, Row, make_row, per_thousand
from plan import KIB, MIB, PEAK, Bench, about_store
from station import PREFIX, StationError, new_station, upload_all
from stores import BUCKET, Store, running_rclone
from trees import Tree, tree, wait_until_settled

WORKERS = 16
FAR_WORKERS = 128
ENGINE = Path(__file__).parent / "engine_alone.py"
WHOLE_NOTE = (
    "ours is the whole product, daemon and PostgreSQL together, from the beginning of the sweep to "
    "the last committed row"
)

Run = Callable[[], Cost]


@dataclass(frozen=True, kw_only=True)
class Load:
    """A folder on its way to a store, with so many at a time."""

    bench: Bench
    folder: Path
    spec: Tree
    store: Store
    workers: int

    def ours(self) -> Cost:
        """Send it with the whole product; what its start cost is told beside."""
        with new_station(
            self.bench.work, "upload", self.folder, self.store, max_workers=self.workers
        ) as station:
            whole = upload_all(station, self.spec.files)
        print(
            f"      start of daemon and PostgreSQL: {whole.start_cpu_seconds:.2f} CPU s (not counted)"
        )
        return whole.cost

    def engine(self) -> Cost:
        """Send it with our engine alone."""
        settings = {
            "local_directory": str(self.folder),
            "bucket_name": BUCKET,
            "s3_prefix": PREFIX,
            "endpoint_url": self.store.endpoint_url,
            "max_workers": self.workers,
        }
        return self._measure([sys.executable, str(ENGINE), json.dumps(settings)])

    def s5cmd(self) -> Cost:
        """Send it with s5cmd."""
        assert self.bench.peers.s5cmd is not None
        return self._measure(
            peers.s5cmd(
                self.bench.peers.s5cmd, self.folder, self.store, prefix=PREFIX, workers=self.workers
            )
        )

    def rclone(self) -> Cost:
        """Send it with rclone."""
        assert self.bench.peers.rclone is not None
        return self._measure(
            peers.rclone(
                self.bench.peers.rclone, self.folder, self.store, prefix=PREFIX,
                workers=self.workers,
            )
        )  # fmt: skip

    def aws(self) -> Cost:
        """Send it with aws-cli."""
        assert self.bench.peers.aws is not None
        return self._measure(
            peers.aws(self.bench.peers.aws, self.folder, self.store, prefix=PREFIX)
        )

    def _measure(self, argv: list[str]) -> Cost:
        return measure(
            argv,
            environment=self.bench.environment(self.store),
            log=self.bench.work / "run.log",
            cwd=self.bench.work,
        )

    def runs(self, *names: str) -> dict[str, Run]:
        """Give those of the runs whose programs are there."""
        known = {"ours": self.ours, "engine": self.engine, "s5cmd": self.s5cmd,
                 "rclone": self.rclone, "aws-cli": self.aws}  # fmt: skip
        there = {"s5cmd": self.bench.peers.s5cmd, "rclone": self.bench.peers.rclone,
                 "aws-cli": self.bench.peers.aws}  # fmt: skip
        return {name: known[name] for name in names if there.get(name, True) is not None}


def load(bench: Bench, spec: Tree, store: Store, workers: int) -> Load:
    """Have the folder ready, its files settled and in the page cache."""
    folder = tree(bench.work, spec)
    wait_until_settled(folder)
    return Load(bench=bench, folder=folder, spec=spec, store=store, workers=workers)


def interleaved(what: Load, runs: dict[str, Run], rounds: int) -> dict[str, list[Cost]]:
    """Run each after the other, all of it so many times: what disturbs one disturbs all."""
    costs: dict[str, list[Cost]] = defaultdict(list)
    sink = what.bench.sink
    for number in range(1, rounds + 1):
        for name, run in runs.items():
            on_sink = sink is not None and what.store in (sink.near, sink.far)
            if on_sink:
                assert sink is not None
                sink.forget()
            cost = run()
            if on_sink:
                assert sink is not None
                if (found := sink.objects()) != what.spec.files:
                    raise StationError(f"{name} stored {found} of {what.spec.files} files")
            costs[name].append(cost)
            print(
                f"    round {number}, {name}: {cost.wall_seconds:.2f} s,"
                f" {what.spec.files / cost.wall_seconds:,.0f} files/s,"
                f" {per_thousand(cost.cpu_seconds, what.spec.files):.3f} CPU s per 1,000,"
                f" peak {cost.peak_bytes / MIB:.0f} MiB",
                flush=True,
            )
    return costs


def _cpu(costs: Sequence[Cost], files: int) -> list[float]:
    return [per_thousand(cost.cpu_seconds, files) for cost in costs]


def _speed(costs: Sequence[Cost], files: int) -> list[float]:
    return [files / cost.wall_seconds for cost in costs]


def _peak(costs: Sequence[Cost]) -> list[float]:
    return [cost.peak_bytes / MIB for cost in costs]


def _peak_row(group: str, title: str, costs: dict[str, list[Cost]]) -> Row:
    return make_row(
        measure=f"{title}: peak memory of the daemon", group=group, unit="MiB",
        ours=_peak(costs["ours"]), peer=_peak(costs.get("s5cmd", [])), peer_name="s5cmd", goal=PEAK,
    )  # fmt: skip


def small(bench: Bench) -> list[Row]:
    """Measure many small files at the near sink."""
    assert bench.sink is not None
    spec = Tree(files=bench.sizes.small_files, size_bytes=64 * KIB, folders=100)
    what = load(bench, spec, bench.sink.near, WORKERS)
    costs = interleaved(what, what.runs("ours", "s5cmd", "engine", "rclone"), bench.sizes.rounds)
    title = f"{spec.files:,} × 64 KiB"
    s5cmd = costs.get("s5cmd", [])
    rows = [
        make_row(
            measure=f"{title}, whole product: CPU", group="small", unit="CPU s / 1,000 files",
            ours=_cpu(costs["ours"], spec.files), peer=_cpu(s5cmd, spec.files), peer_name="s5cmd",
            goal=Goal(better=Better.LESS, must=0.6, reach=0.35), note=WHOLE_NOTE,
        ),
        make_row(
            measure=f"{title}, whole product: speed", group="small", unit="files/s",
            ours=_speed(costs["ours"], spec.files), peer=_speed(s5cmd, spec.files),
            peer_name="s5cmd", goal=Goal(better=Better.MORE, must=2, reach=4),
        ),
        make_row(
            measure=f"{title}, engine alone: CPU", group="small", unit="CPU s / 1,000 files",
            ours=_cpu(costs["engine"], spec.files), peer=_cpu(s5cmd, spec.files),
            peer_name="s5cmd", goal=Goal(better=Better.LESS, must=0.25, reach=0.15),
            note="no sweep and no ledger: open, hash, look, put, compare; Python's start included",
        ),
        make_row(
            measure=f"{title}, engine alone: speed", group="small", unit="files/s",
            ours=_speed(costs["engine"], spec.files), peer=_speed(s5cmd, spec.files),
            peer_name="s5cmd",
        ),
        _peak_row("small", title, costs),
    ]  # fmt: skip
    if "rclone" in costs:
        rows += _beside("small", title, "rclone", costs, spec.files)
    return about_store(rows, what.store, max_workers=WORKERS) + _aws(bench)


def _beside(
    group: str, title: str, name: str, costs: dict[str, list[Cost]], files: int
) -> list[Row]:
    """Make the rows of another peer, for which there is no goal."""
    return [
        make_row(
            measure=f"{title}, whole product beside {name}: {what}", group=group, unit=unit,
            ours=of(costs["ours"], files), peer=of(costs[name], files), peer_name=name,
        )
        for what, unit, of in (("CPU", "CPU s / 1,000 files", _cpu), ("speed", "files/s", _speed))
    ]  # fmt: skip


def _aws(bench: Bench) -> list[Row]:
    """Measure aws-cli on fewer files, once: it takes ten times as long, and nobody doubts it."""
    assert bench.sink is not None
    spec = Tree(files=bench.sizes.aws_files, size_bytes=64 * KIB, folders=100)
    what = load(bench, spec, bench.sink.near, WORKERS)
    runs = what.runs("ours", "aws-cli")
    if "aws-cli" not in runs:
        return []
    costs = interleaved(what, runs, 1)
    rows = _beside("small", f"{spec.files:,} × 64 KiB", "aws-cli", costs, spec.files)
    return about_store(rows, what.store, max_workers=WORKERS)


def medium(bench: Bench) -> list[Row]:
    """Measure files of one mebibyte at the near sink."""
    assert bench.sink is not None
    spec = Tree(files=bench.sizes.medium_files, size_bytes=MIB, folders=30)
    what = load(bench, spec, bench.sink.near, WORKERS)
    costs = interleaved(what, what.runs("ours", "s5cmd"), bench.sizes.rounds)
    title = f"{spec.files:,} × 1 MiB"
    s5cmd = costs.get("s5cmd", [])
    rows = [
        make_row(
            measure=f"{title}, whole product: CPU", group="medium", unit="CPU s / 1,000 files",
            ours=_cpu(costs["ours"], spec.files), peer=_cpu(s5cmd, spec.files), peer_name="s5cmd",
            goal=Goal(better=Better.LESS, must=0.6, reach=0.35),
        ),
        _throughput("medium", title, costs, spec),
        _peak_row("medium", title, costs),
    ]  # fmt: skip
    return about_store(rows, what.store, max_workers=WORKERS)


def _throughput(group: str, title: str, costs: dict[str, list[Cost]], spec: Tree) -> Row:
    def of(name: str) -> list[float]:
        return [spec.total_bytes / MIB / c.wall_seconds for c in costs.get(name, [])]

    return make_row(
        measure=f"{title}, whole product: speed", group=group, unit="MiB/s",
        ours=of("ours"), peer=of("s5cmd"), peer_name="s5cmd",
    )  # fmt: skip


def large(bench: Bench) -> list[Row]:
    """Measure a few large files at the near sink."""
    assert bench.sink is not None
    spec = Tree(files=bench.sizes.large_files, size_bytes=bench.sizes.large_bytes, folders=1)
    what = load(bench, spec, bench.sink.near, WORKERS)
    costs = interleaved(what, what.runs("ours", "s5cmd"), bench.sizes.rounds)
    title = f"{spec.files} × {spec.size_bytes // MIB} MiB"
    s5cmd = costs.get("s5cmd", [])
    rows = [
        make_row(
            measure=f"{title}, whole product: time", group="large", unit="s",
            ours=[c.wall_seconds for c in costs["ours"]], peer=[c.wall_seconds for c in s5cmd],
            peer_name="s5cmd", goal=Goal(better=Better.LESS, must=0.8, reach=0.65),
        ),
        make_row(
            measure=f"{title}, whole product: CPU", group="large", unit="CPU s",
            ours=[c.cpu_seconds for c in costs["ours"]], peer=[c.cpu_seconds for c in s5cmd],
            peer_name="s5cmd", goal=Goal(better=Better.LESS, must=0.8, reach=0.6),
        ),
        _throughput("large", title, costs, spec),
        _peak_row("large", title, costs),
    ]  # fmt: skip
    return about_store(rows, what.store, max_workers=WORKERS)


def far(bench: Bench) -> list[Row]:
    """Measure small files at the sink that answers late, with many at a time."""
    assert bench.sink is not None
    spec = Tree(files=bench.sizes.far_files, size_bytes=64 * KIB, folders=100)
    what = load(bench, spec, bench.sink.far, FAR_WORKERS)
    costs = interleaved(what, what.runs("ours", "s5cmd"), bench.sizes.rounds)
    title = f"{spec.files:,} × 64 KiB, answers 30 ms late, {FAR_WORKERS} workers"
    s5cmd = costs.get("s5cmd", [])
    rows = [
        make_row(
            measure=f"{title}: speed", group="far", unit="files/s",
            ours=_speed(costs["ours"], spec.files), peer=_speed(s5cmd, spec.files),
            peer_name="s5cmd", goal=Goal(better=Better.MORE, must=2, reach=3),
        ),
        make_row(
            measure=f"{title}: CPU", group="far", unit="CPU s / 1,000 files",
            ours=_cpu(costs["ours"], spec.files), peer=_cpu(s5cmd, spec.files), peer_name="s5cmd",
        ),
        _peak_row("far", title, costs),
    ]  # fmt: skip
    return about_store(rows, what.store, max_workers=FAR_WORKERS)


def stored(bench: Bench) -> list[Row]:
    """Measure small files at a store that really keeps them."""
    if bench.peers.rclone is None:
        return []
    spec = Tree(files=bench.sizes.stored_files, size_bytes=64 * KIB, folders=100)
    costs: dict[str, list[Cost]] = defaultdict(list)
    for _ in range(bench.sizes.rounds):
        for name in ("ours", "s5cmd", "rclone"):
            # A new store for each: objects that are there already would be another measure.
            with running_rclone(bench.peers.rclone, bench.work / "rclone-store") as store:
                what = load(bench, spec, store, WORKERS)
                for each, found in interleaved(what, what.runs(name), 1).items():
                    costs[each] += found
    title = f"{spec.files:,} × 64 KiB into rclone's S3 server"
    s5cmd = costs.get("s5cmd", [])
    rows = [
        make_row(
            measure=f"{title}: speed", group="stored", unit="files/s",
            ours=_speed(costs["ours"], spec.files), peer=_speed(s5cmd, spec.files),
            peer_name="s5cmd", note="the server takes most of the machine, whoever sends",
        ),
        make_row(
            measure=f"{title}: CPU", group="stored", unit="CPU s / 1,000 files",
            ours=_cpu(costs["ours"], spec.files), peer=_cpu(s5cmd, spec.files), peer_name="s5cmd",
        ),
        *_beside("stored", title, "rclone", costs, spec.files),
    ]  # fmt: skip
    return about_store(rows, store, max_workers=WORKERS)
