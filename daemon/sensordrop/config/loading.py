"""Puts the configuration together from its sources, and reports every mistake in them at once.

Defaults, then `defaults:` in sensordrop.yaml, the delivery's file, the environment, flags: what
comes later wins. A wrong value is a mistake even where a later source overrides it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from sensordrop.config.collisions import Placed, collisions, placed
from sensordrop.config.documents import read_document
from sensordrop.config.environment import (
    NOTIFY_SECRETS,
    Given,
    Layer,
    Variables,
    daemon_layer,
    delivery_layer,
    endpoint_layer,
    endpoint_secrets,
    read_variables,
)
from sensordrop.config.kinds import NotExpectedError
from sensordrop.config.models import (
    ContradictionError,
    DaemonConfig,
    DeliveryConfig,
    read_setting,
    settings,
)
from sensordrop.config.principals import unknown_clients
from sensordrop.config.problem import (
    ConfigurationError,
    Notice,
    Problem,
    ProblemCode,
    did_you_mean,
)

DAEMON_FILE = "sensordrop.yaml"
DELIVERY_FOLDER = "conf.d"
DELIVERY_SUFFIXES = (".yaml", ".yml", ".json")
COMMAND_LINE = "command line"

DELIVERIES_LIMIT = 1000
"""Most deliveries of one station: each has threads, a watch and a line in every table."""

Model = TypeVar("Model", DaemonConfig, DeliveryConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """A configuration without known mistakes. Deliveries are in the order of their names."""

    daemon: DaemonConfig
    deliveries: tuple[DeliveryConfig, ...]
    source: Path | None
    """The folder or the one file that it was read from; None: flags and environment alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explained:
    """A configuration with where its values were given; what was not is a default."""

    configuration: Configuration
    notices: tuple[Notice, ...]
    daemon: Mapping[str, Given]
    deliveries: Mapping[str, Mapping[str, Given]]
    """By the deliveries' names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Salvage:
    """What can be read of a configuration with mistakes, for those who only ask for the daemon."""

    daemon: DaemonConfig
    problems: tuple[Problem, ...]
    where: bool
    """What it says of the ledger's place is whole. Where not, a default stands for what was meant."""
    who: bool
    """So is what it says of the station."""


LEDGER_KEYS = frozenset({"database", "state_directory"})
STATION_KEYS = LEDGER_KEYS | {"station"}


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
    delivery_flags: Mapping[str, object] | None = None,
    allow_relative: bool = False,
    deliveries_required: bool = False,
) -> tuple[Configuration, tuple[Notice, ...]]:
    """Read the configuration.

    `path` is a configuration folder (sensordrop.yaml, which may be absent, and conf.d/), one
    delivery's file, or None. Without any delivery file, a `local_directory` in the environment or
    among the flags makes one delivery. `flags` are daemon keys and `delivery_flags` delivery keys
    from the command line, for every delivery; None values are not given. `allow_relative` takes
    a `local_directory` relative to the working directory. `deliveries_required` makes it a
    mistake that there is none.

    Blocks on the disk. Raises ConfigurationError with all problems.
    """
    loader = _Loader(
        environ=environ,
        flags=_flag_layer(flags),
        delivery_flags=_flag_layer(delivery_flags),
        allow_relative=allow_relative,
    )
    explained = _explained(loader, path, deliveries_required=deliveries_required)
    return explained.configuration, explained.notices


def explain(
    path: Path | None, *, environ: Mapping[str, str], deliveries_required: bool = False
) -> Explained:
    """Read the configuration as `load` does, and tell where each value was given."""
    loader = _Loader(environ=environ, flags={}, delivery_flags={}, allow_relative=False)
    return _explained(loader, path, deliveries_required=deliveries_required)


def _explained(loader: _Loader, path: Path | None, *, deliveries_required: bool) -> Explained:
    configuration = loader.run(path, deliveries_required=deliveries_required)
    problems = tuple({str(problem): problem for problem in loader.problems}.values())
    if problems:
        raise ConfigurationError(problems)
    return Explained(
        configuration=configuration,
        notices=tuple({str(notice): notice for notice in loader.notices}.values()),
        daemon=loader.given_to_daemon,
        deliveries=loader.given_to_deliveries,
    )


