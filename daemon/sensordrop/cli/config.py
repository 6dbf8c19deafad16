"""`sensordrop config`: is the configuration right, what is it, and what may stand in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import click

from sensordrop.cli.place import is_the_services, place_of
from sensordrop.config import (
    Configuration,
    ConfigurationError,
    DaemonConfig,
    DeliveryConfig,
    Explained,
    Given,
    Problem,
    default_path,
    explain,
    take_credentials,
)
from sensordrop.config.models import settings
from sensordrop.core.check import CheckOutcome
from sensordrop.core.failure import LedgerRefusedError, LedgerUnavailableError
from sensordrop.core.reload import Reload, plan_reload, reload_words
from sensordrop.core.terminal import printable
from sensordrop.exits import Exit

EXAMPLES = {
    "daemon": "sensordrop.yaml.example",
    "delivery": "highlands-c2.yaml.example",
    "own-store": "coast-own-store.yaml.example",
    "older-format": "older-format.json.example",
}
"""The shipped examples, by what they are of."""

_CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Configuration folder or one delivery's file. "
    "Default: $SENSORDROP_CONFIG, then /etc/sensordrop.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def command() -> None:
    """Check the configuration, show it as it is merged, or print an example.

    Example:  sensordrop config check
    """


@command.command()
@_CONFIG
@_JSON
def check(config: Path | None, as_json: bool) -> None:
    """Say what is wrong with the configuration, and what a reload would change.

    All mistakes at once, each with file, key, value and what was expected; the exit code is 2 then.
    Secrets are not compared with what the daemon runs on.

    Example:  sensordrop config check --config /etc/sensordrop
    """
    path = config or default_path(os.environ)
    try:
        explained = _explain(path)
    except ConfigurationError as error:
        _refuse(error, as_json)
    configuration = explained.configuration
    warnings = _folders_not_writable(configuration, path)
    reload, why_not = _compared(explained)
    if as_json:
        told = {
            "problems": [],
            "notices": [str(notice) for notice in explained.notices],
            "warnings": warnings,
            "deliveries": [delivery.name for delivery in configuration.deliveries],
            "reload": None if reload is None else _reload_told(reload),
        }
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    for line in [*(f"notice: {notice}" for notice in explained.notices), *warnings]:
        click.echo(printable(line), err=True)
    names = [delivery.name for delivery in configuration.deliveries]
    what = "1 delivery" if len(names) == 1 else f"{len(names)} deliveries"
    click.echo(printable(f"the configuration is right: {what} ({', '.join(names)})"))
    words = why_not if reload is None else f"a reload would change: {reload_words(reload)}"
    click.echo(printable(words))


@command.command()
@_CONFIG
@click.option("--delivery", metavar="NAME", help="This delivery alone.")
@_JSON
def show(config: Path | None, delivery: str | None, as_json: bool) -> None:
    """Show all settings in force, each with where it comes from. Secrets are masked.

    Example:  sensordrop config show --delivery highlands-c2
    """
    path = config or default_path(os.environ)
    try:
        explained = _explain(path)
    except ConfigurationError as error:
        _refuse(error, as_json)
    chosen = [
        each
        for each in explained.configuration.deliveries
        if delivery is None or each.name == delivery
    ]
    if delivery is not None and not chosen:
        click.echo(f"there is no delivery {printable(delivery)} in {path}", err=True)
        sys.exit(Exit.USAGE)
    told: dict[str, Any] = {
        "daemon": _settings_told(explained.configuration.daemon, explained.daemon),
        "deliveries": {
            each.name: _settings_told(each, explained.deliveries[each.name]) for each in chosen
        },
    }
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    if delivery is None:
        _show_settings("the daemon", told["daemon"])
    for name, each in told["deliveries"].items():
        _show_settings(f"delivery {name}", each)


@command.command()
@click.argument("of", type=click.Choice(list(EXAMPLES)), default="delivery")
@_JSON
def example(of: str, as_json: bool) -> None:
    """Print a commented example: of a delivery, the daemon's file, a store of your own, or the older format.

    Example:  sensordrop config example delivery > /etc/sensordrop/conf.d/north.yaml
    """
    name = EXAMPLES[of]
    text = files("sensordrop").joinpath("examples", name).read_text(encoding="utf-8")
    if as_json:
        click.echo(json.dumps({"name": name.removesuffix(".example"), "text": text}))
    else:
        click.echo(text, nl=False)


def _explain(path: Path) -> Explained:
    take_credentials(path, os.environ)
    return explain(path, environ=os.environ, deliveries_required=True)


def _refuse(error: ConfigurationError, as_json: bool) -> NoReturn:
    """Tell every problem, and end the program."""
    if as_json:
        told = {
            "problems": [_problem_told(problem) for problem in error.problems],
            "notices": [],
            "warnings": [],
            "deliveries": [],
            "reload": None,
        }
        click.echo(json.dumps(told, ensure_ascii=False, default=str))
    else:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        count = len(error.problems)
        click.echo(f"{count} problem{'s' * (count != 1)} in the configuration", err=True)
    sys.exit(Exit.USAGE)


def _problem_told(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "key": problem.key or None,
        "value": problem.value,
        "expected": problem.expected or None,
        "suggestion": problem.suggestion or None,
        "code": problem.code.value,
        "line": str(problem),
    }


def _settings_told(
    model: DaemonConfig | DeliveryConfig, given: Mapping[str, Given]
) -> dict[str, Any]:
    values = model.public_dict()
    return {
        key: {"value": values[key], "from": _origin(given.get(key))}
        for key in settings(type(model))
    }


def _origin(given: Given | None) -> dict[str, str] | None:
    """Say where a value was given; None: it is the default."""
    return None if given is None else {"file": given.file, "key": given.key}


def _show_settings(title: str, told: Mapping[str, Any]) -> None:
    click.echo(f"# {printable(title)}")
    for key, each in told.items():
        origin = each["from"]
        where = "default" if origin is None else f"{origin['file']}: {origin['key']}"
        value = json.dumps(each["value"], ensure_ascii=False, default=str)
        click.echo(printable(f"{key}: {value}  # {where}"))


def _reload_told(reload: Reload) -> dict[str, Any]:
    return {
        "added": list(reload.added),
        "removed": list(reload.removed),
        "changed": {name: list(keys) for name, keys in reload.changed.items()},
        "moved": list(reload.moved),
        "daemon": list(reload.daemon),
        "needs_restart": list(reload.needs_restart),
    }


def _folders_not_writable(configuration: Configuration, path: Path) -> list[str]:
    """Find the deliveries whose `after_verified` the service could not do."""
    from sensordrop.adapters.places import look_at_after_verified
    from sensordrop.adapters.service_user import as_service
    from sensordrop.adapters.unit import sandbox_of_unit

    asking = [d for d in configuration.deliveries if d.enabled and d.after_verified != "keep"]
    if not asking:
        return []
    sandbox = sandbox_of_unit()
    found = []
    for delivery in asking:
        root = str(delivery.local_directory)
        with as_service(sandbox if is_the_services(path) else None):
            taken = look_at_after_verified(root, delivery.after_verified, sandbox)
        for each in taken:
            if each.outcome is CheckOutcome.FAILED:
                hint = f" — {each.hint}" if each.hint else ""
                found.append(f"{delivery.name}: after_verified: {each.words}{hint}")
    return found


def _compared(explained: Explained) -> tuple[Reload | None, str]:
    """Say what a reload would change; None and why it can't be told."""
    configuration = explained.configuration
    place = place_of(configuration.daemon)
    if place.station is None:
        return None, "what a reload would change is not known: the station has no name here yet"
    embedded = configuration.daemon.database == "embedded"
    if embedded and not _is_there(place.directory / "data" / "postmaster.pid"):
        return None, "no daemon of this user runs on it: it holds from the next start on"
    from sensordrop.adapters.logs import configure
    from sensordrop.adapters.processes import EmbeddedServerError
    from sensordrop.composition.ledgers import open_ledger

    configure("console", "error")
    try:
        with open_ledger(
            configuration.daemon, directory=place.directory, as_service=True
        ) as ledger:
            in_force = ledger.configuration_in_force(place.station)
    except (LedgerUnavailableError, LedgerRefusedError, EmbeddedServerError) as error:
        return None, f"what a reload would change is not known: {error}"
    if in_force is None:
        return None, "no daemon runs on it: it holds from the next start on"
    wanted = {each.name: _plain(each) for each in configuration.deliveries}
    daemon = _plain(configuration.daemon)
    if "log_format" not in explained.daemon:
        # Nothing says it but the command line of the daemon (the unit's), which a reload keeps.
        daemon["log_format"] = in_force.daemon.get("log_format", daemon["log_format"])
    return plan_reload(
        daemon=(in_force.daemon, daemon),
        deliveries=(in_force.deliveries, wanted),
    ), ""


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except PermissionError:
        return False


def _plain(model: DaemonConfig | DeliveryConfig) -> dict[str, Any]:
    """Give what the ledger keeps of a configuration."""
    plain: dict[str, Any] = json.loads(json.dumps(model.public_dict(), default=str))
    return plain
