"""Where values come from, what overrides what, and that every mistake is told at once."""

import json
import os
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sensordrop.config import (
    ConfigurationError,
    Problem,
    ProblemCode,
    default_path,
    load,
)

MINIMAL = "local_directory: /drop/north\nbucket_name: recordings\ns3_prefix: C2\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "conf.d").mkdir()
    return tmp_path


def write(folder, **files):
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        place = folder if stem == "sensordrop" else folder / "conf.d"
        (place / f"{stem}.{ending}").write_text(text)


def lines(path, **arguments):
    with pytest.raises(ConfigurationError) as refused:
        load(path, environ=arguments.pop("environ", {}), **arguments)
    assert str(refused.value).splitlines() == [str(p) for p in refused.value.problems]
    return [str(problem) for problem in refused.value.problems]


def one(path, **arguments):
    configuration, _ = load(path, environ=arguments.pop("environ", {}), **arguments)
    (delivery,) = configuration.deliveries
    return delivery


# --- sources ------------------------------------------------------------------------------


def test_the_older_json_format_is_accepted_as_it_is(folder):
    older = {
        "local_directory": "/drop/north",
        "bucket_name": "recordings",
        "s3_prefix": "C2/",
        "max_workers": "8",
        "aws_region": "eu-west-1",
        "times_to_retry": "5",
        "aws_profile": "",
        "use_find": "no",
    }
    write(folder, north_json=json.dumps(older))
    for path in (folder, folder / "conf.d" / "north.json"):
        delivery = one(path)
        assert delivery.name == "north"
        assert delivery.s3_prefix == delivery.cycle == "C2"
        assert (delivery.max_workers, delivery.times_to_retry) == (8, 5)
        assert delivery.use_find is False
        assert delivery.aws_profile is None


def test_each_source_overrides_the_one_before(folder):
    write(folder, north_yaml=MINIMAL)
    assert one(folder).max_workers == 15
    write(folder, sensordrop_yaml="defaults: {max_workers: 2}\n")
    assert one(folder).max_workers == 2
    write(folder, north_yaml=MINIMAL + "max_workers: 3\n")
    assert one(folder).max_workers == 3
    (folder / ".env").write_text("SENSORDROP_DELIVERY_MAX_WORKERS=4\n")
    assert one(folder).max_workers == 4
    environ = {"SENSORDROP_DELIVERY_MAX_WORKERS": "5"}
    assert one(folder, environ=environ).max_workers == 5
    assert one(folder, environ=environ, delivery_flags={"max_workers": 6}).max_workers == 6
    assert one(folder, environ=environ, delivery_flags={"max_workers": None}).max_workers == 5


def test_the_daemons_keys_come_from_file_environment_and_flags(folder):
    write(folder, sensordrop_yaml="station: a\nlog_level: debug\nlog_format: json\n")
    environ = {"SENSORDROP_STATION": "b", "SENSORDROP_LOG_LEVEL": "error"}
    daemon = load(folder, environ=environ, flags={"station": "c"})[0].daemon
    assert (daemon.station, daemon.log_level, daemon.log_format) == ("c", "error", "json")


def test_empty_variables_count_as_not_set(folder):
    write(folder, north_yaml=MINIMAL)
    environ = {"SENSORDROP_DELIVERY_MAX_WORKERS": "", "SENSORDROP_DATABASE_URL": ""}
    assert one(folder, environ=environ).max_workers == 15


def test_lists_and_mappings_in_the_environment_are_yaml(folder):
    write(folder, north_yaml=MINIMAL)
    environ = {
        "SENSORDROP_DELIVERY_EXCLUDE": '["*.tmp", test/]',
        "SENSORDROP_DELIVERY_TAGS": "{cycle: 007}",
        "SENSORDROP_DELIVERY_CLIENT": "a: b",
    }
    delivery = one(folder, environ=environ)
    assert delivery.exclude == ("*.tmp", "test/")
    assert delivery.tags == {"cycle": "007"}
    assert delivery.client == "a: b"
    (line,) = lines(folder, environ={"SENSORDROP_DELIVERY_EXCLUDE": "*.tmp"})
    assert line.startswith("environment: SENSORDROP_DELIVERY_EXCLUDE: is not YAML")