def salvage(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
    more: Sequence[Problem] = (),
) -> Salvage:
    """Read what can be read of the daemon's keys in a configuration that `load` refused.

    `more` are mistakes that were found beside it, in credentials. Raises ConfigurationError where
    it is the command line that is wrong: who named the configuration, or the ledger, is there to
    mend it. Blocks on the disk.
    """
    loader = _Loader(environ=environ, flags=_flag_layer(flags), delivery_flags={},
                     allow_relative=True)  # fmt: skip
    daemon = loader.run(path, deliveries_required=False).daemon
    problems = tuple({str(problem): problem for problem in [*more, *loader.problems]}.values())
    if loader.misnamed or any(problem.file == COMMAND_LINE for problem in problems):
        raise ConfigurationError(problems)
    doubtful = loader.doubtful | ({"*"} if more else set())
    return Salvage(
        daemon=daemon,
        problems=problems,
        where=not doubtful & {"*", *LEDGER_KEYS}
        or _is_named(loader.given_to_daemon.get("database"), doubtful),
        who=not doubtful & {"*", *STATION_KEYS},
    )


def _is_named(database: Given | None, doubtful: AbstractSet[str]) -> bool:
    """Tell whether a database is named that nothing else that may be wrong could change."""
    if database is None or database.value == "embedded":
        return False
    return "database" not in doubtful or database.file == COMMAND_LINE


