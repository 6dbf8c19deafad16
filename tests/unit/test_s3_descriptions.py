"""However many deliveries there are, the library's descriptions of services are read once."""

from __future__ import annotations

import threading

import pytest
from botocore.loaders import JSONFileLoader

from sensordrop.adapters.s3.client import S3Settings, make_client, make_session
from sensordrop.adapters.s3.descriptions import descriptions


@pytest.fixture(autouse=True)
def nothing_read_yet():
    descriptions.cache_clear()
    yield
    descriptions.cache_clear()


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The descriptions that were read from the disk, by their paths without ending."""
    paths: list[str] = []
    load_file = JSONFileLoader.load_file

    def counted(self, path):
        found = load_file(self, path)
        if found is not None:
            paths.append(str(path))
        return found

    monkeypatch.setattr(JSONFileLoader, "load_file", counted)
    return paths


def client(bucket: str):
    settings = S3Settings(
        bucket_name=bucket,
        endpoint_url="http://127.0.0.1:9",
        aws_region="eu-west-1",
        access_key_id="key",
        secret_access_key="secret",
    )
    made = make_client(make_session(settings), settings)
    return made.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})


def test_the_second_delivery_reads_nothing_anew(read):
    assert "/one/" in client("one")
    assert any("/s3/" in path for path in read)
    first = len(read)
    assert "/two/" in client("two")
    assert len(read) == first


def test_deliveries_that_begin_at_once_read_each_description_once(read):
    threads = [threading.Thread(target=client, args=(f"bucket{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    models = [path for path in read if "/s3/" in path and "service-2" in path]
    assert models
    assert len(models) == len(set(models))


def test_descriptions_of_ones_own_are_still_found(monkeypatch, tmp_path):
    client("one")
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    settings = S3Settings(bucket_name="b", aws_region="eu-west-1")
    loader = make_session(settings)._session.get_component("data_loader")
    assert str(tmp_path) in loader.search_paths
    monkeypatch.delenv("AWS_DATA_PATH")
    loader = make_session(settings)._session.get_component("data_loader")
    assert str(tmp_path) not in loader.search_paths
