"""What `sensordrop doctor` looks at, one thing after the other; deliveries side by side."""

from __future__ import annotations

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import boto3
import pycurl

from sensordrop.adapters.ledger.migrate import migrations
from sensordrop.adapters.local_s3 import LocalS3
from sensordrop.adapters.places import (
    STATE_FREE_BYTES,
    Folder,
    look_at_after_verified,
    look_at_disk,
    look_at_folder,
    look_at_watches,
)
from sensordrop.adapters.processes import EmbeddedServerError
from sensordrop.adapters.s3 import CapabilityBook, S3Destination
from sensordrop.adapters.service_user import as_service
from sensordrop.adapters.unit import sandbox_of_unit
from sensordrop.cli.doctor import Section
from sensordrop.cli.place import DATABASE_VARIABLE, Place, is_the_services, place_of
from sensordrop.composition.deliveries import POLLING_SECONDS, s3_settings
from sensordrop.composition.ledgers import open_ledger
from sensordrop.config import (
    Configuration,
    ConfigurationError,
    DeliveryConfig,
    Notice,
    default_path,
    load,
    take_credentials,
)
from sensordrop.core.check import Check, failed, first_failure, notice, ok
from sensordrop.core.failure import LedgerRefusedError, LedgerUnavailableError
from sensordrop.core.sandbox import Sandbox
from sensordrop.local import local_environment, local_folder
from sensordrop.version import VERSION

AT_ONCE = 8
"""Deliveries that are looked at side by side: each is mostly waiting for its store."""
SLOW_SECONDS = 0.1
"""A ledger that needs longer for an answer holds uploads up: each batch waits for it."""


