"""Our signatures are botocore's."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from unittest.mock import patch

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from sensordrop.adapters.s3.sigv4 import SigningKeys, encoded_path, encoded_query, signed_headers

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
QUERIES = st.lists(
    st.tuples(st.text(min_size=1, max_size=10), st.text(max_size=15)),
    max_size=4,
    unique_by=lambda pair: pair[0],
)
KEYS = st.builds(
    SigningKeys,
    access_key_id=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=16, max_size=20),
    secret_access_key=st.text(
        st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40
    ),
    session_token=st.none() | st.text("abcdefghijABCDEFGHIJ0123456789+/=", min_size=1, max_size=60),
)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 — made UTC below


def theirs(method, url, headers, payload, keys, region, moment):
    request = AWSRequest(method=method, url=url, headers=headers, data=payload)
    request.context["payload_signing_enabled"] = True
    signer = S3SigV4Auth(
        Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token), "s3", region
    )
    with patch("botocore.auth.get_current_datetime", return_value=moment):
        signer.add_auth(request)
    return request.headers["Authorization"]


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]),
    key=st.binary(min_size=1, max_size=60),
    query=QUERIES,
    extra=st.dictionaries(NAMES.map(lambda name: f"x-amz-meta-{name}"), VALUES, max_size=4),
    payload=st.binary(max_size=50),
    keys=KEYS,
    region=st.sampled_from(["us-east-1", "eu-west-1", "cn-north-1"]),
    moment=MOMENTS,
)
def test_signatures_of_random_requests_are_equal(
    method, key, query, extra, payload, keys, region, moment
):
    path = encoded_path(b"/bucket/" + key)
    asked = encoded_query(query)
    ours = signed_headers(
        method=method,
        host="store.example.org:9000",
        path=path,
        query=asked,
        headers=extra,
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        keys=keys,
        region=region,
        now=moment.replace(tzinfo=UTC),
    )
    url = f"http://store.example.org:9000{path}" + (f"?{asked}" if asked else "")
    assert ours["authorization"] == theirs(
        method, url, dict(extra), payload, keys, region, moment.replace(tzinfo=UTC)
    )


def test_a_signature_depends_on_the_payload():
    def signature(payload: bytes) -> str:
        return signed_headers(
            method="PUT",
            host="h",
            path="/b/k",
            headers={},
            payload_sha256=hashlib.sha256(payload).hexdigest(),
            keys=SigningKeys(access_key_id="A" * 16, secret_access_key="s"),
            region="r",
            now=datetime(2026, 1, 1, tzinfo=UTC),
        )["authorization"]

    assert signature(b"a") != signature(b"b")
