"""What a delivery asks for reaches the wire: by both engines, in one put and in parts."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from s3_destinations import GO_ON, KEY, MIB, content, nothing_of_the_users
from s3_servers import BUCKET, Asked, Reply, S3Server, ScriptedServer, running
from test_s3_capabilities import engine, etag

from sensordrop.adapters.s3 import S3Destination
from sensordrop.core.failure import FailureError
from sensordrop.core.lifecycle import Stored

__all__ = ["engine", "nothing_of_the_users"]  # fixtures

SMALL = {"multipart_threshold_bytes": 10 * MIB, "minimum_part_bytes": 5 * MIB}
ONE_PUT, IN_PARTS = 1000, 11 * MIB


class Obliging:
    """Take everything, and show an object in parts once it was completed."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._completed = False

    def __call__(self, asked: Asked) -> Reply:
        if asked.method == "HEAD":
            if not self._completed:
                return Reply(status=404)
            size = sum(self._sizes.values())
            return Reply(headers={"ETag": '"x"', "Content-Length": str(size)})
        if asked.method == "POST" and "uploadId" not in asked.path:
            return Reply(body=b"<R><UploadId>u1</UploadId></R>")
        if asked.method == "POST":
            self._completed = True
            return Reply(
                body=b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
            )
        self._sizes[asked.path] = len(asked.body)
        return Reply(headers={"ETag": etag(asked.body)})


def beginning(scripted: ScriptedServer) -> Asked:
    """Give the request that fixes what the object is kept with."""
    return next(
        each
        for each in scripted.asked
        if (each.method == "PUT" and "partNumber" not in each.path)
        or (each.method == "POST" and each.path.endswith("uploads"))
    )


@pytest.mark.parametrize("size", [ONE_PUT, IN_PARTS], ids=["one put", "parts"])
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"acl": "bucket-owner-full-control"}, {"x-amz-acl": "bucket-owner-full-control"}),
        ({"storage_class": "STANDARD_IA"}, {"x-amz-storage-class": "STANDARD_IA"}),
        ({"sse": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"sse": "aws:kms", "kms_key_id": "alias/field"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "alias/field",
            },
        ),
        (
            {"tags": {"client": "a b", "cycle": "C1=2+3"}},
            {"x-amz-tagging": "client=a%20b&cycle=C1%3D2%2B3"},
        ),
        ({}, {"content-type": "audio/wav"}),
    ],
    ids=["acl", "storage class", "encryption", "key", "tags", "media type"],
)
def test_what_an_object_is_kept_with_reaches_the_store(
    tmp_path: Path, engine: Any, size: int, chosen: dict[str, Any], expected: dict[str, str]
) -> None:
    with ScriptedServer(Obliging()) as scripted:
        destination = engine(scripted.settings(**SMALL, **chosen))
        assert isinstance(destination.store(content(tmp_path, bytes(size)), KEY, GO_ON), Stored)
    headers = beginning(scripted).headers
    assert {name: headers.get(name) for name in expected} == expected


@pytest.mark.parametrize("size", [ONE_PUT, IN_PARTS], ids=["one put", "parts"])
def test_what_was_not_chosen_is_not_sent(tmp_path: Path, engine: Any, size: int) -> None:
    with ScriptedServer(Obliging()) as scripted:
        engine(scripted.settings(**SMALL)).store(content(tmp_path, bytes(size)), KEY, GO_ON)
    sent = set(beginning(scripted).headers)
    assert not {name for name in sent if name.startswith(("x-amz-acl", "x-amz-server-side"))}
    assert not sent & {"x-amz-storage-class", "x-amz-tagging", "x-amz-checksum-sha256"}


@pytest.mark.parametrize("size", [ONE_PUT, IN_PARTS], ids=["one put", "parts"])
def test_a_canned_acl_is_in_force_on_a_real_server(tmp_path: Path, engine: Any, size: int) -> None:
    with running("moto", tmp_path / "moto") as server:
        destination = engine(server.settings(acl="public-read", **SMALL))
        destination.store(content(tmp_path, bytes(size)), KEY, GO_ON)
        grants = server.client().get_object_acl(Bucket=BUCKET, Key=KEY)["Grants"]
    everybody = [g for g in grants if "AllUsers" in g["Grantee"].get("URI", "")]
    assert [grant["Permission"] for grant in everybody] == ["READ"]


