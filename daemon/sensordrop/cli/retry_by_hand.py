"""The half of `sensordrop retry` that does the work itself, where no daemon would."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sensordrop.cli.asking import find_file, no_delivery
from sensordrop.cli.hand import Chosen, Working, exit_of, hand_place, try_again
from sensordrop.cli.place import Place, hand_station
from sensordrop.config import DeliveryConfig
from sensordrop.config.models import read_setting
from sensordrop.core.batch import Rounds
from sensordrop.core.story import DeliveryPlace
from sensordrop.exits import Exit

if TYPE_CHECKING:
    from sensordrop.adapters.ledger.ledger import PostgresLedger

HIDDEN = "***"
"""What stands for a secret in the ledger's history of configurations."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody wants tried again; `insists`: here and now, though a daemon may be started."""

    delivery: str | None
    session_id: int | None
    paths: Sequence[str]
    insists: bool


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is tried again of one delivery."""

    chosen: Chosen
    session_id: int | None
    paths: Sequence[bytes] | None


def work_of(ledger: PostgresLedger, place: Place, wanted: Wanted) -> list[Work]:
    """Say what is to be done by hand; nothing where a daemon does it, now or when it is started.

    Raises UsageError where it can't be known how.
    """
    ours = place.station or hand_station()
    places = [p for p in ledger.delivery_places(ours) if p.station in (None, ours)]
    if wanted.delivery is not None:
        chosen = [p for p in places if p.name == wanted.delivery]
        if not chosen:
            raise no_delivery(wanted.delivery, [p.name for p in places])
        places = chosen
    paths: dict[int, list[bytes]] | None = None
    if wanted.session_id is not None:
        lines = ledger.list_sessions([], session_id=wanted.session_id, most=1)
        places = [p for p in places if lines and p.delivery_id == lines[0].delivery_id]
    if wanted.paths:
        paths = _paths(ledger, places, wanted.paths)
        places = [p for p in places if p.delivery_id in paths]
    elif wanted.session_id is None:
        places = [p for p in places if ledger.failed_now(p.delivery_id)]
    for each in places:
        if each.daemon_alive or not (
            wanted.insists or not ledger.ever_looked_after(each.delivery_id)
        ):
            return []
    return [
        Work(
            chosen=Chosen(place=hand_place(place), config=_config(ledger, place, each), named=True),
            session_id=wanted.session_id,
            paths=None if paths is None else paths[each.delivery_id],
        )
        for each in places
    ]


def do(works: Sequence[Work], working: Working, rounds: Rounds | None, about: str) -> Exit:
    """Do it, one delivery after the other, and say how the program ends."""
    from sensordrop.by_hand import HandOptions

    worst = Exit.DONE
    for work in works:
        options = HandOptions(
            only_named=work.session_id is None and work.paths is None,
            retry_session=work.session_id,
            retry_paths=work.paths,
        )
        result = working.run(work.chosen, options)
        if rounds is not None:
            result = try_again(working, work.chosen, result, rounds)
        working.display.sum_up(result, about=about)
        code = exit_of(result)
        if code in (Exit.INTERRUPTED, Exit.NO_LEDGER):
            return code
        worst = max(worst, code)
    return worst


def _paths(
    ledger: PostgresLedger, places: Sequence[DeliveryPlace], arguments: Sequence[str]
) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = defaultdict(list)
    for argument in arguments:
        file = find_file(
            lambda place, path: ledger.knows_file(place.delivery_id, path), places, argument
        )
        if file is not None:
            found[file[0].delivery_id].append(file[1])
    return found


def _config(ledger: PostgresLedger, place: Place, target: DeliveryPlace) -> DeliveryConfig:
    """Give the delivery's configuration: what is named here, else what the ledger keeps."""
    for each in place.configured():
        where = (str(each.local_directory), each.bucket_name, each.s3_prefix)
        if where == (target.local_directory, target.bucket_name, target.s3_prefix):
            return each.model_copy(update={"name": target.name})
    kept = ledger.last_settings(target.delivery_id)
    settings = {} if kept is None else kept.configuration
    if not settings or HIDDEN in str(settings):
        raise click.UsageError(
            f"how delivery {target.name} is stored is not all in the ledger (secrets are not): "
            "name its file with --config FILE"
        )
    known = DeliveryConfig.model_fields
    read = {
        key: read_setting(DeliveryConfig, key, value)
        for key, value in settings.items()
        if key in known and value is not None
    }
    return DeliveryConfig.model_validate(read)
