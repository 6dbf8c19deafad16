"""Builds what one delivery needs: its folder, its store, its limits, its names in the ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from math import inf

from sensordrop.adapters.clock import local_zone
from sensordrop.adapters.finder import FindFinder, WalkFinder, find_is_gnu
from sensordrop.adapters.local_s3 import LocalS3
from sensordrop.adapters.mounts import needs_polling
from sensordrop.adapters.s3 import CapabilityBook, S3Destination, S3Settings
from sensordrop.adapters.s3.requests import RequestTally
from sensordrop.adapters.source import FolderSource
from sensordrop.config import DaemonConfig, DeliveryConfig, Endpoint
from sensordrop.config.bandwidth import limit_of
from sensordrop.core.failure import FailureScope
from sensordrop.core.letters import LetterKind
from sensordrop.core.lifecycle import RetryPolicy
from sensordrop.core.selection import Selection
from sensordrop.core.taking import WishKind, wish_of
from sensordrop.core.timetable import Rate
from sensordrop.engine.delivery import Delivery, DeliverySettings
from sensordrop.engine.throttle import Throttles
from sensordrop.ports.finding import Finder
from sensordrop.ports.life import Clock
from sensordrop.ports.records import (
    DeliveryBinding,
    EndpointBinding,
    EnrollRules,
)
from sensordrop.ports.taking import Taking
from sensordrop.ports.transfer import Throttle, Turn

POLLING_SECONDS = 30.0
"""Where a folder can't be watched it is swept this often, or less often if sweeps take long."""


LOCAL_ENDPOINT = "embedded"
"""How the ledger names the embedded S3 server, whose port may change."""


def binding_of(config: DeliveryConfig, local: LocalS3 | None) -> DeliveryBinding:
    """Say what the ledger keeps of a delivery's configuration."""
    return DeliveryBinding(
        name=config.name,
        client=config.client,
        project=config.project,
        cycle=config.cycle,
        local_directory=str(config.local_directory),
        bucket_name=config.bucket_name,
        s3_prefix=config.s3_prefix,
        endpoint_url=LOCAL_ENDPOINT if local else config.endpoint_url,
        aws_region=config.aws_region,
        sensor_level=config.sensor_level,
        shared=config.shared,
        enabled=config.enabled,
        selection={
            "include": list(config.include),
            "exclude": list(config.exclude),
            "extensions": None if config.extensions is None else list(config.extensions),
        },
        configuration=config.public_dict(),
        endpoints=[
            EndpointBinding(kind=kind, endpoint=endpoint.shown, digest=endpoint.digest)
            for kind, endpoint in endpoints_of(config).items()
        ],
    )


def endpoints_of(config: DeliveryConfig) -> dict[LetterKind, Endpoint]:
    """Say whom a delivery tells what."""
    found: dict[LetterKind, Endpoint] = {}
    if config.endpoint is not None:
        found[LetterKind.REGISTRATION] = config.endpoint
    if config.notify is not None:
        found |= dict.fromkeys(config.notify.events, config.notify)
    return found


def s3_settings(
    config: DeliveryConfig, local: LocalS3 | None, requests: RequestTally | None = None
) -> S3Settings:
    """Translate a delivery's keys into what the S3 adapter takes."""
    settings = S3Settings(
        bucket_name=config.bucket_name,
        aws_region=config.aws_region,
        aws_profile=config.aws_profile,
        endpoint_url=config.endpoint_url,
        acl=config.acl,
        storage_class=config.storage_class,
        sse=config.sse,
        kms_key_id=config.kms_key_id,
        tags=dict(config.tags),
        addressing_style=config.addressing_style,  # type: ignore[arg-type]
        ca_bundle=None if config.ca_bundle is None else str(config.ca_bundle),
        proxy=config.proxy,
        request_checksum_calculation=(
            None
            if config.request_checksum_calculation == "auto"
            else config.request_checksum_calculation  # type: ignore[arg-type]
        ),
        multipart_threshold_bytes=config.multipart_threshold_bytes,
        max_connections=config.max_workers,
        read_timeout_seconds=config.stall_seconds,
        engine=config.engine,  # type: ignore[arg-type]
        store_check=config.store_check,  # type: ignore[arg-type]
        requests=requests,
    )
    if local is None:
        return settings
    return replace(
        settings,
        endpoint_url=local.endpoint_url,
        access_key_id=local.access_key,
        secret_access_key=local.secret_key,
        aws_profile=None,
        addressing_style="path",
    )


