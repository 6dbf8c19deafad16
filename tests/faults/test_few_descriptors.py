"""A daemon that may open few files says so in one clear line, and works or waits; it never loses any."""

from __future__ import annotations

import pytest
from daemon import Station, drop_files, under_prefix

FILES = {f"s{n % 7}/{n:03}.wav": b"sound %d" % n for n in range(150)}


@pytest.mark.parametrize("descriptors", [48, 64])
def test_few_descriptors(make_station, moto, descriptors):
    limited = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
    station: Station = make_station(moto, launcher=limited)
    station.configure()
    station.delivery(max_workers=64)
    digests = drop_files(station.drop, FILES)
    daemon = station.start()
    station.wait_for(
        lambda: station.ledger.states() == dict.fromkeys(digests, "uploaded"),
        what="all is stored",
    )
    (told,) = daemon.logs("few_descriptors")
    assert f"may open {descriptors} files" in told["problem"]
    assert "LimitNOFILE" in told["hint"]
    assert daemon.logs("breaker_opened") == [], "it was told once, and not again for every file"
    assert daemon.logs("bug") == []
    assert daemon.logs("service_failed") == []
    assert station.bucket.digests() == under_prefix(digests)
    assert {row["attempts"] for row in station.ledger.uploads()} == {0}
    assert daemon.stop() == 0
