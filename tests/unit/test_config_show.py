"""`sensordrop config show`: what it prints can be put into files, and means the same there."""

from __future__ import annotations

import re

from click.testing import CliRunner

from sensordrop.cli.config import command
from sensordrop.config import load


def test_what_is_shown_is_a_configuration_again(tmp_path):
    folder, again = tmp_path / "given", tmp_path / "again"
    for each in (folder, again):
        (each / "conf.d").mkdir(parents=True)
    (folder / "sensordrop.yaml").write_text(
        "station: hut\nmetrics_listen: off\nbandwidth: 20:00-06:00 full, else 10 MiB/s\n"
        "defaults: {max_workers: 3, exclude: ['*.tmp']}\n"
    )
    (folder / "conf.d" / "north.yaml").write_text(
        "local_directory: /drop/north\nbucket_name: recordings\ns3_prefix: C2\nuse_find: no\n"
        "session_deadline_seconds:\n"
    )
    done = CliRunner().invoke(command, ["show", "--config", str(folder)], env={"HOME": "/nowhere"})
    assert done.exit_code == 0, done.output
    assert 'metrics_listen: "off"  # sensordrop.yaml: metrics_listen' in done.output
    _, daemon, north = re.split(r"^# .*\n", done.output, flags=re.MULTILINE)
    (again / "sensordrop.yaml").write_text(daemon)
    (again / "conf.d" / "north.yaml").write_text(north)
    first, second = (load(each, environ={})[0] for each in (folder, again))
    assert second.daemon == first.daemon
    assert second.deliveries == first.deliveries
    assert second.daemon.metrics_listen is None
