"""Sends a folder with sensordrop's engine and nothing else: no sweep, no ledger, no daemon.

A program of its own, so that all that it costs is its own: `engine_alone.py SETTINGS`, where
SETTINGS is a JSON object with `local_directory` and what else a delivery's file may hold.
Ends with 1 where a file was not stored.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sensordrop.adapters.s3.curl import CurlLane, LaneSettings
from sensordrop.composition.daemon import collect_seldom
from sensordrop.composition.deliveries import make_delivery
from sensordrop.config import DeliveryConfig
from sensordrop.core.lifecycle import Stored
from sensordrop.core.model import Claim, Fingerprint
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.transfers import TransferPool
from sensordrop.engine.workers import Pool


def make_pool(size: int) -> Pool:
    """Give the pool that the daemon would use, but for the ledger."""
    return TransferPool(
        size,
        threading.Event(),
        make_lane=lambda most: CurlLane(LaneSettings(most_connections=most)),
    )


def claims(root: str) -> Iterator[Claim]:
    """Give a claim on every file below a folder, as the ledger would."""
    number = 0
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 — bytes
            state = os.lstat(path)
            relative = path[len(os.fsencode(root)) + 1 :]
            number += 1
            yield Claim(
                upload_id=number,
                delivery_id=1,
                path=relative,
                path_text=relative.decode(),
                fingerprint=Fingerprint(
                    size_bytes=state.st_size,
                    mtime_ns=state.st_mtime_ns,
                    ctime_ns=state.st_ctime_ns,
                ),
                claim_number=1,
                attempts=0,
                crashes=0,
            )


def send(delivery: Delivery, workers: int) -> Counter[str]:
    """Send all, so many at a time, and count the outcomes by their kind."""
    pool = make_pool(workers)
    waiting = claims(delivery.settings.root)
    outcomes: Counter[str] = Counter()
    running = 0
    more = True
    while more or running:
        while more and running < workers + pool.backlog:
            claim = next(waiting, None)
            if claim is None:
                more = False
                break
            pool.submit(claim, delivery)
            running += 1
        for done in pool.collect(1.0):
            running -= 1
            outcomes[type(done.outcome).__name__] += 1
            if not isinstance(done.outcome, Stored):
                print(done.claim.path_text, done.outcome, file=sys.stderr)
    pool.close()
    return outcomes


def main() -> int:
    """Send what the first argument says."""
    settings = json.loads(sys.argv[1])
    config = DeliveryConfig.model_validate({"name": "bench", **settings})
    delivery = make_delivery(config, 1)
    delivery.device = Path(settings["local_directory"]).stat().st_dev
    delivery.settings.destination.preflight(delivery.settings.s3_prefix)
    collect_seldom()
    outcomes = send(delivery, config.max_workers)
    print(json.dumps(outcomes))
    return 0 if set(outcomes) == {Stored.__name__} else 1


if __name__ == "__main__":
    sys.exit(main())
