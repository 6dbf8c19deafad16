"""The library's descriptions of Amazon's services, read once for all sessions.

Left alone, every session of boto3 reads and keeps its own: a twentieth of a second and twelve
megabytes for each delivery.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

from botocore.loaders import Loader, create_loader


class _SharedLoader(Loader):
    """A loader that many threads may ask: a description is put together by one of them."""

    def __init__(self, folders: list[str]) -> None:
        super().__init__(extra_search_paths=folders, include_default_search_paths=False)
        self._lock = threading.Lock()

    def load_service_model(
        self, service_name: str, type_name: str, api_version: str | None = None
    ) -> Any:
        with self._lock:
            return super().load_service_model(service_name, type_name, api_version=api_version)


@lru_cache(maxsize=8)
def descriptions(data_path: str | None) -> Loader:
    """Give the one that reads from where a profile or `AWS_DATA_PATH` says, and from the library.

    There are seldom two such places; a session keeps what it was given.
    """
    return _SharedLoader(list(create_loader(data_path).search_paths))
