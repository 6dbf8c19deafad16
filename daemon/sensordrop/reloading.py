"""Puts another configuration in force while the daemon runs: all of it, or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from sensordrop.config import (
    Configuration,
    ConfigurationError,
    DaemonConfig,
    DeliveryConfig,
    Notice,
)
from sensordrop.core.controls import Control, pause_words
from sensordrop.core.reload import Reload, plan_reload, reload_words
from sensordrop.engine.delivery import Delivery
from sensordrop.engine.roster import Roster
from sensordrop.ports.ledger import Ledger
from sensordrop.ports.life import ReloadOutcome
from sensordrop.ports.records import DeliveryBinding

Load = Callable[[], tuple[Configuration, tuple[Notice, ...]]]
"""Reads the configuration as the start did. Raises ConfigurationError."""

_log = structlog.get_logger()


def plan_of(before: Configuration, after: Configuration) -> Reload:
    """Say what it takes to get from one configuration to another."""
    return plan_reload(
        daemon=(dict(before.daemon), dict(after.daemon)),
        deliveries=(_by_name(before), _by_name(after)),
    )


def _by_name(configuration: Configuration) -> dict[str, Mapping[str, object]]:
    return {delivery.name: dict(delivery) for delivery in configuration.deliveries}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the reloading works on and with. `bind` and `maker` do what the start did."""

    ledger: Ledger
    roster: Roster
    daemon_id: Callable[[], int]
    bind: Callable[[DeliveryConfig], DeliveryBinding]
    maker: Callable[[Configuration], Callable[[DeliveryConfig, int], Delivery]]
    """Gives what makes the deliveries of a configuration, of their settings and ids."""
    configure: Callable[[Configuration, Sequence[Delivery], Sequence[Control]], None]
    """Puts in force what is not a delivery's own: limits, the least that is logged."""
    wake: Sequence[Callable[[], None]]


class Reloading:
    """The configuration in force, and how another one takes its place."""

    def __init__(self, configuration: Configuration, load: Load) -> None:
        self.configuration = configuration
        """Replaced as a whole; read it while you hold `lock` to write it into the ledger."""
        self.lock = threading.Lock()
        self._load = load
        self._generation = 0

    def reload(self, parts: Parts) -> ReloadOutcome:
        """Read the configuration and put it in force. Raises LedgerUnavailableError; then, and
        where it has a mistake, nothing is different.
        """
        try:
            wanted, notices = self._load()
        except ConfigurationError as error:
            return ReloadOutcome(problems=tuple(str(problem) for problem in error.problems))
        for notice in notices:
            _log.warning("configuration_notice", notice=str(notice))
        before = self.configuration
        plan = plan_of(before, wanted)
        kept = {key: getattr(before.daemon, key) for key in plan.needs_restart}
        after = replace(wanted, daemon=_with(wanted.daemon, kept))
        with self.lock:
            ids = parts.ledger.rebind(
                daemon_id=parts.daemon_id(),
                bindings=[parts.bind(config) for config in after.deliveries],
                daemon_configuration=after.daemon.public_dict(),
            )
            controls = parts.ledger.controls(parts.daemon_id(), list(ids.values()))
            self._put_in_force(parts, after, plan, ids, controls)
            self.configuration = after  # last: what broke off before is done whole by the next try
        return ReloadOutcome(changes=reload_words(plan), needs_restart=plan.needs_restart)

    def _put_in_force(
        self,
        parts: Parts,
        configuration: Configuration,
        plan: Reload,
        ids: Mapping[str, int],
        controls: Sequence[Control],
    ) -> None:
        self._generation += 1
        before = {delivery.name: delivery for delivery in parts.roster.now}
        make = parts.maker(configuration)
        now = []
        for config in configuration.deliveries:
            old, delivery_id = before.get(config.name), ids[config.name]
            if old is None or config.name in plan.changed or old.delivery_id != delivery_id:
                now.append(self._anew(make(config, delivery_id), old, controls))
            else:
                now.append(old)
        # Limits and pauses hold before the first byte.
        parts.configure(configuration, now, controls)
        if tuple(now) != parts.roster.now:
            parts.roster.replace(now)
        for wake in parts.wake:
            wake()

    def _anew(
        self, delivery: Delivery, old: Delivery | None, controls: Sequence[Control]
    ) -> Delivery:
        """Give a new delivery what outlasts its configuration: pauses, and what is counted."""
        delivery.generation = self._generation
        delivery.session_open = delivery.settings.enabled  # perhaps; the scout finds out
        delivery.paused_reason = pause_words(controls, delivery.delivery_id)
        if old is not None and _labels(old) == _labels(delivery):
            delivery.tally = old.tally
        if old is not None and old.delivery_id == delivery.delivery_id:
            delivery.halted = delivery.halt_written = old.halted
        return delivery


def _with(daemon: DaemonConfig, values: Mapping[str, object]) -> DaemonConfig:
    return daemon.model_copy(update=dict(values)) if values else daemon


def _labels(delivery: Delivery) -> tuple[str, str, str]:
    settings = delivery.settings
    return settings.client, settings.project, settings.cycle
