"""What the control socket's lists cost: as much as they show, however many files there are."""

from __future__ import annotations

import pytest
from test_control_socket import operations, served, wait_for_daemon
from test_ledger import ask, binding, register, row, sweep
from test_ledger_costs import rows_read

OLD, NEW = 4_000, 6_000
TABLES = ("file_uploads", "upload_queue", "sync_sessions")


@pytest.fixture
def hut(ledger, database, tmp_path):
    """Give a client at the socket of a station whose first delivery has had no file for long."""
    place = register(
        ledger,
        binding("old", local_directory="/old", s3_prefix="old"),
        binding("new", local_directory="/new", s3_prefix="new"),
        binding("rare", local_directory="/rare", s3_prefix="rare"),
    )
    for name, files in (("old", OLD), ("rare", 3), ("new", NEW)):
        rows = (row(b"S%d/%s-%d.wav" % (n % 9, name.encode(), n)) for n in range(files))
        sweep(ledger, place.delivery_ids[name], *rows)
    ask(database, "INSERT INTO sync_sessions (delivery_id, state, started_by, ended_at, files_total)"
        " SELECT %s, 'ended', 'test', now(), 0 FROM generate_series(1, 3000)",
        place.delivery_ids["old"])  # fmt: skip
    ledger.fold_counters()
    ask(database, "ANALYZE")
    path = tmp_path / "control.sock"
    with served(path, operations(ledger), close=ledger.close_own):
        yield wait_for_daemon(path)


def test_a_page_reads_little_more_than_it_shows_of_any_delivery_and_status_reads_no_file(
    hut, ledger, database
):
    def read() -> int:
        return sum(rows_read(database, ledger, table) for table in TABLES)

    for operation, given, most in (
        ("status", {}, 100),
        ("deliveries", {}, 100),
        ("files", {"limit": 50}, 400),
        ("files", {"limit": 50, "delivery": "old"}, 400),
        ("files", {"limit": 50, "delivery": "old", "after": 2_000}, 400),
        ("files", {"limit": 50, "delivery": "new", "state": "pending"}, 400),
        ("files", {"limit": 50, "delivery": "rare"}, 100),
        ("files", {"limit": 50, "state": "superseded"}, 100),
        ("sessions", {"limit": 50}, 400),
        ("sessions", {"limit": 50, "delivery": "old", "after": 1_000}, 400),
    ):
        before = read()
        told = hut.ask(operation, **given)
        assert any(isinstance(value, list) for value in told.values())
        assert read() - before < most, (operation, given)


def test_pages_one_after_the_other_show_each_line_once(hut):
    for operation, given, lines in (
        ("files", {"delivery": "old"}, OLD),
        ("files", {}, OLD + NEW + 3),
        ("sessions", {"delivery": "old"}, 3_001),
    ):
        seen, after = [], None
        while True:
            told = hut.ask(operation, limit=1_000, after=after, **given)
            seen += [each.get("path") or each["id"] for each in told[operation]]
            after = told["next"]
            if after is None:
                break
        assert len(seen) == len(set(seen)) == lines, (operation, given)
