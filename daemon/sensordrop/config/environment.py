"""What the environment, and a `.env` beside the configuration, say about it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from sensordrop.config.documents import SyntaxMistakeError, parse_yaml, read_text
from sensordrop.config.endpoints import PART_KINDS, read_part
from sensordrop.config.kinds import NotExpectedError
from sensordrop.config.models import DaemonConfig, DeliveryConfig, Setting, settings
from sensordrop.config.problem import Problem, ProblemCode, did_you_mean

PREFIX = "SENSORDROP_"
DELIVERY_PREFIX = "SENSORDROP_DELIVERY_"

CONFIG_VARIABLE = "SENSORDROP_CONFIG"
"""Names the configuration, where no flag does."""
DATABASE_VARIABLE = "SENSORDROP_DATABASE_URL"
"""Another name of SENSORDROP_DATABASE."""
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Count like `endpoint_url` where no file says anything; the first that is set does."""

ENDPOINT_SECRETS = {
    "SENSORDROP_ENDPOINT_TOKEN": "token",
    "SENSORDROP_ENDPOINT_SECRET": "secret",
    "SENSORDROP_ENDPOINT_HEADERS": "headers",
}
"""Parts of `endpoint` for every delivery whose endpoint does not name them itself: secrets that come
as credentials stand in no delivery's file."""
NOTIFY_SECRETS = {
    "SENSORDROP_NOTIFY_URL": "url",
    "SENSORDROP_NOTIFY_TOKEN": "token",
    "SENSORDROP_NOTIFY_SECRET": "secret",
    "SENSORDROP_NOTIFY_HEADERS": "headers",
}
"""The same for `notify`; the addresses of chats' webhooks are secrets too."""

DEFAULT_FOLDER = Path("/etc/sensordrop")


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """A value as it was given, and where: both parts as a problem names them."""

    value: object
    file: str
    key: str


Layer = dict[str, Given]
"""What one source says, by key of the model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """A variable's text and whether it is from the environment itself or from `.env`."""

    text: str
    file: str


Variables = Mapping[str, Variable]


def default_path(environ: Mapping[str, str]) -> Path:
    """Say where the configuration is when no flag names it."""
    return Path(environ.get(CONFIG_VARIABLE) or DEFAULT_FOLDER)


def read_variables(
    folder: Path | None, environ: Mapping[str, str], problems: list[Problem]
) -> dict[str, Variable]:
    """Merge `folder`'s `.env`, if there is one, with the environment, which wins.

    Empty variables count as not set. Blocks on the disk.
    """
    found: dict[str, Variable] = {}
    if folder is not None and os.path.lexists(folder / ".env"):
        text = read_text(folder / ".env", ".env", problems) or ""
        for binding in parse_stream(io.StringIO(text)):
            if binding.error:
                line = binding.original.line + _leading_lines(binding.original.string)
                problems.append(
                    Problem(
                        file=".env",
                        what=f"line {line} can't be understood",
                        expected="lines like NAME=value",
                        suggestion="write NAME=value",
                        code=ProblemCode.SYNTAX,
                    )
                )
            elif binding.key is not None and binding.value:
                found[binding.key] = Variable(text=binding.value, file=".env")
    for key, text in environ.items():
        if text:
            found[key] = Variable(text=text, file="environment")
    return found


