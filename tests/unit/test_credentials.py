"""Secrets as files become the variables that boto3, libpq and the configuration know."""

from __future__ import annotations

import pytest

from sensordrop.config import ConfigurationError, take_credentials


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "credentials").mkdir()
    return tmp_path


def keep(folder, **files):
    for name, text in files.items():
        (folder / name).write_text(text)


def test_what_systemd_hands_over_is_taken(folder):
    given = folder / "run"
    given.mkdir()
    keep(given, sensordrop_database_password="hush\n", sensordrop_aws_credentials="[default]\n")
    keep(folder / "credentials", database_url="postgresql://not-asked")
    environ = {"CREDENTIALS_DIRECTORY": str(given)}
    take_credentials(folder, environ)
    assert environ == {
        "CREDENTIALS_DIRECTORY": str(given),
        "PGPASSWORD": "hush",
        "AWS_SHARED_CREDENTIALS_FILE": str(given / "sensordrop_aws_credentials"),
    }


@pytest.mark.parametrize("named", ["the folder", "a file in it"])
def test_a_folder_beside_the_configuration_counts_for_verbs_and_other_hosts(folder, named):
    keep(folder / "credentials", database_url="postgresql://u:p@h/d\n", aws_access_key_id="AKIA\n")
    keep(folder, **{"one.yaml": ""})
    environ: dict[str, str] = {}
    take_credentials(folder if named == "the folder" else folder / "one.yaml", environ)
    assert environ == {
        "SENSORDROP_DATABASE_URL": "postgresql://u:p@h/d",
        "AWS_ACCESS_KEY_ID": "AKIA",
    }


def test_a_variable_that_is_set_stays(folder):
    keep(folder / "credentials", database_password="from the file")
    environ = {"PGPASSWORD": "from the environment"}
    take_credentials(folder, environ)
    assert environ["PGPASSWORD"] == "from the environment"


def test_every_file_that_nobody_would_read_is_told_without_its_content(folder):
    keep(folder / "credentials", databse_password="hush", notes="hush", **{".gitignore": "x"})
    (folder / "credentials" / "database_url").write_bytes(b"\xff\xfehush")
    with pytest.raises(ConfigurationError) as caught:
        take_credentials(folder, {})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "hush" not in str(caught.value)
    assert lines[0] == (
        "credentials: database_url: can't be read: it is not UTF-8 text — "
        "let the user of the daemon read it, or remove it"
    )
    assert lines[1].endswith("did you mean 'database_password'?")


def test_no_folder_is_no_mistake(tmp_path):
    environ: dict[str, str] = {}
    take_credentials(tmp_path, environ)
    take_credentials(None, environ)
    assert environ == {}
