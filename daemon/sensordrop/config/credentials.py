"""Secrets that come as files: systemd's credentials, or a folder beside the configuration.

Under systemd (`LoadCredential=`, systemd.exec(5)) they lie in `$CREDENTIALS_DIRECTORY`, readable by
the service alone. Elsewhere, and for verbs, they are the files of `credentials/` beside
sensordrop.yaml. Each becomes the variable that boto3, libpq or the configuration knows it by.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

from sensordrop.config.problem import ConfigurationError, Problem, ProblemCode, did_you_mean

FOLDER = "credentials"
UNIT_PREFIX = "sensordrop_"
"""`LoadCredential=sensordrop:FOLDER` puts this before the name of each file in the folder."""
LARGEST_BYTES = 1024 * 1024
"""systemd's own limit of a unit's credentials."""

BY_CONTENT = {
    "database_url": "SENSORDROP_DATABASE_URL",
    "database_password": "PGPASSWORD",
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "endpoint_token": "SENSORDROP_ENDPOINT_TOKEN",
    "endpoint_secret": "SENSORDROP_ENDPOINT_SECRET",
    "endpoint_headers": "SENSORDROP_ENDPOINT_HEADERS",
    "notify_url": "SENSORDROP_NOTIFY_URL",
    "notify_token": "SENSORDROP_NOTIFY_TOKEN",
    "notify_secret": "SENSORDROP_NOTIFY_SECRET",
    "notify_headers": "SENSORDROP_NOTIFY_HEADERS",
}
"""Files whose content is the variable's value."""
BY_PATH = {
    "aws_credentials": "AWS_SHARED_CREDENTIALS_FILE",
    "aws_config": "AWS_CONFIG_FILE",
}
"""Files whose place is the variable's value."""


def take_credentials(config: Path | None, environ: MutableMapping[str, str]) -> None:
    """Put what the credentials say into the environment; variables that are set stay.

    Blocks on the disk. Raises ConfigurationError with every file that has an unknown name or
    can't be read. A folder beside the configuration that is not for this user's eyes counts as
    not there: verbs work without secrets where they need none.
    """
    given = environ.get("CREDENTIALS_DIRECTORY")
    if given:
        folder, label = Path(given), "credential"
    elif config is not None:
        folder, label = (config if config.is_dir() else config.parent) / FOLDER, FOLDER
    else:
        return
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    problems: list[Problem] = []
    for file in files:
        name = file.name.removeprefix(UNIT_PREFIX)
        if name in BY_PATH:
            environ.setdefault(BY_PATH[name], str(file))
        elif name in BY_CONTENT:
            text = _content(file, label, problems)
            if text:
                environ.setdefault(BY_CONTENT[name], text)
        else:
            problems.append(_unknown(label, name))
    if problems:
        raise ConfigurationError(problems)


def _content(file: Path, label: str, problems: list[Problem]) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(LARGEST_BYTES).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.append(
            Problem(
                file=label,
                key=file.name,
                what=f"can't be read: {why}",
                suggestion="let the user of the daemon read it, or remove it",
                code=ProblemCode.UNREADABLE,
            )
        )
        return ""


def _unknown(label: str, name: str) -> Problem:
    known = sorted([*BY_CONTENT, *BY_PATH])
    return Problem(
        file=label,
        key=name,
        what=f"is not one of {', '.join(known)}",
        suggestion=did_you_mean(name, known),
        code=ProblemCode.UNKNOWN,
    )
