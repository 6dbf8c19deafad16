"""While the configuration on disk has mistakes, whoever only asks how it stands is told."""

from __future__ import annotations

import json

from daemon import Station, drop_files

WRONG = "local_direktory: /x\nmax_workers: many\n"
LOOKS = (
    ("status",),
    ("deliveries",),
    ("sessions",),
    ("session", "1"),
    ("files",),
    ("why", "950349/a.WAV"),
    ("bandwidth",),
    ("pause", "--history"),
)
SETS = (("pause", "card", "--reason", "rain"), ("resume", "card"), ("rescan", "card"))


def says_what_is_broken(stderr: str) -> bool:
    (line,) = stderr.splitlines()
    return line.startswith("the configuration is broken: conf.d/wrong.yaml: ")


def worked(station: Station) -> None:
    for verb in (*LOOKS, *SETS):
        done = station.sensordrop(*verb)
        assert done.returncode == 0, (verb, done.stderr)
        assert says_what_is_broken(done.stderr), (verb, done.stderr)


def test_verbs_that_only_ask_work_while_the_configuration_is_broken(station: Station) -> None:
    station.start()
    drop_files(station.drop, {"950349/a.WAV": b"a"})
    station.wait_for_states({"950349/a.WAV": "uploaded"})
    station.configuration.text("wrong.yaml", WRONG)
    worked(station)
    told = json.loads(station.sensordrop("status", "--json").stdout)
    assert [each["name"] for each in told["deliveries"]] == ["card"]

    assert station.sensordrop("verify").returncode == 2, "it reads the deliveries' settings"
    missing = str(station.folder / "no-such-folder")
    assert station.sensordrop("status", "--config", missing).returncode == 2

    # The next daemon does not start on it; the ledger is there all the same.
    station.daemon.stop()
    assert station.sensordrop("status").returncode == 0
    paused = station.sensordrop("pause", "card")
    assert (paused.returncode, says_what_is_broken(paused.stderr.splitlines()[0])) == (0, True)

    # Where it can't be known which ledger is meant, none is taken for it.
    keys = (station.configuration.path / "sensordrop.yaml").read_text()
    (station.configuration.path / "sensordrop.yaml").write_text(keys + "  - :\n")
    lost = station.sensordrop("status", "--socket", str(station.state / "control.sock"))
    assert lost.returncode == 3, lost.stderr
    hidden = station.sensordrop("status")
    assert hidden.returncode == 2
    assert "which ledger is meant" in hidden.stderr