class Rounds:
    """One run of the doctor. What is started for it ends with the stack."""

    def __init__(
        self, *, config: Path | None, local: Path | None, database: str | None, stack: ExitStack
    ) -> None:
        self._config = config
        self._local = None if local is None else local_folder(local).as_it_ran()
        self._database = database
        self._stack = stack
        self._store: LocalS3 | None = None

    def go(self, only: str | None) -> list[Section]:
        """Look at everything, or at one delivery beside this machine."""
        checks = [_versions()]
        try:
            configuration, notices = self._load()
        except ConfigurationError as error:
            checks += [_mistake(str(problem)) for problem in error.problems]
            return [Section(delivery=None, checks=checks)]
        deliveries = [d for d in configuration.deliveries if only in (None, d.name)]
        checks += _configuration(configuration, notices, only, found=bool(deliveries))
        place = place_of(configuration.daemon)
        checks += self._ledger(place)
        state = configuration.daemon.state_directory
        checks.append(look_at_disk("state directory", str(state), least=STATE_FREE_BYTES))
        checks += self._open_store()
        active = [d for d in deliveries if d.enabled]
        sandbox = None if self._local is not None else sandbox_of_unit()
        folders = {d.name: self._folder(d, sandbox) for d in active}
        checks.append(look_at_watches(sum(each.watches for each in folders.values())))
        book = CapabilityBook()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            seen = pool.map(lambda d: self._bucket(d, book), active)
            buckets = dict(zip(folders, seen, strict=True))
        return [
            Section(delivery=None, checks=checks),
            *(Section(delivery=d.name, checks=_delivery(d, folders, buckets)) for d in deliveries),
        ]

    # --- the parts ------------------------------------------------------------------------

    def _load(self) -> tuple[Configuration, tuple[Notice, ...]]:
        if self._local is not None:
            found = self._local.configuration(os.environ)
            environment = local_environment(os.environ)
            os.environ.clear()
            os.environ.update(environment)
            return found
        path = self._config or default_path(os.environ)
        take_credentials(path, os.environ)
        return load(
            path,
            environ=os.environ,
            flags={"database": self._database or os.environ.get(DATABASE_VARIABLE)},
            deliveries_required=True,
        )

    def _ledger(self, place: Place) -> list[Check]:
        embedded = place.config.database == "embedded"
        if embedded and not (place.directory / "data").exists():
            return [
                failed(
                    "ledger",
                    f"there is none in {place.config.state_directory} yet",
                    "start sensordropd, or run sensordrop init-db",
                )
            ]
        try:
            with open_ledger(
                place.config, directory=place.directory, started_by="sensordrop", as_service=True
            ) as ledger:
                ledger.check()
                health = ledger.health()
                alive = any(one.daemon_alive for one in ledger.status(place.station))
        except LedgerRefusedError as error:
            return [failed("ledger", str(error), "see the words before; nothing was changed")]
        except (EmbeddedServerError, LedgerUnavailableError) as error:
            hint = "check `database`, that PostgreSQL is running, and that this user may connect"
            return [failed("ledger", str(error), hint)]
        told = (
            f"PostgreSQL {health.server}, {health.size_bytes / 1024**2:,.0f} MiB, migration "
            f"{health.migration} of {len(migrations())}, "
            f"answers in {1000 * health.latency_seconds:.1f} ms"
        )
        slow = health.latency_seconds > SLOW_SECONDS
        hint = "bring the ledger nearer to this machine, or look at its server's load"
        running = ok("daemon", "sensordropd is running") if alive else notice(
            "daemon", "sensordropd is not running on this ledger", "start it: sensordropd"
        )  # fmt: skip
        return [notice("ledger", told, hint) if slow else ok("ledger", told), running]

    def _open_store(self) -> list[Check]:
        """Join the embedded S3 server, or start it for as long as we look."""
        if self._local is None:
            return []
        store = LocalS3(self._local.state / "s3", self._local.objects)
        try:
            self._store = self._stack.enter_context(store)
        except EmbeddedServerError as error:
            hint = "start sensordropd --local on this folder, and read what it says"
            return [failed("embedded S3", str(error), hint)]
        return [ok("embedded S3", f"answers at {store.endpoint_url}")]

    def _folder(self, delivery: DeliveryConfig, sandbox: Sandbox | None) -> Folder:
        """Look at a folder with the eyes of the service, where it is its configuration."""
        root = str(delivery.local_directory)
        ours = is_the_services(self._config or default_path(os.environ))
        service = sandbox if ours else None
        all_of_it = service is not None and service.reads_everything and os.geteuid() == 0
        reader = f"user {service.user} with its capability" if service and all_of_it else None
        # Root stands in for one that may read everything. No thread of ours runs yet that would
        # change its user too.
        with as_service(None if all_of_it else service):
            seen = look_at_folder(root, delivery.watch, POLLING_SECONDS, reader=reader)
        with as_service(service):
            taken = look_at_after_verified(root, delivery.after_verified, sandbox)
        return replace(seen, checks=(*seen.checks, *taken))

    def _bucket(self, delivery: DeliveryConfig, book: CapabilityBook) -> list[Check]:
        if self._local is not None and self._store is None:
            return []  # told already
        destination = S3Destination(s3_settings(delivery, self._store), book)
        checks = list(destination.preflight(delivery.s3_prefix))
        if first_failure(checks) is None:
            checks.append(destination.leftovers(delivery.s3_prefix))
        return checks


def _versions() -> Check:
    curl = pycurl.version_info()[1]
    return ok(
        "versions",
        f"sensordrop {VERSION}, Python {platform.python_version()}, boto3 {boto3.__version__}, "
        f"libcurl {curl}, {platform.system()} {platform.release()}",
    )


def _mistake(words: str) -> Check:
    return failed("configuration", words, "correct it; docs/configuration.md has every key")


def _configuration(
    configuration: Configuration, notices: tuple[Notice, ...], only: str | None, *, found: bool
) -> list[Check]:
    names = [d.name for d in configuration.deliveries]
    if not found:
        return [
            failed("configuration", f"there is no delivery {only!r}", f"one of {', '.join(names)}")
        ]
    count = "1 delivery" if len(names) == 1 else f"{len(names)} deliveries"
    told = [ok("configuration", f"is right: {count} ({', '.join(names)})")]
    return told + [notice("configuration", str(each)) for each in notices]


def _delivery(
    delivery: DeliveryConfig, folders: dict[str, Folder], buckets: dict[str, list[Check]]
) -> list[Check]:
    if not delivery.enabled:
        return [notice("enabled", "no: it is neither swept nor watched nor uploaded")]
    return [*folders[delivery.name].checks, *buckets[delivery.name]]
