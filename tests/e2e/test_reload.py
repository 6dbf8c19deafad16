"""Another configuration while the daemon runs: SIGHUP, as `systemctl reload` and people send it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from between import GoBetween
from daemon import Station, age, command, drop_files, sha256, under_prefix
from test_service_manager import manager  # noqa: F401 — a fixture

LARGE = "950349/large.WAV"
CONTENT = b"0123456789abcdef" * (5 * 1024 * 1024 // 16)
"""More than goes through the lane of small files."""


def hang_up(station: Station) -> None:
    station.daemon.signal(signal.SIGHUP)


def reloads(station: Station) -> list[dict[str, Any]]:
    return station.daemon.logs("configuration_reloaded")


def reload(station: Station) -> dict[str, Any]:
    """Have the configuration taken up, and give what the daemon says of it."""
    before = len(reloads(station))
    hang_up(station)
    station.wait_for(lambda: len(reloads(station)) > before, what="it reloaded")
    return reloads(station)[before]


def states(station: Station) -> dict[str, str]:
    return {d["name"]: d["state"] for d in station.status_json()["deliveries"]}


def is_stored(station: Station, key: str) -> bool:
    return any(
        row["object_key"] == key and row["state"] == "uploaded" for row in station.ledger.uploads()
    )


class Held:
    """Holds the puts of one file until it is told to let them go, and counts them."""

    def __init__(self, ending: str) -> None:
        self.ending = ending
        self.puts: list[str] = []
        self.go_on = threading.Event()

    def __call__(self, method: str, path: str) -> None:
        if method == "PUT" and path.endswith(self.ending):
            self.puts.append(path)
            self.go_on.wait(120)


@pytest.fixture
def held(make_station, moto) -> Iterator[tuple[Station, Held]]:
    """Give a station whose one large file is on its way and held there."""
    holding = Held(LARGE)
    with GoBetween(moto.endpoint_url, refuse=holding) as between:
        station = make_station(moto)
        station.configure()
        station.delivery(endpoint_url=between.endpoint_url)
        drop_files(station.drop, {LARGE: CONTENT})
        age(station.drop)
        station.start()
        station.wait_for(lambda: len(holding.puts) == 1, what="the large file is on its way")
        yield station, holding
        holding.go_on.set()
        assert station.daemon.stop() == 0
        station.assert_sound()


def test_deliveries_come_and_go_and_change_and_the_others_work_on(station):
    other = station.folder / "other"
    first = drop_files(station.drop, {"950349/a.WAV": b"a"})
    station.start()
    station.wait_for(lambda: is_stored(station, "C1/950349/a.WAV"), what="the first file")

    later = drop_files(other, {"950350/b.WAV": b"b"})
    station.delivery("later", local_directory=str(other), s3_prefix="C2")
    assert reload(station)["changes"] == "added: later"
    station.wait_for(lambda: is_stored(station, "C2/950350/b.WAV"), what="the new delivery's file")
    first |= drop_files(station.drop, {"950349/c.WAV": b"c"})
    station.wait_for(lambda: is_stored(station, "C1/950349/c.WAV"), what="the old one's watch")

    station.delivery("card", s3_prefix="C1", exclude=["*.TXT"], max_workers=9)
    assert reload(station)["changes"] == "changed: card (exclude, max_workers)"
    first |= drop_files(station.drop, {"950349/d.WAV": b"d", "950349/not.TXT": b"not"})
    station.wait_for(lambda: is_stored(station, "C1/950349/d.WAV"), what="the changed one's watch")
    station.wait_for(lambda: "950349/not.TXT" in station.ledger.ignored(), what="the new rule")

    (station.configuration.path / "conf.d" / "later.yaml").unlink()
    assert reload(station)["changes"] == "removed: later"
    drop_files(other, {"950350/unseen.WAV": b"unseen"})
    station.delivery("card", s3_prefix="C1", enabled=False)
    assert "card (enabled" in reload(station)["changes"]
    drop_files(station.drop, {"950349/unseen.WAV": b"unseen"})
    station.wait_for(
        lambda: states(station) == {"card": "disabled", "later": "disabled"}, what="disabled"
    )

    station.delivery("card", s3_prefix="C1")
    reload(station)
    station.wait_for(lambda: is_stored(station, "C1/950349/unseen.WAV"), what="it is on again")
    assert "950350/unseen.WAV" not in station.ledger.states()
    station.wait_for(lambda: is_stored(station, "C1/950349/not.TXT"), what="the rule is gone")
    first["950349/unseen.WAV"] = sha256(b"unseen")
    assert station.bucket.digests() == under_prefix(first) | under_prefix(later, "C2")
    kept = station.ledger.rows("SELECT configuration FROM config_history ORDER BY id DESC LIMIT 1")
    assert kept[0]["configuration"]["enabled"] is True


def test_an_upload_that_runs_ends_where_it_began_when_its_delivery_is_pointed_elsewhere(held):
    station, holding = held
    station.delivery(s3_prefix="C9")
    reload(station)
    station.wait_for(
        lambda: is_stored(station, f"C9/{LARGE}"), what="it is stored at its new place"
    )
    assert len(holding.puts) == 1
    holding.go_on.set()
    station.wait_for(lambda: is_stored(station, f"C1/{LARGE}"), what="and where it began")
    digest = sha256(CONTENT)
    assert station.bucket.digests() == {f"C1/{LARGE}": digest, f"C9/{LARGE}": digest}
    assert len(holding.puts) == 1, "sent once"
    station.wait_for_session_end(2)
    counts = [(s["files_total"], s["files_uploaded"]) for s in station.ledger.sessions()]
    assert counts == [(1, 1), (1, 1)]
    assert station.daemon.logs("claims_lost") == []


def test_an_upload_that_runs_ends_once_when_its_delivery_changes_or_goes(held):
    station, holding = held
    keys = {"endpoint_url": station.server.endpoint_url}
    text = (station.configuration.path / "conf.d" / "card.yaml").read_text()
    station.configuration.text("card.yaml", text + "retry_delay_seconds: 1\npriority: 3\n")
    assert "priority" in reload(station)["changes"]
    drop_files(station.drop, {"950349/small.WAV": b"small"})
    station.wait_for(lambda: is_stored(station, "C1/950349/small.WAV"), what="the others go on")
    (station.configuration.path / "conf.d" / "card.yaml").unlink()
    station.delivery("next", **keys, local_directory=str(station.folder / "next"), s3_prefix="C2")
    assert reload(station)["changes"] == "added: next; removed: card"
    holding.go_on.set()
    station.wait_for(lambda: is_stored(station, f"C1/{LARGE}"), what="the upload has ended")
    assert len(holding.puts) == 1, "sent once"
    assert station.daemon.logs("claims_lost") == []


def test_a_broken_configuration_leaves_the_old_one_in_force_and_says_so(station, manager):  # noqa: F811
    daemon = station.new_daemon()
    daemon.launch()
    manager.wait_for("READY=1")
    station.configuration.text("wrong.yaml", "local_direktory: /x\nmax_workers: many\n")
    hang_up(station)
    daemon.wait_for_log("configuration_refused")
    told = [line["problem"] for line in daemon.logs("configuration_problem")]
    assert any("local_direktory" in line and "did you mean" in line for line in told)
    assert any("'many' is not a whole number" in line for line in told)
    manager.wait_for("configuration refused at")

    def told_of_reloads() -> list[str]:
        messages = list(manager.messages)
        return [m.partition("\n")[0] for m in messages if "READY" in m or "RELOAD" in m]

    # The status line comes from another thread: it may be there before the reload's own end is.
    station.wait_for(lambda: len(told_of_reloads()) >= 3, what="the reload's end")
    assert told_of_reloads() == ["READY=1", "RELOADING=1", "READY=1"]
    drop_files(station.drop, {"950349/a.WAV": b"a"})
    station.wait_for(lambda: is_stored(station, "C1/950349/a.WAV"), what="it works on")

    (station.configuration.path / "conf.d" / "wrong.yaml").unlink()
    station.wait_for(lambda: station.status_json()["configuration"][0]["problem"], what="status")
    assert "the one before is in force" in station.sensordrop("status").stdout
    assert reload(station)["changes"] == "nothing is different"
    assert station.status_json()["configuration"][0]["problem"] is None
    manager.wait_for("1 delivery · 1/1 files")


def test_the_verb_waits_for_what_comes_of_it(station):
    nobody = station.sensordrop("reload")
    assert (nobody.returncode, nobody.stdout) == (3, "")
    station.start()
    station.delivery("card", max_workers=9)
    done = station.sensordrop("reload")
    assert (done.returncode, done.stdout) == (0, "reloaded: changed: card (max_workers)\n")
    station.delivery("card", max_workers="many")
    refused = station.sensordrop("reload")
    assert refused.returncode == 2
    assert "'many' is not a whole number" in refused.stderr
    assert "stays in force" in refused.stderr
    told = station.sensordrop("reload", "--json")
    assert told.returncode == 2
    assert json.loads(told.stdout)["taken"] is False
    assert len(json.loads(told.stdout)["problems"]) == 1
    station.delivery("card", max_workers=9)
    assert station.sensordrop("reload").stdout == "reloaded: nothing is different\n"


def test_the_verb_signals_nobody_but_who_holds_the_state_directory(station):
    """A power cut leaves the number of a process that is somebody else's by the next boot."""
    waits = "import sys; print('ready', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", waits, "sensordropd"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        station.state.mkdir(exist_ok=True)
        for left in ("daemon.lock", "process.lock"):
            (station.state / left).write_text(f"{other.pid}\n")
        done = station.sensordrop("reload")
        assert (done.returncode, "no sensordropd runs" in done.stderr) == (3, True), done.stderr
        station.start()
        (station.state / "daemon.lock").write_text(f"{other.pid}\n")
        assert station.sensordrop("reload").stdout == "reloaded: nothing is different\n"
        station.daemon.kill9()
        assert station.sensordrop("reload").returncode == 3
        assert other.poll() is None, "nobody else was hung up on"
    finally:
        other.kill()
        other.communicate()


