"""What a configuration says to services that outlive it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sensordrop.adapters.clock import local_zone
from sensordrop.adapters.notifier import HttpNotifier
from sensordrop.composition.deliveries import endpoints_of
from sensordrop.config import Configuration
from sensordrop.config.bandwidth import limit_of
from sensordrop.core.bandwidth import Limit
from sensordrop.core.vitals import DiskSpace
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.limits import STATION
from sensordrop.engine.sender import Route


def ways_to_tell(
    configuration: Configuration, delivery_ids: Mapping[str, int]
) -> tuple[list[Route], HttpNotifier]:
    """Say who is to be told about the sessions of which delivery, and give who tells them."""
    endpoints = {
        (delivery_ids[config.name], kind): (config.name, endpoint)
        for config in configuration.deliveries
        for kind, endpoint in endpoints_of(config).items()
    }
    routes = [
        Route(
            delivery_id=delivery_id,
            delivery=name,
            kind=kind,
            digest=endpoint.digest,
            timeout_seconds=endpoint.timeout_seconds,
            give_up_seconds=endpoint.give_up_seconds,
        )
        for (delivery_id, kind), (name, endpoint) in endpoints.items()
    ]
    return routes, HttpNotifier({key: endpoint for key, (_, endpoint) in endpoints.items()})


def limits_of(
    configuration: Configuration, deliveries: Sequence[Delivery]
) -> dict[int | None, Limit]:
    """Give the configured limits of the station and of deliveries by their ids."""
    zone = local_zone()
    ids = {delivery.name: delivery.delivery_id for delivery in deliveries}
    return {
        STATION: limit_of(configuration.daemon.bandwidth, zone),
        **{ids[c.name]: limit_of(c.bandwidth, zone) for c in configuration.deliveries},
    }


def digest_of(configuration: Configuration) -> str:
    """Give a short text that is another one whenever a setting in force is."""
    in_force = [configuration.daemon, *configuration.deliveries]
    text = json.dumps([each.public_dict() for each in in_force], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def disk_space(folder: Path) -> DiskSpace | None:
    """Tell how much room there is where a folder is, or None if it can't be told."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:  # gone just now: the ledger's trouble tells more than this would
        return None
    return DiskSpace(free_bytes=usage.free, size_bytes=usage.total)
