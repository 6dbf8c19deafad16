"""A daemon that has little memory, and one that the kernel ends for it.

The memory is that of a control group (cgroup v1 or v2), so it takes root. The kernel counts those it
ends in one number for the whole machine, and a daemon that was killed by hand meanwhile would be
held to be one of them: so these tests run where no other test runs beside them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from between import GoBetween
from daemon import Station, age, drop_files, under_prefix, wait_until
from s3_servers import closed_port
from test_scale import MIB, make_sensors, peak_bytes, show, states, wait_for_sweeps

from sensordrop.adapters.trail import left_in_work

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]

CARD = {f"950349/{n:02}.WAV": b"RIFF recording %d" % n for n in range(30)}
WORKERS = 2
SWEPT_FILES = int(os.environ.get("SWEPT_FILES") or 60_000)
"""SWEPT_FILES=1000000 takes minutes, and no more memory."""
SWEEP_MIB = 256
"""What a sweep must be content with, `find` and what the kernel keeps for both included."""


class MemoryGroup:
    """A control group of this test's own."""

    KINDS = (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "-1"),
        (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "max"),
    )

    def __init__(self) -> None:
        name = f"sensordrop-test-{uuid.uuid4().hex[:8]}"
        for parent, limit, usage, unlimited in self.KINDS:
            self.folder = parent / name
            self._limit, self._usage = self.folder / limit, self.folder / usage
            self._unlimited = unlimited
            with suppress(OSError):
                self.folder.mkdir()
                if self._limit.exists():
                    return
                self.folder.rmdir()
        pytest.skip("no control group for memory can be made here")

    @property
    def launcher(self) -> list[str]:
        """Give what starts a program in the group."""
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs; exec "$@"', "sh"]

    def allow(self, most_bytes: int | None) -> None:
        """Set the limit. Raises OSError (EBUSY, cgroup v1) where more is used and can't be freed."""
        self._limit.write_text(self._unlimited if most_bytes is None else str(most_bytes))

    def overfill(self, *, victim: int) -> None:
        """Have the kernel end a process for the memory of another one that came into the group."""
        Path(f"/proc/{victim}/oom_score_adj").write_text("1000")
        self.allow(int(self._usage.read_text()) + 16 * MIB)
        glutton = f"b'x' * {512 * MIB}"
        subprocess.run([*self.launcher, sys.executable, "-c", glutton], check=False)

    def remove(self) -> None:
        def removed() -> bool:
            with suppress(OSError):
                self.folder.rmdir()  # busy until the last process is gone
            return not self.folder.exists()

        wait_until(removed, what="the control group is gone")


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    made = MemoryGroup()
    yield made
    made.allow(None)
    made.remove()


@pytest.fixture
def little(group, make_station, moto) -> Iterator[Callable[[], Station]]:
    """Give stations whose daemon is in the group; they end before it does."""
    made: list[Station] = []

    def make() -> Station:
        made.append(make_station(moto, launcher=group.launcher))
        return made[-1]

    yield make
    for station in made:
        station.close()


def test_a_drop_of_many_files_needs_little_memory(little, group, capsys):
    group.allow(SWEEP_MIB * MIB)
    station: Station = little()
    station.configure(log_level="debug")
    station.delivery(
        endpoint_url=f"http://127.0.0.1:{closed_port()}", sweep_interval_seconds=5, vanish_share=1
    )
    make_sensors(station.drop, SWEPT_FILES)
    files = sum(len(names) for _, _, names in os.walk(station.drop))
    time.sleep(2)  # all must be settled
    daemon = station.start()
    assert wait_for_sweeps(daemon, 1)[0]["new"] == files
    last = wait_for_sweeps(daemon, 2)[-1]
    assert (last["files"], last["new"], last["changed"]) == (files, 0, 0)
    assert states(station) == {"pending": files}
    assert daemon.logs("predecessor_killed") == daemon.logs("bug") == []
    show(
        capsys,
        f"{files:,} files with {SWEEP_MIB} MiB: first sweep"
        f" {wait_for_sweeps(daemon, 1)[0]['seconds']:.1f} s,"
        f" most memory {peak_bytes(daemon.pid) / MIB:.0f} MiB",
    )
    assert daemon.stop() == 0, daemon.story()
    shutil.rmtree(station.drop)


def test_the_kernel_ends_the_daemon_for_its_memory_and_only_what_was_in_work_is_charged(
    little, group
):
    station: Station = little()
    station.configure()
    digests = drop_files(station.drop, CARD)
    age(station.drop)
    with GoBetween(station.server.endpoint_url) as between:
        between.gate.clear()
        station.delivery(
            endpoint_url=between.endpoint_url, max_workers=WORKERS, sweep_interval_seconds=1
        )
        daemon = station.start()
        trail = station.state / "in-work"
        station.wait_for(
            lambda: (left := left_in_work(trail)) and len(left.upload_ids) >= WORKERS,
            what="uploads under way",
        )
        group.overfill(victim=daemon.pid)
        assert daemon.wait_for_end() == -signal.SIGKILL
        group.allow(None)
        station.start()
        (told,) = station.daemon.logs("predecessor_killed")
        rows = station.ledger.rows("SELECT crashes FROM upload_queue WHERE crashes > 0")
        assert {row["crashes"] for row in rows} == {1}
        assert len(rows) == told["files_in_work"] <= 2 * WORKERS, "those that were in work alone"
        between.gate.set()
        station.wait_for(
            lambda: (
                len(found := station.ledger.states()) == len(digests)
                and {*found.values()} <= {"uploaded", "skipped"}
            ),
            what="all is stored",
        )
    assert station.bucket.digests() == under_prefix(digests)
    assert station.daemon.stop() == 0
    station.assert_sound()