def test_the_configuration_is_checked_compared_and_shown(station):
    station.start()
    assert "a reload would change: nothing is different" in config(station, "check").stdout
    station.delivery("card", s3_prefix="C7", max_workers=3)
    station.configuration.daemon(
        **station.daemon_keys, bandwidth="1 MiB/s", defaults={"priority": 2}
    )
    told = json.loads(config(station, "check", "--json").stdout)
    assert told["reload"]["changed"] == {"card": ["cycle", "max_workers", "priority", "s3_prefix"]}
    assert told["reload"]["moved"] == ["card"]
    assert (told["reload"]["daemon"], told["reload"]["needs_restart"]) == (["bandwidth"], [])
    shown = json.loads(config(station, "show", "--json").stdout)
    card = shown["deliveries"]["card"]
    assert card["max_workers"] == {
        "value": 3, "from": {"file": "conf.d/card.yaml", "key": "max_workers"},
    }  # fmt: skip
    assert card["priority"]["from"] == {"file": "sensordrop.yaml", "key": "defaults.priority"}
    assert card["quiet_seconds"]["from"]["key"] == "SENSORDROP_DELIVERY_QUIET_SECONDS"
    assert card["times_to_retry"] == {"value": 3, "from": None}
    station.configure(database="postgresql://sensordrop:hush@127.0.0.1:1/none")
    assert "hush" not in config(station, "show").stdout
    station.configuration.text("wrong.yaml", "local_direktory: /x\nmax_workers: many\n")
    wrong = config(station, "check", "--json")
    assert wrong.returncode == 2
    found = {(p["file"], p["key"]): p for p in json.loads(wrong.stdout)["problems"]}
    assert found["conf.d/wrong.yaml", "max_workers"]["value"] == "many"
    assert "did you mean" in found["conf.d/wrong.yaml", "local_direktory"]["suggestion"]