@pytest.mark.parametrize("size", [ONE_PUT, IN_PARTS], ids=["one put", "parts"])
@pytest.mark.parametrize(
    ("style", "host", "path"),
    [
        ("path", "store.example", f"/{BUCKET}/{KEY}"),
        ("auto", "store.example", f"/{BUCKET}/{KEY}"),
        (None, "store.example", f"/{BUCKET}/{KEY}"),
        ("virtual", f"{BUCKET}.store.example", f"/{KEY}"),
    ],
)
def test_the_bucket_stands_where_the_style_says(
    tmp_path: Path, engine: Any, size: int, style: Any, host: str, path: str
) -> None:
    """The scripted server is the proxy, so that it sees requests to any host."""
    with ScriptedServer(Obliging()) as scripted:
        settings = scripted.settings(
            endpoint_url="http://store.example",
            proxy=scripted.endpoint_url,
            addressing_style=style,
            **SMALL,
        )
        engine(settings).store(content(tmp_path, bytes(size)), KEY, GO_ON)
    assert scripted.asked
    for asked in scripted.asked:
        assert asked.headers["host"] == host
        assert asked.path.partition("?")[0] == f"http://{host}{path}"


@pytest.mark.parametrize("size", [ONE_PUT, IN_PARTS], ids=["one put", "parts"])
@pytest.mark.parametrize("when", ["when_required", "when_supported", None])
def test_checksums_go_out_when_the_setting_says(
    tmp_path: Path, engine: Any, size: int, when: Any
) -> None:
    with ScriptedServer(Obliging()) as scripted:
        settings = scripted.settings(request_checksum_calculation=when, **SMALL)
        engine(settings).store(content(tmp_path, bytes(size)), KEY, GO_ON)
    puts = [each for each in scripted.asked if each.method == "PUT"]
    sent = {"x-amz-checksum-sha256" in each.headers for each in puts}
    assert sent == {when == "when_supported"}, "a custom endpoint gets none by itself"


# --- certificates -------------------------------------------------------------------------


@pytest.fixture
def make_certificate(tmp_path: Path) -> Callable[[], tuple[Path, Path]]:
    def make() -> tuple[Path, Path]:
        """Make a certificate of this machine's own; give its file and its key's."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        cert_file, key_file = tmp_path / "store.pem", tmp_path / "store.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_file, key_file

    return make


@pytest.mark.parametrize("size", [ONE_PUT, IN_PARTS], ids=["one put", "parts"])
def test_a_store_with_a_certificate_of_its_own_is_trusted_by_the_bundle_alone(
    tmp_path: Path, engine: Any, make_certificate: Any, size: int
) -> None:
    certificate, key = make_certificate()
    with ScriptedServer(Obliging()) as scripted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        scripted.wrap(context)
        with pytest.raises(FailureError) as raised:
            engine(scripted.settings(**SMALL)).store(content(tmp_path, bytes(size)), KEY, GO_ON)
        assert raised.value.failure.error_class == "tls"
        assert "ca_bundle" in raised.value.failure.hint
        settings = scripted.settings(ca_bundle=str(certificate), **SMALL)
        assert isinstance(
            engine(settings).store(content(tmp_path, bytes(size)), KEY, GO_ON), Stored
        )
        checks = S3Destination(settings).preflight("C1")
        assert checks[0].name == "credentials"
    assert {each.path.partition("?")[0] for each in scripted.asked} >= {f"/{BUCKET}/{KEY}"}


def test_tags_reach_a_real_server(tmp_path: Path, engine: Any) -> None:
    tags = {"client": "a b", "cycle": "C1=2+3"}
    with running("moto", tmp_path / "moto") as server:
        _store_with_tags(server, engine, tmp_path, tags)
        kept = server.client().get_object_tagging(Bucket=BUCKET, Key=KEY)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in kept} == tags


def _store_with_tags(server: S3Server, engine: Any, tmp_path: Path, tags: dict[str, str]) -> None:
    engine(server.settings(tags=tags)).store(content(tmp_path, b"x"), KEY, GO_ON)