def test_the_ledgers_url_has_two_names_that_must_agree(folder):
    url = "postgresql://u:hunter2@h/db"
    for name in ("SENSORDROP_DATABASE_URL", "SENSORDROP_DATABASE"):
        assert load(folder, environ={name: url})[0].daemon.database == url
    both = {"SENSORDROP_DATABASE_URL": url, "SENSORDROP_DATABASE": url}
    assert load(folder, environ=both)[0].daemon.database == url
    (line,) = lines(folder, environ={**both, "SENSORDROP_DATABASE": "embedded"})
    assert "contradicts SENSORDROP_DATABASE" in line
    (line,) = lines(folder, environ={"SENSORDROP_DATABASE_URL": url.replace("postgresql", "x")})
    assert "hunter2" not in line


def test_the_aws_variables_count_like_endpoint_url_below_every_file(folder):
    write(folder, north_yaml=MINIMAL)
    general = {"AWS_ENDPOINT_URL": "http://general:1"}
    both = {**general, "AWS_ENDPOINT_URL_S3": "http://s3:1"}
    assert one(folder, environ=general).endpoint_url == "http://general:1"
    assert one(folder, environ=both).endpoint_url == "http://s3:1"
    ours = {**both, "SENSORDROP_DELIVERY_ENDPOINT_URL": "http://ours:1"}
    assert one(folder, environ=ours).endpoint_url == "http://ours:1"
    write(folder, sensordrop_yaml="defaults: {endpoint_url: http://defaults:1}\n")
    assert one(folder, environ=both).endpoint_url == "http://defaults:1"
    write(folder, north_yaml=MINIMAL + "endpoint_url:\n")
    assert one(folder, environ=both).endpoint_url is None


def test_a_plain_yaml_value_is_what_its_key_needs(folder):
    write(
        folder,
        north_yaml="local_directory: /drop\nbucket_name: recordings\ns3_prefix: 2025-09-09\n"
        "cycle: 007\nproject: no\nclient: 1_000\nuse_find: no\nwatch: off\nquiet_seconds: 1.50\n",
    )
    delivery = one(folder)
    assert (delivery.s3_prefix, delivery.cycle, delivery.project) == ("2025-09-09", "007", "no")
    assert delivery.client == "1_000"
    assert (delivery.use_find, delivery.watch, delivery.quiet_seconds) == (False, "off", 1.5)


def test_environment_or_flags_alone_make_one_delivery(folder):
    environ = {
        "SENSORDROP_DELIVERY_LOCAL_DIRECTORY": "/drop/north ridge",
        "SENSORDROP_DELIVERY_BUCKET_NAME": "recordings",
    }
    assert one(folder, environ=environ).name == "north ridge"
    assert one(None, environ=environ).name == "north ridge"
    flags = {"local_directory": "/drop/(1)", "bucket_name": "recordings"}
    assert one(None, delivery_flags=flags).name == "1-"
    assert load(None, environ={})[0].deliveries == ()


def test_a_relative_folder_is_only_for_runs_by_hand(folder, monkeypatch):
    monkeypatch.chdir(folder)
    flags = {"local_directory": "drop/../north", "bucket_name": "recordings"}
    delivery = one(None, delivery_flags=flags, allow_relative=True)
    assert str(delivery.local_directory) == str(Path.cwd() / "north")
    (line,) = lines(None, delivery_flags={**flags, "local_directory": "drop"})
    assert line.startswith("command line: --local-directory: 'drop' is not an absolute path")


def test_deliveries_are_in_the_order_of_their_names(folder):
    for stem in ("zeta", "alpha", "mid"):
        write(folder, **{f"{stem}_yml": MINIMAL.replace("north", stem).replace("C2", stem)})
    configuration, notices = load(folder, environ={}, deliveries_required=True)
    assert [delivery.name for delivery in configuration.deliveries] == ["alpha", "mid", "zeta"]
    assert configuration.source == folder
    assert notices == ()


def test_the_default_path_is_the_variable_or_the_systems():
    assert str(default_path({"SENSORDROP_CONFIG": "/here"})) == "/here"
    assert str(default_path({})) == "/etc/sensordrop"


# --- mistakes -----------------------------------------------------------------------------


