"""A real Prometheus on loopback, and its tools, from the distribution (install_prometheus.sh)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

INSTALL = "tests/contract/install_prometheus.sh installs them (as root): make test-metrics"
START_SECONDS = 120.0
"""How long Prometheus may take to start, on a machine that does other things too."""

_missing = [name for name in ("prometheus", "promtool", "amtool") if not shutil.which(name)]


def needs_prometheus(test: Any) -> Any:
    """Mark a test that wants them: `make test-metrics` runs it, and says where they are missing."""
    skip = pytest.mark.skipif(
        bool(_missing), reason=f"{', '.join(_missing)} not installed; {INSTALL}"
    )
    return pytest.mark.prometheus(skip(test))


def free_address() -> str:
    """Give a loopback address that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


class Prometheus:
    """One running server, asked as a dashboard asks it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Give the samples of an instant query, each with `metric` and `value`."""
        found: list[dict[str, Any]] = self._api("query", {"query": expression})["result"]
        return found

    def range(self, expression: str, *, seconds: float, step: float) -> list[dict[str, Any]]:
        """Give the series of a range query over the last so many seconds."""
        now = time.time()
        asked = {"query": expression, "start": now - seconds, "end": now, "step": step}
        found: list[dict[str, Any]] = self._api("query_range", asked)["result"]
        return found

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._api("targets", {})["activeTargets"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Give all rules as the server evaluates them, with their health."""
        return [rule for group in self._api("rules", {})["groups"] for rule in group["rules"]]

    def _api(self, path: str, asked: Mapping[str, object]) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            raise AssertionError(f"{asked}: {refusal.read().decode()}") from None


@contextmanager
def prometheus(folder: Path, target: str, *, rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes a target once a second, with these rule files."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [{"job_name": "sensordrop", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = free_address()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(address, process, folder / "prometheus.log")
        yield Prometheus(address)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=10):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"prometheus did not start:\n{log.read_text(errors='replace')[-3000:]}")
