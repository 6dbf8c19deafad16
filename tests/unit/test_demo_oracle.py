"""The demo's second opinion finds what is wrong, whatever the daemon thinks."""

from __future__ import annotations

import hashlib
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensordrop.cli.demo_oracle import (
    OracleError,
    compare,
    disturbed_on_disk,
    folded,
    key_of,
    list_folder,
    read_bucket,
    text_of,
)
from sensordrop.core.keys import path_text


def quiet(_done, _of):
    pass


def sha256(content):
    return hashlib.sha256(content).digest()


def judged(root, objects, *, changed=frozenset()):
    digests = {key: sha256(content) for key, content in objects.items()}
    return compare(root, list_folder(root), digests, prefix="C1", changed=changed, tick=quiet)


@pytest.fixture
def card(tmp_path):
    (tmp_path / "S1").mkdir()
    (tmp_path / "S1" / "a.wav").write_bytes(b"aaa")
    (tmp_path / "S1" / "b.wav").write_bytes(b"bbb")
    (tmp_path / "S1" / "._a.wav").write_bytes(b"junk")
    return tmp_path


WHOLE = {"C1/S1/a.wav": b"aaa", "C1/S1/b.wav": b"bbb"}


def test_what_arrived_whole_is_right(card):
    found = judged(card, WHOLE)
    assert found.right == {"C1/S1/a.wav": 3, "C1/S1/b.wav": 3}
    assert not found.missing
    assert not found.different
    assert not found.extra


def test_a_file_that_did_not_arrive_is_missing(card):
    found = judged(card, {"C1/S1/a.wav": b"aaa"})
    assert found.missing == ["S1/b.wav"]
    assert list(found.right) == ["C1/S1/a.wav"]


def test_equal_size_is_not_equal_content(card):
    found = judged(card, WHOLE | {"C1/S1/b.wav": b"bbc"})
    assert found.different == ["S1/b.wav"]
    assert not found.missing


def test_two_files_that_were_mixed_up_are_both_different(card):
    found = judged(card, {"C1/S1/a.wav": b"bbb", "C1/S1/b.wav": b"aaa"})
    assert found.different == ["S1/a.wav", "S1/b.wav"]


def test_an_object_that_nobody_dropped_is_named(card):
    found = judged(card, WHOLE | {"C1/S1/._a.wav": b"junk", "C1/S1/a~0.wav": b"aaa"})
    assert found.extra == ["C1/S1/._a.wav", "C1/S1/a~0.wav"]


def test_a_second_copy_of_a_file_that_did_not_change_is_one_too_many(card):
    copy = f"C1/S1/a~{sha256(b'older').hex()[:16]}.wav"
    assert judged(card, WHOLE | {copy: b"older"}).extra == [copy]


def test_a_file_that_changed_is_right_if_its_last_content_is_beside_the_first(card):
    copy = f"C1/S1/a~{sha256(b'aaa').hex()[:16]}.wav"
    objects = WHOLE | {"C1/S1/a.wav": b"first", copy: b"aaa"}
    found = judged(card, objects, changed={b"S1/a.wav"})
    assert found.right == {copy: 3, "C1/S1/b.wav": 3}
    assert not found.extra


def test_a_file_that_was_removed_while_the_daemon_ran_leaves_no_object_too_many(card):
    (card / "S1" / "b.wav").unlink()
    assert not judged(card, WHOLE, changed={b"S1/b.wav"}).extra
    assert judged(card, WHOLE).extra == ["C1/S1/b.wav"]


def test_a_listing_says_why_entries_are_left_out(card):
    (card / "S1" / "link.wav").symlink_to(card / "S1" / "a.wav")
    os.mkfifo(card / "S1" / "pipe.wav")
    listing = list_folder(card)
    assert sorted(listing.files) == [b"S1/a.wav", b"S1/b.wav"]
    assert listing.ignored == {
        b"S1/._a.wav": "junk",
        b"S1/link.wav": "symbolic link",
        b"S1/pipe.wav": "not a regular file",
    }
    assert listing.size_bytes == 6
    assert listing.sensors == ["S1"]


def test_a_listing_of_what_is_not_there_is_an_error_and_not_empty(tmp_path):
    with pytest.raises(FileNotFoundError):
        list_folder(tmp_path / "nowhere")


def test_changes_are_told(card):
    before = list_folder(card)
    (card / "S1" / "a.wav").write_bytes(b"ccc")
    os.utime(card / "S1" / "a.wav", ns=(0, before.files[b"S1/a.wav"].mtime_ns))
    (card / "S1" / "b.wav").rename(card / "S1" / "c.wav")
    assert list_folder(card).changes_since(before) == {
        b"S1/a.wav": "changed",
        b"S1/b.wav": "removed",
        b"S1/c.wav": "added",
    }
    assert list_folder(card).changes_since(list_folder(card)) == {}


def test_plain_files_are_held_against_what_s3_gave(tmp_path):
    (tmp_path / "C1").mkdir()
    for name, content in {"a": b"a", "b": b"X", "c": b"c", "n\nl": b"n"}.items():
        (tmp_path / "C1" / name).write_bytes(content)
    objects = {"C1/a": b"a", "C1/b": b"b", "C1/d": b"d", "C1/n\nl": b"n"}
    digests = {key: sha256(content) for key, content in objects.items()}
    assert disturbed_on_disk(tmp_path, digests, quiet) == {"C1/b", "C1/c", "C1/d"}


def test_a_file_that_goes_away_while_it_is_compared_ends_in_a_clear_error(card):
    listing = list_folder(card)
    (card / "S1" / "a.wav").unlink()
    with pytest.raises(OracleError, match=r"S1/a\.wav can't be read: No such file"):
        compare(card, listing, {}, prefix="C1", changed=set(), tick=quiet)


@given(st.binary(min_size=1).filter(lambda path: b"\0" not in path))
def test_the_second_opinion_writes_names_as_the_contract_does(path):
    assert text_of(path) == path_text(path)
    assert key_of("C2", path) == "C2/" + path_text(path)


def test_a_key_is_known_again_as_rclone_lists_it():
    assert folded("C1/a\nb") == folded("C1/a␊b")
    assert folded("C1/\u201bquote") == folded("C1/\u201b\u201bquote")
    assert folded("C1/a b") != folded("C1/ab")


class Refusing(BaseHTTPRequestHandler):
    """Lists two objects; answers 500 to who asks for one, as rclone does, and gives the other."""

    def do_GET(self) -> None:
        if "list-type" in self.path:
            found = "".join(f"<Contents><Key>C1/{n}</Key></Contents>" for n in ("gone", "here"))
            self._answer(200, f"<ListBucketResult>{found}</ListBucketResult>".encode())
        elif self.path.endswith("/here"):
            self._answer(200, b"here")
        elif self.path.endswith("/gone"):
            self._answer(500, b"<Error><Code>InternalError</Code></Error>")
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amz-checksum-crc32", "977m6Q==")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_an_object_that_the_server_lists_and_does_not_give_is_named(monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever).start()
        place = SimpleNamespace(
            access_key="a",
            secret_key="s",
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
        )
        try:
            found = read_bucket(place, "bucket", ["C1/here", "C1/never"], quiet)
        finally:
            server.shutdown()
    assert found.digests == {"C1/here": sha256(b"here")}
    assert list(found.unreadable) == ["C1/gone"]
    assert "InternalError" in found.unreadable["C1/gone"]
