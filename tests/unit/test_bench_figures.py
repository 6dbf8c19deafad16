"""What `make bench` computes from what it measured, and where it writes it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from costs import ProgramFailedError, cpu_seconds, measure  # noqa: E402
from figures import (  # noqa: E402
    BEGIN,
    END,
    Better,
    Goal,
    ProcessTimes,
    as_json,
    between_markers,
    cells,
    in_order,
    make_row,
    markdown,
    merged,
    number,
    parse_stat,
    per_thousand,
    percentile,
    tree_ticks,
)
from trees import Tree, tree  # noqa: E402

LESS = Goal(better=Better.LESS, must=0.6, reach=0.35)
MORE = Goal(better=Better.MORE, must=2, reach=4)


def row(measure="a", group="g", ours=(1.0,), **more):
    return make_row(measure=measure, group=group, unit="s", ours=ours, **more)


def test_a_row_is_made_of_the_medians_so_that_one_disturbed_round_does_not_count():
    made = row(ours=[0.3, 9.0, 0.5], peer=[1.0, 0.9, 50.0], peer_name="s5cmd", goal=LESS)
    assert (made.ours, made.peer, made.ratio) == (0.5, 1.0, 0.5)
    assert (made.must, made.reach, made.met) == ("≤ 0.6 ×", "≤ 0.35 ×", True)
    assert made.rounds == {"ours": [0.3, 9.0, 0.5], "peer": [1.0, 0.9, 50.0]}


@pytest.mark.parametrize(
    ("goal", "ours", "peer", "met"),
    [
        (LESS, 0.6, 1.0, True),
        (LESS, 0.61, 1.0, False),
        (MORE, 2000, 1000, True),
        (MORE, 1990, 1000, False),
    ],
)
def test_a_goal_is_met_on_its_own_side_of_the_bound(goal, ours, peer, met):
    assert row(ours=[ours], peer=[peer], goal=goal).met is met


def test_a_goal_of_our_own_value_needs_no_peer():
    goal = Goal(better=Better.LESS, must=200, reach=100, of="ours", unit="MiB")
    assert row(ours=[150], goal=goal).met is True
    assert row(ours=[250], peer=[1000], goal=goal).met is False


def test_without_its_peer_a_ratio_goal_is_neither_met_nor_missed():
    made = row(ours=[0.1], peer=[], peer_name="s5cmd", goal=LESS)
    assert (made.peer, made.ratio, made.met) == (None, None, None)


def test_totals_are_spread_per_thousand_files():
    assert per_thousand(17.4, 20_000) == pytest.approx(0.87)


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_were_measured(share, value):
    assert percentile([*range(100, 0, -1)], share) == value


def test_a_single_value_is_all_its_percentiles():
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0


# --- results and table --------------------------------------------------------------------


def test_a_run_of_some_groups_leaves_the_rows_of_the_others():
    first = merged([], [row("a", "one"), row("b", "two"), row("c", "two")])
    again = merged(first, [row("d", "two", ours=[5.0])])
    assert [(r["measure"], r["group"]) for r in in_order(again, ["one", "two"])] == [
        ("a", "one"),
        ("d", "two"),
    ]


def test_rows_stand_in_the_order_of_the_groups_and_dropped_groups_go():
    rows = merged([], [row("b", "two"), row("x", "gone"), row("a", "one")])
    assert [r["measure"] for r in in_order(rows, ["one", "two"])] == ["a", "b"]


def test_results_are_json_with_a_line_for_each_row():
    rows = merged([], [row("20,000 × 64 KiB"), row("b")])
    text = as_json({"commit": "abc", "machine": {"cores": 2}, "rows": rows})
    assert json.loads(text)["rows"] == json.loads(json.dumps(rows))
    assert [line for line in text.splitlines() if "20,000 × 64 KiB" in line]
    assert {"measure", "ours", "peer", "ratio", "must", "reach"} <= set(rows[0])


def test_the_table_has_a_cell_for_every_column_and_tells_the_notes():
    rows = merged(
        [],
        [
            row("CPU", ours=[0.25], peer=[1.0], peer_name="s5cmd", goal=LESS, note="all of it"),
            row("plain", ours=[12345.6]),
        ],
    )
    lines = markdown(rows).splitlines()
    assert lines[2] == "| CPU | s | 0.25 | 1 (s5cmd) | 0.25 | ≤ 0.6 × | ≤ 0.35 × | yes |"
    assert lines[3] == "| plain | s | 12,350 | – | – |  |  |  |"
    assert "- CPU: all of it" in lines
    assert {line.count("|") for line in lines[:4]} == {9}


def test_a_quick_run_is_told_in_its_rows():
    (made,) = merged([], [row("CPU")])
    assert cells({**made, "quick": True})[0] == "CPU (quick run)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.12345, "0.123"),
        (7.0, "7"),
        (999.9, "1,000"),
        (1000.4, "1,000"),
        (1234567.0, "1,234,567"),
    ],
)
def test_values_are_written_for_people(value, text):
    assert number(value) == text


def test_the_table_takes_the_place_of_the_last_one():
    page = f"# Performance\n\n{BEGIN}\n\nold\n\n{END}\n\nHow to read it.\n"
    once = between_markers(page, "| new |")
    assert once == f"# Performance\n\n{BEGIN}\n\n| new |\n\n{END}\n\nHow to read it.\n"
    assert between_markers(once, "| new |") == once


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END} {BEGIN}", f"{BEGIN} {END} {BEGIN} {END}"])
def test_a_page_without_its_markers_is_not_written_to(page):
    with pytest.raises(ValueError, match="bench:begin"):
        between_markers(page, "| new |")


# --- processor time -----------------------------------------------------------------------


def stat(name: str, parent: int, *ticks: int) -> str:
    return f"7 ({name}) S {parent} 7 7 0 -1 4194304 1 2 3 4 {' '.join(map(str, ticks))} 20 0 1"


@pytest.mark.parametrize("name", ["postgres", "a b", "(sd-pam)", "x) S 1 ("])
def test_a_processs_times_are_read_whatever_its_name_is(name):
    assert parse_stat(stat(name, 42, 10, 20, 3, 4)) == ProcessTimes(
        parent=42, own_ticks=30, dead_ticks=7
    )


def process(parent: int, own: int, dead: int = 0) -> ProcessTimes:
    return ProcessTimes(parent=parent, own_ticks=own, dead_ticks=dead)


def test_a_tree_is_added_up_with_its_dead_and_each_process_once():
    processes = {
        1: process(0, 1000),
        10: process(1, 100, dead=5),  # the daemon
        11: process(10, 20),  # its find
        12: process(10, 30, dead=7),  # its postmaster, with backends that ended
        13: process(12, 40),
        99: process(1, 5000),
    }
    assert tree_ticks(processes, [10]) == 100 + 5 + 20 + 30 + 7 + 40
    assert tree_ticks(processes, [10, 12]) == tree_ticks(processes, [10])
    assert tree_ticks(processes, [12]) == 77
    assert tree_ticks(processes, [12345]) == 0


BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\n"


def test_the_time_of_children_is_counted_alive_and_dead():
    child = BURN.format(0.3)
    code = (
        f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {child!r}])\n"
        "print('ready', flush=True)\ntime.sleep(120)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout.readline() == "ready\n"
        assert cpu_seconds(parent.pid) >= 0.25
    finally:
        parent.kill()
        parent.communicate()


def test_a_measured_program_is_charged_for_its_children_and_its_own_memory(tmp_path):
    code = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN.format(0.3)!r}])\n"
        "import time\nheld = bytearray(100_000_000)\ntime.sleep(1)\n"
    )
    began = time.monotonic()
    cost = measure([sys.executable, "-c", code], environment={}, log=tmp_path / "log", cwd=tmp_path)
    assert cost.cpu_seconds >= 0.25
    assert 1.0 <= cost.wall_seconds <= time.monotonic() - began
    assert cost.peak_bytes >= 100_000_000


def test_figures_of_a_program_that_failed_are_not_given(tmp_path):
    code = "import sys; print('no such bucket'); sys.exit(3)"
    with pytest.raises(ProgramFailedError, match=r"ended with 3: no such bucket"):
        measure([sys.executable, "-c", code], environment={}, log=tmp_path / "log", cwd=tmp_path)


# --- files --------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_files_are_the_same_for_the_same_seed_and_no_two_are_equal(tmp_path):
    spec = Tree(files=20, size_bytes=5000, folders=4)
    first = contents(tree(tmp_path / "a", spec))
    assert contents(tree(tmp_path / "b", spec)) == first
    assert len(first) == len(set(first.values())) == 20
    assert {len(content) for content in first.values()} == {5000}
    assert len({Path(name).parent for name in first}) == 4


def test_files_longer_than_a_block_have_their_size(tmp_path):
    spec = Tree(files=1, size_bytes=3 * 1024 * 1024 + 17, folders=1)
    (content,) = contents(tree(tmp_path, spec)).values()
    assert len(content) == spec.size_bytes


def test_files_are_made_once_and_anew_after_a_run_that_was_broken_off(tmp_path):
    spec = Tree(files=3, size_bytes=10, folders=1)
    folder = tree(tmp_path, spec)
    one = next(folder.rglob("*.WAV"))
    before = one.stat().st_mtime_ns
    assert tree(tmp_path, spec) == folder
    assert one.stat().st_mtime_ns == before
    one.unlink()
    folder.with_suffix(".made").unlink()
    assert len(contents(tree(tmp_path, spec))) == 3


# --- what is committed --------------------------------------------------------------------


def test_the_page_has_its_markers_and_names_every_group():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert between_markers(page, "x")
    groups = re.findall(r'^    "(\w+)": (?:uploads|batch|parts|sweeps|watching|scrapes|views|receipts)\.\w+,', (
        ROOT / "bench" / "run.py"
    ).read_text(encoding="utf-8"), re.MULTILINE)  # fmt: skip
    assert len(groups) >= 10
    assert [name for name in groups if f"`{name}`" not in page] == []