def test_all_mistakes_in_all_files_are_told_at_once(folder):
    write(
        folder,
        sensordrop_yaml="log_level: chatty\nbucket_name: x\ndefaults: {max_worker: 3}\n",
        a_yaml="local_directory: /drop\nbucket_name: A\nmax_workers: many\nwach: auto\n",
        b_yaml="bucket_name: recordings\nstation: x\n",
        c_json='{"local_directory": "/drop/c", "bucket_name": "recordings",}',
        d_yaml="local_directory: /drop/d\nbucket_name: other\n",
    )
    found = lines(folder, environ={"SENSORDROP_LOG_LEVLE": "x"})
    for expected in (
        "sensordrop.yaml: log_level: 'chatty' is not one of debug, info, warning, error",
        "sensordrop.yaml: bucket_name: is not a key of the daemon — it belongs in a delivery's",
        "sensordrop.yaml: defaults.max_worker: is not a key of a delivery — did you mean 'max_wo",
        "conf.d/a.yaml: bucket_name: 'A' is not a bucket name",
        "conf.d/a.yaml: max_workers: 'many' is not a whole number from 1 to 1000",
        "conf.d/a.yaml: wach: is not a key of a delivery — did you mean 'watch'?",
        "conf.d/b.yaml: local_directory: is missing: expected an absolute path",
        "conf.d/b.yaml: station: is not a key of a delivery — it belongs in sensordrop.yaml",
        "conf.d/c.json: is not JSON: line 1, column",
        "conf.d/d.yaml: local_directory: '/drop/d' lies inside the folder of the delivery in conf",
        "environment: SENSORDROP_LOG_LEVLE: is not a variable of sensordrop — did you mean 'SENS",
    ):
        assert [line for line in found if line.startswith(expected)], expected
    assert len(found) == 11


def test_a_wrong_value_is_told_even_where_it_is_overridden(folder):
    write(folder, north_yaml=MINIMAL + "max_workers: many\n")
    (line,) = lines(folder, environ={"SENSORDROP_DELIVERY_MAX_WORKERS": "3"})
    assert line == ("conf.d/north.yaml: max_workers: 'many' is not a whole number from 1 to 1000")


def test_a_mistake_that_every_delivery_shares_is_told_once(folder):
    write(folder, a_yaml=MINIMAL, b_yaml=MINIMAL.replace("north", "b").replace("C2", "b"))
    (line,) = lines(folder, environ={"SENSORDROP_DELIVERY_WATCH": "x"})
    assert line.startswith("environment: SENSORDROP_DELIVERY_WATCH: 'x' is not one of")


def test_settings_that_contradict_are_told_where_they_stand(folder):
    write(folder, north_yaml=MINIMAL + "kms_key_id: abc\n")
    assert lines(folder) == [
        "conf.d/north.yaml: kms_key_id: is set, but sse is not set — add 'sse: aws:kms'"
    ]
    write(folder, north_yaml=MINIMAL + "kms_key_id: abc\nsse: kms\n")
    (line,) = lines(folder)
    assert line.startswith("conf.d/north.yaml: sse: 'kms' is not one of")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MINIMAL + "max_workers: 1\nmax_workers: 2\n", "max_workers: stands there twice, in lin"),
        ("a: b: c", "is not YAML: line 1, column 5"),
        ("- a\n- b\n", "['a', 'b'] is not a mapping"),
        ("text", "'text' is not a mapping"),
        ("include: *.wav", "put quotes around a value"),
        ("include: *wav", "put quotes around a value"),
        ("include: &wav a", "put quotes around a value"),
        ("include: !wav a", "put quotes around a value"),
        ("a:\n\tb: 1", "not with tabs"),
        ("a: 1\n---\nb: 2\n", "a second document"),
        ("? [a]\n: b\n", "can't be a key"),
        ("[" * 5000, "is nested too deeply"),
        ('a: "\\UFFFFFFFF"', "is not YAML"),
        ("x" * 300_000, "longer than 256 KiB"),
        ("a: \x00", "is not YAML"),
    ],
)
def test_a_file_that_is_no_mapping_of_keys_is_told_with_its_place(folder, text, words):
    write(folder, north_yaml=text)
    (line,) = lines(folder)
    assert line.startswith("conf.d/north.yaml: ")
    assert words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": "a", "name": "b"}', "name: stands there twice"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"a": ' * 50 + "1" + "}" * 50, "is nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "a number is too long"),
        ("{", "line 1, column 2"),
    ],
)
def test_wrong_json_is_told_with_its_place(folder, text, words):
    write(folder, north_json=text)
    assert any(words in line for line in lines(folder))


