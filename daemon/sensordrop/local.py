"""`sensordropd --local FOLDER`: everything embedded under one folder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from sensordrop.config import Configuration, Notice, load

BUCKET = "sensordrop"
PREFIX = "C1"
DELIVERY = "drop"
WATCHED = "watched-folder"
"""Name of the file under the folder of `--local` that says which folder is watched."""
RUNNING = "is running."
"""Part of what `sensordropd --local` prints once it is up; the demo waits for it."""


@dataclass(frozen=True, kw_only=True)
class LocalFolder:
    """Where things lie under the folder of `--local`."""

    path: Path
    drop: Path
    """Watched: cards go here. Another folder than the one inside is only read."""

    @property
    def state(self) -> Path:
        """The state directory, with the ledger in it."""
        return self.path / "state"

    @property
    def objects(self) -> Path:
        """The S3 server's objects as plain files, a folder for each bucket."""
        return self.path / "objects"

    @property
    def _remembered(self) -> Path:
        """Where it is kept which folder is watched: the verbs are told only of this one."""
        return self.path / WATCHED

    @property
    def ever_ran(self) -> bool:
        """Whether `sensordropd --local` was ever started here."""
        return self._remembered.exists()

    def as_it_ran(self) -> LocalFolder:
        """Give the folder with what `sensordropd --local` watched here last."""
        try:
            drop = Path(os.fsdecode(self._remembered.read_bytes()))
        except OSError:
            return self  # it never ran here
        return LocalFolder(path=self.path, drop=drop)

    def overlap(self) -> str | None:
        """Say how the watched folder and this one lie in each other, or None if they don't.

        The store's objects would be dropped again, and again. Links are followed.
        """
        if self.drop == self.path / "drop":
            return None
        path, drop = Path(os.path.realpath(self.path)), Path(os.path.realpath(self.drop))
        if path.is_relative_to(drop):
            return f"the dropped folder {self.drop} must not hold {self.path}"
        if drop.is_relative_to(path):
            return f"the dropped folder {self.drop} must not lie inside {self.path}"
        return None

    def make(self) -> None:
        """Make what is not there yet. Raises OSError."""
        for folder in (self.path, self.objects):
            folder.mkdir(parents=True, exist_ok=True)
        if self.drop == self.path / "drop":
            self.drop.mkdir(exist_ok=True)
        self._remembered.write_bytes(os.fsencode(self.drop))

    def configuration(
        self, environ: Mapping[str, str], **flags: object
    ) -> tuple[Configuration, tuple[Notice, ...]]:
        """Give the configuration of a daemon that has everything here.

        The environment may set what the folder does not decide. Metrics are served only where it
        names an address: several of these may run at once. Raises ConfigurationError.
        """
        if "SENSORDROP_METRICS_LISTEN" not in environ:
            flags = {"metrics_listen": "off", **flags}
        return load(
            None,
            environ={k: v for k, v in environ.items() if k not in _DECIDED},
            flags={"database": "embedded", "state_directory": str(self.state), **flags},
            delivery_flags={
                "name": DELIVERY,
                "local_directory": str(self.drop),
                "bucket_name": BUCKET,
                "s3_prefix": PREFIX,
            },
            deliveries_required=True,
        )


_DECIDED = frozenset({"SENSORDROP_CONFIG", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"})
"""Variables that speak of other places: the store here is ours."""


def local_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the environment without what speaks of AWS: the store here is our own.

    boto3 reads these variables and files by itself, and fails on a profile that is not there.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def program(name: str) -> str:
    """Say how one of our programs is called from here: by its name if that is on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return name if shutil.which(name) or not beside.exists() else quote(str(beside))


def local_folder(path: Path, drop: Path | None = None) -> LocalFolder:
    """Describe a folder for `--local`; `drop` watches another folder than the one inside."""
    root = Path(os.path.abspath(path))  # noqa: PTH100 — keeps links as the user wrote them
    if drop is None:
        return LocalFolder(path=root, drop=root / "drop")
    return LocalFolder(path=root, drop=Path(os.path.abspath(drop)))  # noqa: PTH100
