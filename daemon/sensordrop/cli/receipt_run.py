"""Brings together what `sensordrop receipt` needs, and makes the receipts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.finder import WalkFinder
from sensordrop.adapters.receipt_key import receipt_key
from sensordrop.adapters.receipt_page import page
from sensordrop.adapters.receipt_shelf import ReceiptShelf
from sensordrop.adapters.source import FolderSource
from sensordrop.cli.place import Place, receipt_directory
from sensordrop.cli.verify_run import VerifyRun, targets_of
from sensordrop.core.selection import Selection
from sensordrop.engine.card_receipts import Card, CardReceiptMaker
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.receipts import (
    MadeReceipt,
    NoReceiptError,
    ReceiptMaker,
    ReceiptTools,
)
from sensordrop.engine.verifier import VerifyOptions
from sensordrop.ports.receipts import ReceiptLedger
from sensordrop.ports.verifying import DeliveryToVerify
from sensordrop.version import VERSION


class ReceiptRun:
    """One run of the verb. What is started for it ends with it."""

    def __init__(
        self,
        *,
        config: Path | None,
        local: Path | None,
        database: str | None,
        progress: Callable[[str], None],
    ) -> None:
        self._run = VerifyRun(config=config, local=local, database=database, progress=progress)
        self._progress = progress

    def deliveries(
        self, *, only: str | None, sensor: str | None, reread: bool, each_sensor: bool = False
    ) -> list[MadeReceipt]:
        """Make the receipt of each delivery that is meant, or of each of its sensors. Ends the program as `VerifyRun` does.

        Raises NoReceiptError, KeyProblemError, LedgerUnavailableError, OSError.
        """
        with self._run.opened() as (place, ledger):
            maker = ReceiptMaker(self._tools(place, ledger), sensor=sensor, reread=reread)
            configured = {each.name for each in place.deliveries}
            made = []
            known = self._known(place, ledger, only)
            if only is None:
                _see_that_all_are_known(configured, {target.name for target, _ in known})
            for target, delivery in known:
                if only is None and target.name not in configured:
                    continue
                if each_sensor:
                    made += maker.make_each(target, delivery)
                elif receipt := maker.make(target, delivery):
                    made.append(receipt)
        if not made and sensor is not None:
            raise click.UsageError(f"there is no file of a sensor {sensor!r}")
        if not made and each_sensor and known:
            raise NoReceiptError(
                "there is no file, in the folder or on the books: no sensor's receipt"
            )
        if not made:
            raise click.UsageError(
                "no delivery is configured here: name its file, or sensordropd's configuration, "
                "with --config PATH"
            )
        return made

    def card(self, folder: Path, *, only: str | None) -> MadeReceipt:
        """Make the receipt of a card; `only`: compared with this delivery alone."""
        with self._run.opened() as (place, ledger):
            known = self._known(place, ledger, only)
            selection = Selection()
            for target, delivery in known:
                if target.name == only and delivery is not None:
                    selection = Selection(exclude=delivery.settings.rules.selection.exclude)
            root = str(folder.absolute())
            maker = CardReceiptMaker(
                self._tools(place, ledger),
                Card(
                    folder=root,
                    source=FolderSource(root),
                    finder=WalkFinder(),
                    selection=selection,
                ),
                targets={target.delivery_id: target for target, _ in known},
                deliveries={t.delivery_id: each for t, each in known if each is not None},
                only=only,
            )
            return maker.make()

    def _known(
        self, place: Place, ledger: ReceiptLedger, only: str | None
    ) -> list[tuple[DeliveryToVerify, Delivery | None]]:
        configured = {each.name: each for each in place.deliveries}
        return [
            (target, self._run.delivery(target, place, configured))
            for target in targets_of(ledger, place, VerifyOptions(), only)
        ]

    def _tools(self, place: Place, ledger: ReceiptLedger) -> ReceiptTools:
        state = receipt_directory(place)
        shelf = ReceiptShelf(state, receipt_key(state), page)
        return ReceiptTools(
            ledger=ledger,
            clock=SystemClock(),
            progress=self._progress,
            begin=shelf.begin,
            source=FolderSource,
            station=place.station,
            made_by=f"sensordrop {VERSION}",
        )


def _see_that_all_are_known(configured: set[str], known: set[str]) -> None:
    """A verdict on all deliveries must not leave one out that no daemon has begun with."""
    if new := sorted(configured - known):
        raise NoReceiptError(
            f"the ledger does not know {', '.join(new)} yet, so nothing in the folder is stored: "
            "start sensordropd, or name another one with --delivery"
        )
