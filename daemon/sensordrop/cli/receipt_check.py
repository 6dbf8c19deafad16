"""Sees whether a receipt is as it was signed, and whether its objects are there."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import click

from sensordrop.adapters.receipt_key import receipt_key, signature_problem
from sensordrop.cli.place import Place, find_place, receipt_directory
from sensordrop.cli.verify_run import VerifyRun
from sensordrop.core.failure import FailureError
from sensordrop.core.receipt import MOST_PROBLEMS
from sensordrop.core.receipt_form import DOCUMENT, FORMAT, digest_of
from sensordrop.core.verification import Problem, Verdict
from sensordrop.ports.storing import Destination

LARGEST_DOCUMENT_BYTES = 64 * 1024 * 1024
"""A receipt with ten thousand problems of the longest paths is half as large; a larger file is none."""
AT_ONCE = 8
"""Objects that are asked for at a time: each is mostly waiting for the store."""
PAGE_FILES = 1_000
"""Lines of a receipt's list that are in memory at a time."""


@dataclass(kw_only=True)
class Checked:
    """What checking a receipt came to. `genuine`: it is what the key's holder signed."""

    digest: str = ""
    verdict: str = Verdict.NOT_SAFE.value
    made_at: str = ""
    genuine: bool = False
    objects: int = 0
    """Objects that are in the store as they were."""
    problems: list[Problem] = field(default_factory=list)

    def add(self, reason: str, path: str = "") -> None:
        """Note what does not hold."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(path=path, reason=reason))


class ReceiptCheck:
    """One run of `sensordrop receipt verify`."""

    def __init__(
        self,
        *,
        config: Path | None,
        local: Path | None,
        database: str | None,
        progress: Callable[[str], None],
    ) -> None:
        self._local = local is not None
        self._run = VerifyRun(config=config, local=local, database=database, progress=progress)
        self._find: Callable[[], Place] = lambda: find_place(config, local, database, whole=True)
        self._progress = progress
        self._stop = threading.Event()

    def go(self, file: Path, *, public_key: str | None, store: bool) -> Checked:
        """Check a receipt, what is beside it, and with `store` its objects.

        Raises OSError, KeyProblemError; UsageError where the file is no receipt.
        """
        path = file / DOCUMENT if file.is_dir() else file
        document = _document(path)
        if public_key is None:
            public_key = receipt_key(receipt_directory(self._find()), make=False).public
        found = Checked(digest=digest_of(document))
        problem = signature_problem(document, public_key)
        found.genuine = problem is None
        if problem is not None:
            found.add(problem)
            return found  # nothing that it says can be built on
        found.verdict, found.made_at = str(document["verdict"]), str(document["made_at"])
        whole = [_beside(path, document[part], found) for part in ("manifest", "files")]
        if store and not whole[1]:
            found.add(f"without {document['files']['name']} nobody knows what to ask for")
        elif store:
            with ExitStack() as stack:
                # The store of --local runs only while somebody uses it.
                place = stack.enter_context(self._run.opened())[0] if self._local else self._find()
                self._ask_store(path, document, self._run.destinations(place), found)
        return found

    # --- the store ---

    def _ask_store(
        self,
        path: Path,
        document: Mapping[str, Any],
        stores: Mapping[tuple[str, str], Destination],
        found: Checked,
    ) -> None:
        card = document["scope"]["card"] is not None
        home = document["stores"][0] if document["stores"] else {}

        def ask(line: dict[str, Any]) -> str | None:
            if card:
                # Two stores may have a bucket of one name: the endpoint tells them apart.
                bucket, _, key = line["key"].partition("/")
                at = (line["endpoint_url"], bucket)
            else:
                key = line["key"]
                at = (home["endpoint_url"], home["bucket_name"])
            if at not in stores:
                return "its store is not in this configuration, so nobody can be asked"
            return _look(stores[at], key, line, self._stop)

        lines = _stored(path.parent / document["files"]["name"])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                while page := list(islice(lines, PAGE_FILES)):
                    for line, problem in zip(page, pool.map(ask, page), strict=True):
                        if problem is None:
                            found.objects += 1
                        else:
                            found.add(problem, line["path"])
                    self._progress(f"s3: {found.objects:,} objects are as they were so far…")
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _document(path: Path) -> dict[str, Any]:
    """Read a receipt. Raises UsageError where the file is none."""
    with path.open("rb") as file:
        raw = file.read(LARGEST_DOCUMENT_BYTES + 1)
    try:
        small = len(raw) <= LARGEST_DOCUMENT_BYTES
        document = (
            json.loads(raw, object_pairs_hook=_once, parse_constant=_no_number) if small else None
        )
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise click.UsageError(f"{path} is no receipt ({DOCUMENT} of sensordrop)")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: other programs would read the one that is not signed."""
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a key stands twice")
    return read


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _beside(path: Path, part: Mapping[str, Any], found: Checked) -> bool:
    """See whether a file beside the receipt is the one that was signed; one that is not there is
    no problem by itself.
    """
    beside = path.parent / str(part["name"])
    try:
        with beside.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return False
    if digest != part["sha256"]:
        found.add(f"{beside.name} was changed after it was signed", beside.name)
        return False
    return True


def _stored(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if line["class"] == "stored":
                yield line


def _look(
    destination: Destination, key: str, line: Mapping[str, Any], stop: threading.Event
) -> str | None:
    """Say how an object is another than the one that was stored; None: it is the same."""
    try:
        looked = destination.look(key)
        if looked is None:
            return "it is not in the bucket"
        if looked.size_bytes != line["bytes"]:
            return f"it has {looked.size_bytes} bytes in the bucket, not {line['bytes']}"
        etag = line["etag"]
        if etag and looked.etag.lower() == etag.lower():
            return None
        read = destination.read_back(key, stop)
    except FailureError as error:
        return f"it could not be verified: {error.failure.message}"
    if read is None:
        return "it could not be verified: it is archived out of reach"
    if (read[0].hex(), read[1]) != (line["sha256"], line["bytes"]):
        return f"its bytes in the bucket have SHA-256 {read[0].hex()}, not {line['sha256']}"
    return None
