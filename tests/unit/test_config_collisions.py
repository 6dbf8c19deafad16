"""Deliveries held against each other and against the daemon's own folder."""

import pytest

from sensordrop.config import ConfigurationError, load


@pytest.fixture
def deliveries(tmp_path):
    """Write deliveries a, b, c, … and give the mistakes between them."""
    (tmp_path / "conf.d").mkdir()

    def mistakes(*texts, daemon=""):
        (tmp_path / "sensordrop.yaml").write_text(daemon)
        for stem, text in zip("abcdef", texts, strict=False):
            defaults = {"local_directory": f"/drop/{stem}", "bucket_name": "recordings"}
            defaults["s3_prefix"] = stem
            lines = [f"{key}: {value}" for key, value in defaults.items() if key not in text]
            (tmp_path / "conf.d" / f"{stem}.yaml").write_text("\n".join([*lines, text]))
        try:
            load(tmp_path, environ={})
        except ConfigurationError as error:
            return [str(problem).partition(" — ")[0] for problem in error.problems]
        return []

    return mistakes


def test_deliveries_beside_each_other_are_fine(deliveries):
    assert deliveries("", "", "local_directory: /drop/a2", "s3_prefix: a2") == []


def test_a_name_belongs_to_one_delivery(deliveries):
    assert deliveries("", "name: a") == [
        "conf.d/b.yaml: name: 'a' is the name of the delivery in conf.d/a.yaml too"
    ]
    assert deliveries("", "name: a\nenabled: false") != []


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("/drop", "/drop", "conf.d/b.yaml: local_directory: '/drop' is the folder of"),
        ("/drop", "/drop/x/y", "conf.d/b.yaml: local_directory: '/drop/x/y' lies inside the fold"),
        ("/drop/x", "/drop/", "conf.d/a.yaml: local_directory: '/drop/x' lies inside the folder"),
    ],
)
def test_the_same_or_nested_folders_are_a_mistake(deliveries, first, second, words):
    (line,) = deliveries(f"local_directory: {first}", f"local_directory: {second}")
    assert line.startswith(words)
    disabled = f"local_directory: {second}\nenabled: false"
    assert deliveries(f"local_directory: {first}", disabled) == []


def test_a_link_does_not_hide_that_folders_are_the_same(deliveries, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (line,) = deliveries(f"local_directory: {tmp_path}/real", f"local_directory: {tmp_path}/link/x")
    assert "lies inside the folder of the delivery in conf.d/a.yaml" in line


@pytest.mark.parametrize(
    ("first", "second", "file"),
    [
        ("s3_prefix: C2", "s3_prefix: /C2/", "b"),
        ("s3_prefix: C2", "s3_prefix: C2/x", "b"),
        ("s3_prefix: C2/x", "s3_prefix: C2", "a"),
        ("s3_prefix: ''", "s3_prefix: C2", "b"),
        (
            "s3_prefix: C2\nendpoint_url: http://Host:80/",
            "s3_prefix: C2\nendpoint_url: http://host",
            "b",
        ),
    ],
)
def test_the_same_or_nested_destinations_are_a_mistake_unless_both_say_so(
    deliveries, first, second, file
):
    share = "\nshares_prefix: true"
    (line,) = deliveries(first, second)
    assert line.startswith(f"conf.d/{file}.yaml: s3_prefix: 'recordings/")
    assert len(deliveries(first + share, second)) == 1
    assert len(deliveries(first, second + share)) == 1
    assert deliveries(first + share, second + share) == []
    assert deliveries(first, second + "\nenabled: no") == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("s3_prefix: C2", "s3_prefix: C20"),
        ("s3_prefix: C2", "s3_prefix: C2\nbucket_name: others"),
        ("s3_prefix: C2", "s3_prefix: C2\nendpoint_url: http://host"),
    ],
)
def test_destinations_that_only_look_alike_are_fine(deliveries, first, second):
    assert deliveries(first, second) == []


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("/drop/a/state", "'/drop/a' holds the state directory ('/drop/a/state')"),
        ("/drop/a", "'/drop/a' holds the state directory"),
        ("/drop", "'/drop/a' lies inside the state directory ('/drop')"),
    ],
)
def test_the_state_directory_and_drop_folders_are_apart(deliveries, state, words):
    (line,) = deliveries("", daemon=f"state_directory: {state}")
    assert words in line


def test_a_delivery_with_other_mistakes_still_collides(deliveries):
    found = deliveries("max_workers: many", "local_directory: /drop/a\nbucket_name: X")
    assert [line.partition(":")[0] for line in found] == ["conf.d/a.yaml"] + ["conf.d/b.yaml"] * 2


def test_what_is_unknown_because_it_is_wrong_does_not_collide(deliveries):
    (line,) = deliveries("", "s3_prefix: a\nshares_prefix: maybe")
    assert "shares_prefix: 'maybe' is not" in line


def test_files_that_are_moved_into_another_delivery_are_a_mistake(deliveries):
    (line,) = deliveries("after_verified: move:/drop/b/done", "")
    assert line.startswith("conf.d/a.yaml: after_verified: '/drop/b/done' is or lies inside")
    assert deliveries("after_verified: move:/drop/b/done", "enabled: false") == []
    assert deliveries("after_verified: move:/drop/done", "after_verified: move:/drop/done") == []