def make_delivery(
    config: DeliveryConfig,
    delivery_id: int,
    local: LocalS3 | None = None,
    book: CapabilityBook | None = None,
    throttle: Throttle | None = None,
    *,
    requests: RequestTally | None = None,
    by_hand: bool = False,
) -> Delivery:
    """Build a delivery with its folder, its finder and its destination.

    `book`: what is seen of the stores, shared with other deliveries; `requests`: where requests
    to them are counted; `by_hand`: for a run that sweeps once, and ends.
    """
    selection = Selection(
        include=config.include, exclude=config.exclude, extensions=config.extensions
    )
    settings = s3_settings(config, local, requests)
    source = FolderSource(str(config.local_directory))
    taking = None if by_hand else _taking_rule(config, source)
    return Delivery(
        mended=taking is None,
        settings=DeliverySettings(
            name=config.name,
            delivery_id=delivery_id,
            root=str(config.local_directory),
            s3_prefix=config.s3_prefix,
            rules=EnrollRules(
                selection=selection,
                sensor_level=config.sensor_level,
                quiet_seconds=config.quiet_seconds,
            ),
            policy=RetryPolicy(
                times_to_retry=config.times_to_retry,
                retry_delay_seconds=config.retry_delay_seconds,
                retry_cap_seconds=config.retry_cap_seconds,
                quiet_seconds=config.quiet_seconds,
                pause_after_failures=config.pause_after_failures,
            ),
            priority=config.priority,
            max_workers=config.max_workers,
            sweep_interval_seconds=inf if by_hand else config.sweep_interval_seconds,
            polling_interval_seconds=None if by_hand or config.watch == "off" else POLLING_SECONDS,
            can_watch=(lambda: False) if by_hand else _watch_rule(config),
            writer_check=config.writer_check,
            vanish_share=config.vanish_share,
            enabled=config.enabled,
            breaker_keys={
                FailureScope.PROJECT: f"{config.client}/{config.project}/{config.bucket_name}",
                FailureScope.DESTINATION: settings.endpoint_url or f"s3 {config.aws_region or ''}",
                FailureScope.STATION: "this station",
            },
            source=source,
            destination=S3Destination(settings, book, throttle),
            make_finder=_finder_rule(config),
            listing_age_seconds=config.listing_age_seconds,
            client=config.client,
            project=config.project,
            cycle=config.cycle,
            session_deadline_seconds=config.session_deadline_seconds,
            session_receipt=config.session_receipt,
            taking=taking,
            session_quiet_seconds=0.0 if by_hand else None,
        ),
    )


def _taking_rule(config: DeliveryConfig, source: FolderSource) -> Taking | None:
    """Give what takes stored files away, where the delivery asks for it. Elsewhere what could do it
    is not even loaded.
    """
    wish = wish_of(config.after_verified)
    if wish.kind is WishKind.KEEP:
        return None
    from sensordrop.adapters.taking import FolderTaking  # noqa: PLC0415 — as said

    return FolderTaking(str(config.local_directory), wish, source)


def _watch_rule(config: DeliveryConfig) -> Callable[[], bool]:
    def can_watch() -> bool:
        if config.watch != "auto":
            return config.watch == "inotify"
        try:
            return not needs_polling(str(config.local_directory))
        except OSError:  # the folder went away just now; the next sweep asks again
            return False

    return can_watch


def _finder_rule(config: DeliveryConfig) -> Callable[[], Finder]:
    if config.use_find and find_is_gnu():
        return FindFinder
    return WalkFinder


class ConfiguredThrottle:
    """A delivery's limits in a program of its own, as `ports.Throttle`: those of the configuration
    at this time of day. Nobody has to look at the clock beside it.
    """

    def __init__(self, config: DeliveryConfig, daemon: DaemonConfig, clock: Clock) -> None:
        zone = local_zone()
        self._clock = clock
        self._name = config.name
        self._station = limit_of(daemon.bandwidth, zone)
        self._own = limit_of(config.bandwidth, zone)
        self._throttles = Throttles(clock)
        self._throttle = self._throttles.of(config.name)
        self._lock = threading.Lock()
        self._rates: tuple[Rate, Rate] = (None, None)

    @property
    def limited(self) -> bool:
        """See `ports.Throttle.limited`."""
        now = self._clock.now()
        with self._lock:
            rates = self._station.rate(now), self._own.rate(now)
            if rates != self._rates:
                self._rates = rates
                self._throttles.set_rates(rates[0], {self._name: rates[1]})
        return self._throttle.limited

    def turn(self) -> Turn:
        """See `ports.Throttle.turn`."""
        return self._throttle.turn()