def state_directory_of(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Say where a daemon on this configuration keeps its state, whatever else is wrong with it.

    Blocks on the disk. Where the very key is wrong, it is the default.
    """
    loader = _Loader(environ=environ, flags={}, delivery_flags={}, allow_relative=True)
    return loader.run(path, deliveries_required=False).daemon.state_directory


def _flag_layer(flags: Mapping[str, object] | None) -> Layer:
    return {
        key: Given(value=value, file=COMMAND_LINE, key="--" + key.replace("_", "-"))
        for key, value in (flags or {}).items()
        if value is not None
    }


@dataclass(kw_only=True, slots=True)
class _Sources:
    """What was found on disk: the daemon's keys, and the files of deliveries with their labels."""

    daemon: dict[str, object] = field(default_factory=dict)
    deliveries: list[tuple[Path, str]] = field(default_factory=list)
    folder: Path | None = None
    """Where `.env` may be."""


def _is_absent(path: Path) -> bool:
    """Tell whether there is nothing; what may not be looked at is something."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return False
    return False


_WHERE_TO_BEGIN = (
    "make it (docs/QUICKSTART.md, step 5), name another with --config PATH, "
    "or try sensordropd --local FOLDER"
)


class _Loader:
    """One load: gathers problems and notices while it goes on as far as it can."""

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        flags: Layer,
        delivery_flags: Layer,
        allow_relative: bool,
    ) -> None:
        self.problems: list[Problem] = []
        self.notices: list[Notice] = []
        self.given_to_daemon: Layer = {}
        self.given_to_deliveries: dict[str, Layer] = {}
        self.misnamed = False
        """The path is not that of a configuration."""
        self.doubtful: set[str] = set()
        """Keys of the daemon of which is not known what was meant; `*`: any may be."""
        self._environ = environ
        self._flags = flags
        self._delivery_flags = delivery_flags
        self._allow_relative = allow_relative
        self._placed: list[Placed] = []
        self._delivered: list[DeliveryConfig] = []

    def run(self, path: Path | None, *, deliveries_required: bool) -> Configuration:
        """Load as far as it goes; what it gives is only right if there were no problems."""
        sources = self._find(path)
        known = len(self.problems)
        variables = read_variables(sources.folder, self._environ, self.problems)
        self._doubt(self.problems[known:])
        defaults = self._defaults(sources.daemon.pop("defaults", None))
        daemon = self._daemon(sources.daemon, variables)
        self._deliveries(sources.deliveries, defaults, variables)
        self._take_secrets(variables)
        missing = path is not None and _is_absent(path)  # that is told, and is all there is to say
        if deliveries_required and not (sources.deliveries or self._placed or missing):
            self._no_delivery(path)
        self.problems += collisions(daemon, self._placed)
        deliveries = sorted(self._delivered, key=lambda one: one.name)
        self._notice_unknown_clients(daemon, deliveries)
        return Configuration(daemon=daemon, deliveries=tuple(deliveries), source=path)

    def _take_secrets(self, variables: Variables) -> None:
        """Give endpoints and notifications what does not stand in the deliveries' files."""
        secrets = endpoint_secrets(variables, self.problems)
        notify = endpoint_secrets(variables, self.problems, NOTIFY_SECRETS)
        self._delivered = [_with_secrets(one, secrets, notify) for one in self._delivered]
        for one in self._delivered:
            if one.notify is not None and not one.notify.url:
                given = self.given_to_deliveries[one.name]["notify"]
                self.problems.append(
                    Problem(
                        file=given.file,
                        key=given.key,
                        what="has no url",
                        suggestion="add url: https://…, or put it into the credential notify_url",
                        code=ProblemCode.MISSING,
                    )
                )

    def _notice_unknown_clients(
        self, daemon: DaemonConfig, deliveries: Sequence[DeliveryConfig]
    ) -> None:
        key = "control_principals"
        given = self.given_to_daemon.get(key)
        if given is None:
            return
        for line in unknown_clients(daemon.control_principals, (one.client for one in deliveries)):
            self.notices.append(Notice(file=given.file, key=given.key, message=line))

    # --- what is on disk ------------------------------------------------------------------

    def _find(self, path: Path | None) -> _Sources:
        if path is None:
            return _Sources()
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises without permission
            return self._find_in_folder(path)
        if _is_absent(path):
            self.misnamed = True
            self._unusable(str(path), "there is no such folder or file", _WHERE_TO_BEGIN)
            return _Sources()
        if path.name == DAEMON_FILE:
            self.misnamed = True
            self._unusable(str(path), "is the daemon's file", f"name its folder: {path.parent}")
            return _Sources()
        return _Sources(deliveries=[(path, str(path))], folder=path.parent)

    def _find_in_folder(self, folder: Path) -> _Sources:
        sources = _Sources(folder=folder)
        names = self._names(folder, str(folder))
        if DAEMON_FILE in names:
            daemon = read_document(folder / DAEMON_FILE, DAEMON_FILE, self.problems)
            sources.daemon = daemon or {}
        self._doubt(self.problems)
        if DELIVERY_FOLDER in names:
            for name in self._names(folder / DELIVERY_FOLDER, DELIVERY_FOLDER):
                self._sort_in(folder, name, sources)
        strays = [name for name in names if _is_delivery_file(name) and name != DAEMON_FILE]
        lost = not {DAEMON_FILE, DELIVERY_FOLDER} & set(names)
        for name in strays:
            if Path(name).stem == Path(DAEMON_FILE).stem:
                self.doubtful.add("*")
                self._unusable(name, "is not read", f"rename it to {DAEMON_FILE}")
            elif lost:
                self._unusable(name, "is not read", _WHERE_DELIVERIES_GO)
            else:
                self._not_read(name, f"delivery files go into {DELIVERY_FOLDER}/")
        return sources

    def _sort_in(self, folder: Path, name: str, sources: _Sources) -> None:
        label = f"{DELIVERY_FOLDER}/{name}"
        if _is_delivery_file(name):
            sources.deliveries.append((folder / DELIVERY_FOLDER / name, label))
        elif not name.startswith((".", "README")) and not name.endswith(".example"):
            self._not_read(label, "its name does not end in " + ", ".join(DELIVERY_SUFFIXES))

    def _names(self, folder: Path, label: str) -> list[str]:
        try:
            return sorted(os.listdir(folder))  # noqa: PTH208 - names are what is wanted
        except OSError as error:
            self.problems.append(
                Problem(
                    file=label,
                    what=f"can't be read: {(error.strerror or str(error)).lower()}",
                    expected="a readable folder",
                    suggestion="let the daemon's user read it",
                    code=ProblemCode.UNREADABLE,
                )
            )
            return []

    def _unusable(self, label: str, what: str, suggestion: str) -> None:
        self.problems.append(
            Problem(
                file=label,
                what=what,
                expected=f"{DAEMON_FILE} and {DELIVERY_FOLDER}/",
                suggestion=suggestion,
                code=ProblemCode.UNKNOWN,
            )
        )

    def _not_read(self, label: str, why: str) -> None:
        self.notices.append(Notice(file=label, message=f"is not read: {why}"))

    def _no_delivery(self, path: Path | None) -> None:
        self.problems.append(
            Problem(
                file=COMMAND_LINE if path is None else str(path),
                what="there is no delivery",
                expected="at least one delivery",
                suggestion=f"put a file like north.yaml into {(path or Path()) / DELIVERY_FOLDER}/, "
                "with at least local_directory and bucket_name",
                code=ProblemCode.MISSING,
            )
        )

    # --- what it says ---------------------------------------------------------------------

    def _defaults(self, value: object) -> Layer:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problems.append(
                Problem(
                    file=DAEMON_FILE,
                    key="defaults",
                    value=value,
                    expected="a mapping of delivery keys to values",
                )
            )
            return {}
        return {
            str(key): Given(value=item, file=DAEMON_FILE, key=f"defaults.{key}")
            for key, item in value.items()
        }

    def _doubt(self, problems: Sequence[Problem]) -> None:
        """Take note that what says where the daemon's things are can't be read to its end."""
        if problems:
            self.doubtful.add("*")
        if {problem.code for problem in problems} & {ProblemCode.DUPLICATE, ProblemCode.CONFLICT}:
            self.doubtful.add("database")  # what stands there may be the one that is not meant

    def _daemon(self, document: Mapping[str, object], variables: Variables) -> DaemonConfig:
        known = len(self.problems)
        layers = [
            _document_layer(document, DAEMON_FILE),
            daemon_layer(variables, self.problems),
            self._flags,
        ]
        self._doubt(self.problems[known:])
        merged, wrong = self._merge(DaemonConfig, layers, DAEMON_FILE)
        self.doubtful |= wrong
        if any(key not in settings(DaemonConfig) for layer in layers for key in layer):
            self.doubtful.add("*")  # it may be any key, misspelt
        self.given_to_daemon = dict(merged)
        return self._build(DaemonConfig, merged, wrong)

    def _deliveries(
        self, files: Sequence[tuple[Path, str]], defaults: Layer, variables: Variables
    ) -> None:
        below = [endpoint_layer(variables), defaults]
        above = [delivery_layer(variables, self.problems), self._delivery_flags]
        if len(files) > DELIVERIES_LIMIT:
            self._unusable(
                DELIVERY_FOLDER,
                f"has {len(files)} deliveries, more than {DELIVERIES_LIMIT}",
                "use another station",
            )
            return
        if not files:
            self._delivery_without_file(below, above)
        for path, label in files:
            document = read_document(path, label, self.problems)
            if document is not None:
                layers = [*below, _document_layer(document, label), *above]
                self._delivery(layers, label, path.stem)

    def _delivery_without_file(self, below: list[Layer], above: list[Layer]) -> None:
        roots = [layer["local_directory"] for layer in above if "local_directory" in layer]
        if roots:
            name = re.sub(r"[^\w. -]", "-", Path(str(roots[-1].value)).name)[:63].lstrip("-._ ")
            self._delivery([*below, *above], roots[-1].file, name or "delivery")
            return
        # Nobody asked for a delivery, but a mistake in what would make one is a mistake.
        for layer in (*below, *above):
            self._read(DeliveryConfig, layer)

    def _delivery(self, layers: list[Layer], label: str, stem: str) -> None:
        if not any("name" in layer for layer in layers):
            layers = [{"name": Given(value=stem, file=label, key="name")}, *layers]
        merged, wrong = self._merge(DeliveryConfig, layers, label)
        if "name" in merged:
            self.given_to_deliveries[str(merged["name"].value)] = dict(merged)
        values = {key: given.value for key, given in merged.items()}
        self._placed.append(placed(values, wrong, label))
        if not _required(DeliveryConfig) - merged.keys():
            self._delivered.append(self._build(DeliveryConfig, merged, wrong))

    def _merge(
        self, model: type[Model], layers: Iterable[Layer], label: str
    ) -> tuple[Layer, set[str]]:
        """Merge what is right in the layers; name the keys that are wrong somewhere."""
        merged: Layer = {}
        wrong: set[str] = set()
        for layer in layers:
            good, bad = self._read(model, layer)
            merged |= good
            wrong |= bad
        for key in sorted(_required(model) - merged.keys() - wrong):
            expected = settings(model)[key].kind.expected
            self.problems.append(
                Problem(
                    file=label,
                    key=key,
                    what=f"is missing: expected {expected}",
                    expected=expected,
                    code=ProblemCode.MISSING,
                )
            )
        return merged, wrong

    def _build(self, model: type[Model], merged: Layer, wrong: set[str]) -> Model:
        try:
            return model.model_validate({key: given.value for key, given in merged.items()})
        except ValidationError as error:
            reason = error.errors()[0].get("ctx", {}).get("error")
            if not isinstance(reason, ContradictionError):
                raise
        for finding in reason.findings:
            key = finding.keys[0]
            given = merged.pop(key)  # without it the rest can be checked further
            if not wrong.intersection(finding.keys):
                self.problems.append(
                    Problem(
                        file=given.file,
                        key=given.key,
                        value=settings(model)[key].kind.public(given.value),
                        what=finding.what,
                        expected=finding.expected,
                        suggestion=finding.suggestion,
                        code=ProblemCode.CONFLICT,
                    )
                )
        return self._build(model, merged, wrong)

    def _read(self, model: type[Model], layer: Layer) -> tuple[Layer, set[str]]:
        """Read the values of a layer: those that are right, and the keys of those that are not."""
        good: Layer = {}
        bad: set[str] = set()
        for key, given in layer.items():
            if key not in settings(model):
                self.problems.append(_unknown_key(model, key, given))
                continue
            value = given.value
            if key == "local_directory" and self._allow_relative:
                value = _from_here(value)
            try:
                good[key] = replace(given, value=read_setting(model, key, value))
            except NotExpectedError as error:
                bad.add(key)
                kind = settings(model)[key].kind
                self.problems.append(
                    Problem(
                        file=given.file,
                        key=given.key,
                        value=kind.public(value),
                        expected=kind.expected,
                        suggestion=error.suggestion,
                    )
                )
        return good, bad


_WHERE_DELIVERIES_GO = f"delivery files go into a folder {DELIVERY_FOLDER}/ of the configuration"


def _with_secrets(
    delivery: DeliveryConfig, secrets: Mapping[str, Any], notify: Mapping[str, Any]
) -> DeliveryConfig:
    update: dict[str, Any] = {}
    if delivery.endpoint is not None:
        update["endpoint"] = delivery.endpoint.with_secrets(**secrets)
    if delivery.notify is not None:
        url = delivery.notify.url or notify["url"] or ""
        rest = {key: value for key, value in notify.items() if key != "url"}
        update["notify"] = replace(delivery.notify.with_secrets(**rest), url=url)
    return delivery.model_copy(update=update) if update else delivery


def _required(model: type[Model]) -> set[str]:
    return {key for key, info in model.model_fields.items() if info.is_required()}


def _is_delivery_file(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(DELIVERY_SUFFIXES)


def _document_layer(document: Mapping[str, object], label: str) -> Layer:
    return {key: Given(value=value, file=label, key=key) for key, value in document.items()}


def _from_here(value: object) -> object:
    """Make a relative path absolute; what is none, or has no place to be relative to, stays."""
    if not isinstance(value, str | Path) or not str(value):
        return value
    if str(value).startswith("~"):
        return value
    try:
        return os.path.abspath(value)  # noqa: PTH100 - `..` is resolved on purpose
    except OSError:  # the working directory is gone
        return value


def _unknown_key(model: type[Model], key: str, given: Given) -> Problem:
    daemon_keys = [*settings(DaemonConfig), "defaults"]
    delivery_keys = list(settings(DeliveryConfig))
    if model.__name__ == DaemonConfig.__name__:
        owner, known, others = "the daemon", daemon_keys, delivery_keys
        there = f"it belongs in a delivery's file or under 'defaults:' in {DAEMON_FILE}"
    else:
        owner, known, others = "a delivery", delivery_keys, daemon_keys
        there = f"it belongs in {DAEMON_FILE}"
    return Problem(
        file=given.file,
        key=given.key,
        what=f"is not a key of {owner}",
        expected=f"a key of {owner}",
        suggestion=there if key in others else did_you_mean(key, known),
        code=ProblemCode.UNKNOWN,
    )
