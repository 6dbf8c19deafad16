"""Brings together what `sensordrop verify` needs: configuration, ledger, stores, folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click

from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.ledger.ledger import PostgresLedger
from sensordrop.adapters.local_s3 import LocalS3
from sensordrop.adapters.processes import EmbeddedServerError
from sensordrop.cli.place import Place, find_place, hand_station, ledger_at, place_of
from sensordrop.composition.deliveries import ConfiguredThrottle, binding_of, make_delivery
from sensordrop.config import ConfigurationError, DeliveryConfig
from sensordrop.config.problem import did_you_mean
from sensordrop.core.verification import DeliveryReport
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.verifier import Verifier, VerifyOptions
from sensordrop.exits import Exit
from sensordrop.local import local_environment, local_folder
from sensordrop.ports.storing import Destination
from sensordrop.ports.verifying import DeliveryToVerify, VerifyLedger


class VerifyRun:
    """One run of the verb. What is started for it ends with it."""

    def __init__(
        self,
        *,
        config: Path | None,
        local: Path | None,
        database: str | None,
        progress: Callable[[str], None],
    ) -> None:
        self._config = config
        self._local = None if local is None else local_folder(local).as_it_ran()
        self._database = database
        self._progress = progress
        self._store: LocalS3 | None = None

    def go(self, options: VerifyOptions, *, only: str | None) -> list[DeliveryReport]:
        """Verify what is asked for. Ends the program where there is no ledger, or no such thing."""
        with self.opened() as (place, ledger):
            targets = targets_of(ledger, place, options, only)
            verifier = Verifier(
                ledger=ledger, clock=SystemClock(), options=options, progress=self._progress
            )
            configured = {each.name: each for each in place.deliveries}
            reports = []
            for target in targets:
                report = verifier.verify(target, self.delivery(target, place, configured))
                if _concerns(report, options, configured, only):
                    reports.append(report)
        if not reports and options.sensor is not None:
            raise click.UsageError(f"there is no file of a sensor {options.sensor!r}")
        return reports

    @contextmanager
    def opened(self) -> Iterator[tuple[Place, PostgresLedger]]:
        """Open the ledger, and start the store where it is one of `--local`. Ends the program
        where either is not to be had.
        """
        place = self._place()
        with ExitStack() as stack:
            ledger = stack.enter_context(ledger_at(place))
            ledger.check()
            if self._local is not None:
                store = LocalS3(self._local.state / "s3", self._local.objects)
                try:
                    self._store = stack.enter_context(store)
                except EmbeddedServerError as error:
                    click.echo(str(error), err=True)
                    sys.exit(Exit.FAILED)
            yield place, ledger

    def _place(self) -> Place:
        if self._local is None:
            return find_place(self._config, None, self._database, whole=True)
        try:
            configuration, _ = self._local.configuration(os.environ)
        except ConfigurationError as error:
            for problem in error.problems:
                click.echo(str(problem), err=True)
            sys.exit(Exit.USAGE)
        environment = local_environment(os.environ)
        os.environ.clear()
        os.environ.update(environment)
        return replace(place_of(configuration.daemon), deliveries=configuration.deliveries)

    def delivery(
        self,
        target: DeliveryToVerify,
        place: Place,
        configured: Mapping[str, DeliveryConfig],
    ) -> Delivery | None:
        """Build the delivery as it is configured; None if it is not, or goes elsewhere there."""
        config = configured.get(target.name)
        # Without a daemon's state directory the files are those of this user's runs by hand.
        if config is None or target.station not in (None, place.station or hand_station()):
            return None
        binding = binding_of(config, self._store)
        wanted = (binding.endpoint_url or "", binding.bucket_name, binding.s3_prefix)
        if (target.endpoint_url, target.bucket_name, target.s3_prefix) != wanted:
            return None
        # What is read back comes over the same line as what the daemon sends.
        throttle = ConfiguredThrottle(config, place.config, SystemClock())
        return make_delivery(config, target.delivery_id, self._store, throttle=throttle)

    def destinations(self, place: Place) -> dict[tuple[str, str], Destination]:
        """Build what is configured to be asked, by endpoint ('' for Amazon's own) and bucket."""
        made = {}
        for config in place.deliveries:
            binding = binding_of(config, self._store)
            throttle = ConfiguredThrottle(config, place.config, SystemClock())
            delivery = make_delivery(config, 0, self._store, throttle=throttle)
            made[(binding.endpoint_url or "", binding.bucket_name)] = delivery.settings.destination
        return made


def targets_of(
    ledger: VerifyLedger, place: Place, options: VerifyOptions, only: str | None
) -> list[DeliveryToVerify]:
    """Choose the ledger's deliveries that are meant. Raises UsageError where there is none."""
    known = ledger.deliveries_to_verify(station=place.station, session_id=options.session_id)
    if not known and options.session_id is not None:
        raise click.ClickException(f"there is no session {options.session_id} in the ledger")
    if only is None:
        return known
    chosen = [each for each in known if each.name == only]
    if chosen:
        return chosen
    if options.session_id is not None and known:
        raise click.UsageError(f"session {options.session_id} is one of {known[0].name}")
    names = [each.name for each in known]
    meant = did_you_mean(only, names)
    raise click.UsageError(
        f"the ledger has no delivery {only!r}"
        + (f" — {meant}" if meant else f"; there are: {', '.join(names) or 'none'}")
    )


def _concerns(
    report: DeliveryReport,
    options: VerifyOptions,
    configured: Mapping[str, DeliveryConfig],
    only: str | None,
) -> bool:
    """Tell whether a report is about anything: not one without a file of the sensor that was asked
    for, and not one that was taken out of the configuration before anything was stored.
    """
    empty = not report.files and not any(problem.path for problem in report.problems)
    if options.sensor is not None:
        return not empty
    return not empty or only is not None or report.delivery in configured