def test_what_can_not_be_read_is_a_problem(folder):
    (folder / "conf.d" / "a.yaml").write_bytes(b"name: x\nclient: caf\xe9\n")
    (folder / "conf.d" / "b.yaml").mkdir()
    os.mkfifo(folder / "conf.d" / "c.yaml")
    (folder / "conf.d" / "d.yaml").symlink_to("nowhere")
    found = lines(folder)
    assert [line.partition(" — ")[0] for line in found] == [
        "conf.d/a.yaml: is not UTF-8 text (line 2)",
        "conf.d/b.yaml: is not a file",
        "conf.d/c.yaml: is not a file",
        "conf.d/d.yaml: can't be read: no such file or directory",
    ]


@contextmanager
def without_privileges():
    """Read files as an ordinary user does: root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("forbidden", ["sensordrop.yaml", "conf.d", "conf.d/north.yaml", ".env"])
def test_what_may_not_be_read_is_told_apart_from_what_is_wrong(folder, forbidden):
    write(folder, sensordrop_yaml="database: postgresql://h/db\n", north_yaml=MINIMAL)
    (folder / ".env").write_text("A=1\n")
    (folder / forbidden).chmod(0)
    with without_privileges(), pytest.raises(ConfigurationError) as refused:
        load(folder, environ={})
    (folder / forbidden).chmod(0o700)
    assert refused.value.only_unreadable
    assert "permission denied" in str(refused.value)


def test_a_path_that_is_no_configuration_is_told(folder):
    (line,) = lines(folder / "nowhere")
    assert "there is no such folder or file" in line
    assert "--config PATH" in line
    assert lines(folder / "nowhere", deliveries_required=True) == [line]
    write(folder, sensordrop_yaml="")
    (line,) = lines(folder / "sensordrop.yaml")
    assert f"name its folder: {folder}" in line
    write(folder, north_yaml=MINIMAL)
    (line,) = lines(folder / "conf.d")
    assert "delivery files go into a folder conf.d/" in line
    (line,) = lines(folder / "a\0b")
    assert re.search(r"can't be read: .*embedded null", line)  # Pythons word it differently


def test_the_daemons_file_under_another_name_is_told(folder):
    (folder / "sensordrop.yml").write_text("station: x\n")
    (line,) = lines(folder)
    assert line == "sensordrop.yml: is not read — rename it to sensordrop.yaml"


def test_no_delivery_is_a_mistake_where_one_is_needed(folder):
    assert load(folder, environ={})[0].deliveries == ()
    (line,) = lines(folder, deliveries_required=True)
    assert "there is no delivery" in line
    assert f"{folder}/conf.d/" in line


def test_a_broken_env_file_is_told_with_its_line(folder):
    write(folder, north_yaml=MINIMAL)
    (folder / ".env").write_text("# ours\n\nSENSORDROP_STATION='x\nB=1\n")
    assert lines(folder) == [".env: line 3 can't be understood — write NAME=value"]
    (folder / ".env").write_bytes(b"\xff\xfe")
    assert lines(folder)[0].startswith(".env: is not UTF-8")


def test_a_stem_that_is_no_name_asks_for_one(folder):
    (folder / "conf.d" / "(north).yaml").write_text(MINIMAL)
    (line,) = lines(folder)
    assert line.startswith("conf.d/(north).yaml: name: '(north)' is not a name")
    (folder / "conf.d" / "(north).yaml").write_text(MINIMAL + "name: north\n")
    assert one(folder).name == "north"


def test_a_problem_is_one_line_without_control_characters():
    problem = Problem(
        file="a\nb",
        key="\x1b[31m",
        value="x\r" * 200,
        expected="right",
        suggestion="do\nit",
        code=ProblemCode.VALUE,
    )
    line = str(problem)
    assert line.isprintable()
    assert len(line) < 200


# --- notices ------------------------------------------------------------------------------


def test_an_endpoints_secrets_may_come_from_elsewhere_and_its_own_go_before_them(folder):
    write(
        folder,
        north_yaml=MINIMAL + "endpoint: http://h/\n",
        south_yaml="local_directory: /south\nbucket_name: south\n"
        "endpoint: {url: 'http://h/', token: own, headers: {X-A: mine}}\n",
        west_yaml="local_directory: /west\nbucket_name: west-side\n",
    )
    environ = {
        "SENSORDROP_ENDPOINT_TOKEN": "theirs",
        "SENSORDROP_ENDPOINT_SECRET": "hush",
        "SENSORDROP_ENDPOINT_HEADERS": "{X-A: theirs, X-B: theirs}",
    }
    north, south, west = load(folder, environ=environ)[0].deliveries
    assert (north.endpoint.token, north.endpoint.secret) == ("theirs", "hush")
    assert (south.endpoint.token, south.endpoint.secret) == ("own", "hush")
    assert south.endpoint.headers == {"X-A": "mine", "X-B": "theirs"}
    assert west.endpoint is None
    with pytest.raises(ConfigurationError) as refused:
        load(folder, environ={"SENSORDROP_ENDPOINT_HEADERS": "{Host: hunter2}"})
    assert "SENSORDROP_ENDPOINT_HEADERS" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_files_that_are_not_read_are_noticed_unless_they_are_examples(folder):
    write(folder, north_yaml=MINIMAL)
    for name in ("south.yaml.example", "README.md", ".hidden.yaml", "south.yaml.bak"):
        (folder / "conf.d" / name).write_text("nonsense: [")
    (folder / "east.yaml").write_text(MINIMAL)
    (folder / "sensordrop.yaml").write_text("")
    notices = [str(notice) for notice in load(folder, environ={})[1]]
    assert [notice.partition(":")[0] for notice in notices] == [
        "conf.d/south.yaml.bak",
        "east.yaml",
    ]


# --- anything at all ----------------------------------------------------------------------

keys = st.sampled_from(
    ["name", "local_directory", "bucket_name", "tags", "include", "endpoint", "defaults", "x"]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
documents = st.dictionaries(
    keys | st.text(max_size=5),
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=6,
)
yamlish = st.lists(
    st.sampled_from(
        [
            *"abc01 \n\t:-?,[]{}#&*!|>'\"%@`\\",
            "\n  ",
            ": ",
            "- ",
            "---\n",
            "...\n",
            "%YAML 1.1\n",
            "<<: ",
            "!!python/object:os.system ",
            "\\U",
            "\\x",
            "name",
            "local_directory: /a\n",
        ]
    ),
    max_size=30,
).map(lambda parts: "".join(parts).encode())


def mistakes(path, environ=None):
    try:
        load(path, environ=environ or {}, allow_relative=True)
    except ConfigurationError as error:
        return error.problems
    return ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200) | documents.map(lambda d: json.dumps(d).encode()) | yamlish)
@example(content=b"%YAML 1." + b"9" * 5000 + b"\n---\n")
@example(content=b"a: " + b"[" * 3000)
@example(content=b"\xef\xbb\xbf")
def test_any_file_gives_a_configuration_or_its_mistakes(folder, content):
    places = ["sensordrop.yaml", "conf.d/a.yaml", "conf.d/b.json", ".env"]
    for place in places:
        (folder / place).write_bytes(content)
        assert all(str(problem).isprintable() for problem in mistakes(folder))
        (folder / place).unlink()


@given(
    environ=st.dictionaries(
        st.sampled_from(
            [
                "SENSORDROP_STATION",
                "SENSORDROP_DELIVERY_TAGS",
                "SENSORDROP_DELIVERY_INCLUDE",
                "SENSORDROP_DELIVERY_LOCAL_DIRECTORY",
                "AWS_ENDPOINT_URL",
                "SENSORDROP_DATABASE",
            ]
        ),
        st.text(),
    )
)
def test_any_environment_gives_a_configuration_or_its_mistakes(environ):
    assert all(str(problem).isprintable() for problem in mistakes(None, environ=environ))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    document=st.dictionaries(
        st.sampled_from(["local_directory", "bucket_name", "max_workers", "tags", "watch", "nmae"])
        | st.text(min_size=1, max_size=8),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
        max_size=5,
    )
)
def test_every_refusal_names_the_file_and_what_can_be_named_of_the_key(folder, document):
    (folder / "conf.d" / "a.json").write_text(json.dumps(document))
    for problem in mistakes(folder):
        assert problem.file == "conf.d/a.json"
        assert problem.key or problem.code is ProblemCode.SYNTAX, problem
        assert str(problem).startswith("conf.d/a.json: ")
