"""docker-compose.yml and what it mounts: what each part is told, and what it asks for, fit together."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from sensordrop.adapters.status_pages import pages
from sensordrop.config import DaemonConfig, load

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
SERVICES = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
VALUES = {
    "LEDGER_PASSWORD": "aa",
    "GRAFANA_READER_PASSWORD": "bb",
    "GRAFANA_ADMIN_PASSWORD": "cc",
    "S3_SECRET": "dd",
}
"""What stands in .env."""
MADE_BY_HAND = {"./drop", "./objects"}


def environment(service: str) -> dict[str, str]:
    """Give a service's environment as compose would."""
    return {
        key: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: VALUES[found.group(1)], str(value))
        for key, value in SERVICES[service].get("environment", {}).items()
    }


def mounts(service: str) -> dict[str, str]:
    """Give what is mounted from here, by the place where it is seen."""
    found = [each.split(":") for each in SERVICES[service].get("volumes", ())]
    return {place: source for source, place, *_ in found if source.startswith("./")}


def test_it_is_what_compose_reads():
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_made_of_one_version_and_of_what_the_package_has():
    text = DOCKERFILE.read_text(encoding="utf-8")
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base), base
    for lock in re.findall(r"-r (\S+)", text):
        assert (ROOT / lock).exists(), lock
    assert "--require-hashes" in text
    assert re.search(r"^USER \d+$", text, re.MULTILINE), "not root, by a number that needs no look"


def test_the_image_asks_the_daemon_itself_whether_it_lives():
    (asked,) = re.findall(r"^HEALTHCHECK .*\n  CMD (\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    program, flag, code = json.loads(asked)
    assert (program, flag) == ("python", "-c")
    usual = f"{DaemonConfig().metrics_listen}"
    assert f"http://{usual}/healthz" in code
    assert "/healthz" in pages(bytes, "", None)  # type: ignore[arg-type]

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        here = code.replace(usual, f"127.0.0.1:{server.server_port}")
        lives = subprocess.run([sys.executable, flag, here], check=False)
        other = subprocess.run(
            [sys.executable, flag, here.replace("healthz", "gone")],
            capture_output=True,
            check=False,
        )
        server.shutdown()
        thread.join()
    assert (lives.returncode, other.returncode) == (0, 1)


def test_what_is_made_here_is_not_sent_to_the_builder():
    """An older build's `build/lib` would slip into the image; the rest only makes it slow."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split():
        name = line.strip("/").removeprefix("*")
        assert any(
            fnmatch(name, each.removeprefix("**/*").removeprefix("**/")) for each in ignored
        ), line


def test_everything_that_watches_is_there():
    assert set(SERVICES) == {
        "sensordropd", "ledger", "s3", "prometheus", "alertmanager", "grafana"
    }  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_is_one_version(service):
    image = SERVICES[service].get("image")
    assert (image is None) == (service == "sensordropd")
    if image is not None:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-\w+)?", image), image


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_mounted_is_there(service):
    for source in mounts(service).values():
        assert source in MADE_BY_HAND or (ROOT / source).exists(), source


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_is_published_beyond_this_machine(service):
    for port in SERVICES[service].get("ports", ()):
        assert port.startswith("127.0.0.1:"), port


def test_no_password_is_anybodys():
    text = FILE.read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+)", text))
    assert asked == set(VALUES)
    assert all(each.startswith(":?") for each in re.findall(r"\$\{\w+([^}]*)\}", text))
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET", key):
                assert str(value).startswith("${"), key
    told = re.search(r"for name in ([A-Z0-9_ ]+); do", text)
    assert told is not None
    assert set(told.group(1).split()) == set(VALUES), "the head of the file makes all of them"
    for ignored in (".gitignore", ".dockerignore"):
        assert ".env" in (ROOT / ignored).read_text(encoding="utf-8").split(), ignored


def test_the_daemon_takes_its_configuration():
    told = environment("sensordropd")
    configuration, _ = load(None, environ=told)
    assert configuration.daemon.metrics_listen == "0.0.0.0:9464"
    (delivery,) = configuration.deliveries
    assert str(delivery.local_directory) in mounts("sensordropd")
    assert told["AWS_SECRET_ACCESS_KEY"] == VALUES["S3_SECRET"]
    assert "--auth-key=sensordrop,${S3_SECRET:?" in " ".join(SERVICES["s3"]["command"])
    assert delivery.endpoint_url == "http://s3:8080"
    assert (ROOT / "Dockerfile").exists()


def test_grafana_is_given_all_that_its_data_sources_ask_for():
    folder = ROOT / mounts("grafana")["/etc/grafana/provisioning"]
    text = (folder / "datasources" / "sensordrop.yaml").read_text(encoding="utf-8")
    asked = set(re.findall(r"^[^#]*?\$\{(\w+)\}", text, re.MULTILINE))
    told = environment("grafana")
    assert asked <= set(told)
    assert told["GRAFANA_READER_PASSWORD"] == environment("ledger")["GRAFANA_READER_PASSWORD"]
    sources = {each["type"]: each for each in yaml.safe_load(text)["datasources"]}
    (provider,) = yaml.safe_load(
        (folder / "dashboards" / "sensordrop.yaml").read_text(encoding="utf-8")
    )["providers"]
    boards = ROOT / mounts("grafana")[provider["options"]["path"]]
    assert (boards / Path(told["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).name).exists()
    used = {
        variable["query"]
        for board in boards.glob("*.json")
        for variable in json.loads(board.read_text(encoding="utf-8"))["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert used == set(sources), "each of the dashboards' sources is provided, and no other"
    assert sources["grafana-postgresql-datasource"]["user"] == "sensordrop_grafana"


def test_prometheus_finds_the_rules_and_the_daemon():
    folder = mounts("prometheus")["/etc/prometheus/sensordrop"]
    ours = yaml.safe_load((ROOT / "packaging/compose/prometheus.yml").read_text(encoding="utf-8"))
    example = yaml.safe_load(
        (ROOT / "packaging/prometheus/prometheus.yml.example").read_text(encoding="utf-8")
    )
    assert ours["rule_files"] == example["rule_files"]
    for rules in ours["rule_files"]:
        assert (ROOT / folder / Path(rules).name).exists(), rules
    (job,), (told,) = ours["scrape_configs"], example["scrape_configs"]
    assert job["job_name"] == told["job_name"]
    assert job["static_configs"] == [{"targets": ["sensordropd:9464"]}]