def _leading_lines(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


def daemon_layer(variables: Variables, problems: list[Problem]) -> Layer:
    """Give what the variables say about the daemon; unknown SENSORDROP_ variables are problems."""
    layer: Layer = {}
    known = {PREFIX + key.upper(): key for key in settings(DaemonConfig)}
    for name, variable in sorted(variables.items()):
        if not name.startswith(PREFIX) or name.startswith(DELIVERY_PREFIX):
            continue
        if name in known:
            _add(layer, settings(DaemonConfig), known[name], (name, variable), problems)
        elif name not in {CONFIG_VARIABLE, DATABASE_VARIABLE, *ENDPOINT_SECRETS, *NOTIFY_SECRETS}:
            problems.append(_unknown(name, variable))
    _take_database(variables, layer, problems)
    return layer


def _take_database(variables: Variables, layer: Layer, problems: list[Problem]) -> None:
    url = variables.get(DATABASE_VARIABLE)
    if url is None:
        return
    other = layer.get("database")
    if other is not None and other.value != url.text:
        problems.append(
            Problem(
                file=url.file,
                key=DATABASE_VARIABLE,
                what=f"contradicts {other.key}",
                expected="one of the two",
                suggestion=f"unset {other.key}",
                code=ProblemCode.CONFLICT,
            )
        )
    layer["database"] = Given(value=url.text, file=url.file, key=DATABASE_VARIABLE)


def endpoint_secrets(
    variables: Variables, problems: list[Problem], names: Mapping[str, str] = ENDPOINT_SECRETS
) -> dict[str, Any]:
    """Give the parts of every delivery's endpoint that come from elsewhere than its file.

    `names` are the variables, and which part each is.
    """
    found: dict[str, Any] = dict.fromkeys(names.values()) | {"headers": {}}
    for name, part in names.items():
        if name not in variables:
            continue
        variable = variables[name]
        try:
            found[part] = read_part(part, parse_yaml(variable.text).value
                                    if part == "headers" else variable.text)  # fmt: skip
        except (NotExpectedError, SyntaxMistakeError):
            problems.append(
                Problem(
                    file=variable.file,
                    key=name,
                    what="can't be used",
                    expected=PART_KINDS[part].expected,
                    suggestion=f"expected {PART_KINDS[part].expected}",
                )
            )
    return found


def endpoint_layer(variables: Variables) -> Layer:
    """Give what the AWS variables say about the endpoint."""
    for name in ENDPOINT_VARIABLES:
        if name in variables:
            variable = variables[name]
            return {"endpoint_url": Given(value=variable.text, file=variable.file, key=name)}
    return {}


def delivery_layer(variables: Variables, problems: list[Problem]) -> Layer:
    """Give what the variables say about every delivery; unknown ones are problems."""
    layer: Layer = {}
    known = {DELIVERY_PREFIX + key.upper(): key for key in settings(DeliveryConfig)}
    for name, variable in sorted(variables.items()):
        if not name.startswith(DELIVERY_PREFIX):
            continue
        if name not in known:
            problems.append(_unknown(name, variable))
            continue
        _add(layer, settings(DeliveryConfig), known[name], (name, variable), problems)
    return layer


def _add(
    layer: Layer,
    known: Mapping[str, Setting],
    key: str,
    given: tuple[str, Variable],
    problems: list[Problem],
) -> None:
    """Take a variable into the layer as a key's value; a list or a mapping is written as in YAML."""
    name, variable = given
    value: object = variable.text
    if known[key].kind.structured:
        try:
            value = parse_yaml(variable.text).value
        except SyntaxMistakeError as error:
            problems.append(
                Problem(
                    file=variable.file,
                    key=name,
                    what=error.what,
                    expected="a YAML value",
                    suggestion=error.suggestion,
                    code=ProblemCode.SYNTAX,
                )
            )
            return
    layer[key] = Given(value=value, file=variable.file, key=name)


def _unknown(name: str, variable: Variable) -> Problem:
    known = [PREFIX + key.upper() for key in settings(DaemonConfig)]
    known += [DELIVERY_PREFIX + key.upper() for key in settings(DeliveryConfig)]
    near = did_you_mean(name, [*known, CONFIG_VARIABLE, DATABASE_VARIABLE, *ENDPOINT_SECRETS])
    return Problem(
        file=variable.file,
        key=name,
        what="is not a variable of sensordrop",
        expected=f"{PREFIX}<KEY> or {DELIVERY_PREFIX}<KEY>",
        suggestion=near,
        code=ProblemCode.UNKNOWN,
    )