def config(station: Station, verb: str, *rest: str) -> subprocess.CompletedProcess[str]:
    return command(
        "config", verb, "--config", str(station.configuration.path), *rest,
        environment=station.environment, cwd=station.folder,
    )  # fmt: skip


def test_many_reloads_in_a_row_while_it_sweeps_and_uploads_lose_nothing(station):
    files = {f"950349/{n}.WAV": b"%d" % n for n in range(300)}
    digests = drop_files(station.drop, files)
    age(station.drop)
    station.start()
    for number in range(12):
        station.delivery("card", s3_prefix="C1", max_workers=2 + number)
        for _ in range(5):
            hang_up(station)
        if number % 4 == 3:
            reload(station)
    digests |= drop_files(station.drop, {"950349/last.WAV": b"last"})
    station.wait_for_states(dict.fromkeys(digests, "uploaded"))
    assert station.bucket.digests() == under_prefix(digests)
    assert station.daemon.logs("service_failed") == []
    station.wait_for(lambda: station.delivery_status()["session"] is None, what="the session ends")
    newest = "SELECT configuration FROM config_history ORDER BY id DESC LIMIT 1"
    station.wait_for(
        lambda: station.ledger.rows(newest)[0]["configuration"]["max_workers"] == 13,
        what="the last of them holds",
    )


def test_keys_that_are_only_read_at_the_start_are_named(station):
    station.start()
    station.configure(station="another", log_level="debug")
    assert "needs a restart: station" in reload(station)["changes"]
    line = station.daemon.wait_for_log("restart_needed")
    assert line["keys"] == ["station"]
    drop_files(station.drop, {"950349/a.WAV": b"a"})
    station.daemon.wait_for_log("file_stored")
    assert [row["name"] for row in station.ledger.rows("SELECT name FROM stations")] == [
        "teststation"
    ]
