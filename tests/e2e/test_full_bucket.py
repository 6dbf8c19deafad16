"""A bucket that holds the files already: nothing is sent for nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from between import GoBetween
from daemon import age, drop_files


@pytest.mark.parametrize(("engine", "count"), [("curl", 2_500), ("boto3", 1_050)])
def test_a_new_ledger_on_a_full_bucket_sends_nothing_and_looks_once_at_each_file(
    station, moto, tmp_path, engine, count
):
    files = {f"S{n % 7}/{n:05d}.wav": b"recording %d" % n for n in range(count)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: station.bucket.put(f"C1/{item[0]}", item[1]), files.items()))
    with GoBetween(moto.endpoint_url) as between:
        station.delivery(endpoint_url=between.endpoint_url, max_workers=8, engine=engine)
        daemon = station.start()
        listed = daemon.wait_for_log("objects_listed", delivery="card")
        assert listed["objects"] == count
        assert [p["message"] for p in daemon.logs("listing_progress")] == []
        incoming = tmp_path / "incoming"
        drop_files(incoming, files)
        age(incoming)
        for folder in incoming.iterdir():
            folder.rename(station.drop / folder.name)
        skipped = dict.fromkeys(files, "skipped")
        station.wait_for(
            lambda: station.delivery_status()["counts"]["skipped"] == count,
            what="all are skipped",
            seconds=240,
        )
        assert station.ledger.states() == skipped
        sent = [r for r in between.requests if r.method == "PUT" and "/C1/" in r.path]
        assert sent == [], "not even what the store would refuse is sent"
        looks = [r for r in between.requests if r.method == "HEAD" and "/C1/" in r.path]
        assert len(looks) == count, "what is listed is looked at once, and not tried first"
        assert daemon.stop() == 0
