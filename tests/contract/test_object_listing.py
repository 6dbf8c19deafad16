"""What a bucket holds is listed into the ledger, and claims know of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from s3_servers import BUCKET, SERVERS, Asked, Reply, S3Server, ScriptedServer, running
from test_engine import Store, drop, enroll, services, wait_until
from test_engine import make as make_delivery
from test_ledger import ask, binding, register, row, sweep

from sensordrop.adapters.clock import SystemClock
from sensordrop.adapters.ledger.listed import key_digest
from sensordrop.adapters.s3 import S3Destination
from sensordrop.core.failure import Failure, FailureError, FailureScope
from sensordrop.engine.lister import Lister
from sensordrop.ports.storing import ListedObject, ListedPage

__all__ = ["services"]

ODD_KEYS = (
    "C1/S 1/two  spaces +plus.wav",
    "C1/100%25/a%2Fb.wav",
    "C1/Käuzchen/日本語 🦉.wav",
    "C1/a&b=c;d#e?f<g>.wav",
    "C1/not\\xffescaped.wav",
    "C1/bell\x07.wav",
)


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request, tmp_path_factory) -> Iterator[S3Server]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


def make(*arguments, **settings):
    """Give a delivery whose destination has passed its check."""
    delivery = make_delivery(*arguments, **settings)
    delivery.checked = True
    return delivery


def listed(*keys: str) -> tuple[ListedObject, ...]:
    return tuple(ListedObject(key=key, size_bytes=9, etag="e") for key in keys)


class Shelf(Store):
    """A destination whose listing is scripted: pages, or failures in their place."""

    def __init__(self, *pages: Sequence[str] | Exception) -> None:
        super().__init__()
        self.pages = list(pages)
        self.asked: list[str | None] = []
        self.hang: threading.Event | None = None

    def list_page(self, prefix, token):
        assert prefix == "C1"
        self.asked.append(token)
        if self.hang is not None:
            self.hang.wait(60)
        number = int(token or 0)
        page = self.pages[number]
        if isinstance(page, Exception):
            self.pages[number] = ()
            raise page
        last = number + 1 == len(self.pages)
        return ListedPage(objects=listed(*page), next_token=None if last else str(number + 1))


def down() -> FailureError:
    scope = FailureScope.DESTINATION
    return FailureError(Failure(scope=scope, error_class="connect", message="down", hint="look"))


def known(database) -> set[bytes]:
    return {bytes(digest) for (digest,) in ask(database, "SELECT key_digest FROM listed_objects")}


# --- pages --------------------------------------------------------------------------------


def test_all_pages_are_listed_with_every_odd_key(server):
    client = server.client()
    many = [f"C1/950349/{number:05d}.wav" for number in range(2_100 - len(ODD_KEYS))]
    for key in (*many, *ODD_KEYS, "C11/other.wav", "_sensordrop/receipt.json"):
        client.put_object(Bucket=BUCKET, Key=key, Body=b"recording")
    destination = S3Destination(server.settings())
    found, token, pages = [], None, 0
    while pages == 0 or token is not None:
        page = destination.list_page("C1", token)
        found += page.objects
        token = page.next_token
        pages += 1
    assert pages >= 3
    assert sorted(each.key for each in found) == sorted((*many, *ODD_KEYS))
    assert {each.size_bytes for each in found} == {9}
    assert {each.etag for each in found} == {
        client.head_object(Bucket=BUCKET, Key=many[0])["ETag"].strip('"')
    }
    everything = destination.list_page("", None)
    assert not any(each.key.startswith("_sensordrop/") for each in everything.objects)


@pytest.mark.parametrize(
    "body",
    [
        b"<ListBucketResult><Name>hotel-wifi</Name></ListBucketResult>",
        b"<ListBucketResult><Name>field-data</Name><IsTruncated>true</IsTruncated></ListBucketResult>",
    ],
    ids=["a sign-in page", "more, but not where"],
)
def test_a_listing_that_can_not_be_right_is_no_listing(body, server):
    def answer(_asked: Asked) -> Reply:
        return Reply(headers={"Content-Type": "application/xml"}, body=body)

    with ScriptedServer(answer) as liar:
        destination = S3Destination(server.settings(endpoint_url=liar.endpoint_url))
        with pytest.raises(FailureError) as refused:
            destination.list_page("C1", None)
    assert refused.value.failure.error_class == "bad-answer"


# --- the ledger ---------------------------------------------------------------------------


def test_a_claim_knows_whether_its_key_is_listed(ledger):
    place = register(ledger)
    north = place.delivery_ids["north"]
    odd = row(b"S/\xff.wav").removesuffix(b"\n") + b"S/\\\\xff.wav\n"
    sweep(ledger, north, row(b"S/there.wav"), row(b"S/free.wav"), row("S/Käuzchen".encode()), odd)
    assert ledger.listing_age_seconds(north) is None
    listing = ledger.begin_object_listing(north)
    there = ("C1/S/there.wav", "C1/S/Käuzchen", "C1/S/\\xff.wav")
    ledger.add_listed(listing, listed(*there, there[0]))
    claims = {c.path_text: c.listed for c in ledger.claim(place.daemon_id, north, 10)}
    assert claims == {
        "S/there.wav": True,
        "S/free.wav": False,
        "S/Käuzchen": True,
        "S/\\xff.wav": True,
    }
    assert ledger.listing_age_seconds(north) is None, "a listing that is under way is not complete"
    ledger.end_object_listing(listing, 3)
    assert 0 <= ledger.listing_age_seconds(north) < 600


def test_a_delivery_without_a_prefix_knows_its_keys_too(ledger):
    place = register(ledger, binding(s3_prefix="", cycle="all"))
    north = place.delivery_ids["north"]
    sweep(ledger, north, row(b"S/there.wav"))
    ledger.add_listed(ledger.begin_object_listing(north), listed("S/there.wav"))
    assert [c.listed for c in ledger.claim(place.daemon_id, north, 10)] == [True]


def test_what_a_complete_listing_no_longer_has_is_forgotten(ledger, database):
    place = register(ledger, binding(), binding("south", s3_prefix="C2", cycle="C2"))
    north, south = place.delivery_ids["north"], place.delivery_ids["south"]
    first = ledger.begin_object_listing(north)
    ledger.add_listed(first, listed("C1/a", "C1/b"))
    assert ledger.end_object_listing(first, 2) == 0
    elsewhere = ledger.begin_object_listing(south)
    ledger.add_listed(elsewhere, listed("C2/a"))
    broken_off = ledger.begin_object_listing(north)
    ledger.add_listed(broken_off, listed("C1/c"))
    assert known(database) == {key_digest(k) for k in ("C1/a", "C1/b", "C1/c", "C2/a")}
    again = ledger.begin_object_listing(north)
    ledger.add_listed(again, listed("C1/b"))
    assert ledger.end_object_listing(again, 1) == 2
    assert known(database) == {key_digest("C1/b"), key_digest("C2/a")}


# --- the lister ---------------------------------------------------------------------------


def start(ledger, services, *deliveries) -> Lister:
    lister = Lister(ledger=ledger, clock=SystemClock(), deliveries=deliveries)
    services(lister, lister.wake)
    return lister


def complete(database) -> list[int]:
    sql = "SELECT objects FROM object_listings WHERE completed_at IS NOT NULL"
    return [objects for (objects,) in ask(database, sql)]


def test_a_prefix_is_listed_at_the_start_and_again_when_many_files_come(
    ledger, database, tmp_path, services
):
    place = register(ledger)
    shelf = Shelf(["C1/a"], ["C1/b"])
    delivery = make(tmp_path, place.delivery_ids["north"], shelf)
    lister = start(ledger, services, delivery)
    wait_until(lambda: complete(database) == [2], "the prefix is listed")
    assert shelf.asked == [None, "1"]
    lister.want(delivery.delivery_id)  # nothing waits to be stored: nobody needs a listing
    drop(tmp_path)
    enroll(ledger, delivery)
    shelf.pages = [["C1/a"]]
    lister.want(delivery.delivery_id)
    wait_until(lambda: complete(database) == [1], "it is listed again")
    assert shelf.asked == [None, "1", None]


def test_a_listing_that_is_recent_is_not_made_again(ledger, tmp_path, services):
    place = register(ledger)
    north = place.delivery_ids["north"]
    ledger.end_object_listing(ledger.begin_object_listing(north), 0)
    shelf, other = Shelf(["C1/a"]), Shelf(["C1/a"])
    south = register(ledger, binding(), binding("south", bucket_name="south")).delivery_ids["south"]
    start(ledger, services, make(tmp_path, north, shelf), make(tmp_path, south, other, "south"))
    wait_until(lambda: other.asked, "the other one is listed")
    assert shelf.asked == []


def test_a_listing_goes_on_after_a_failure_where_it_was(
    ledger, database, tmp_path, services, monkeypatch
):
    monkeypatch.setattr("sensordrop.engine.lister.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("sensordrop.engine.lister.PROGRESS_OBJECTS", 1)
    place = register(ledger)
    shelf = Shelf(["C1/a"], ["C1/b"], down(), ["C1/d"])
    start(ledger, services, make(tmp_path, place.delivery_ids["north"], shelf))
    wait_until(lambda: complete(database) == [3], "the listing is complete")
    assert shelf.asked == [None, "1", "2", "2", "3"]
    assert known(database) == {key_digest(k) for k in ("C1/a", "C1/b", "C1/d")}


def test_a_store_that_hangs_does_not_hold_up_the_end(ledger, tmp_path):
    place = register(ledger)
    shelf = Shelf(["C1/a"])
    shelf.hang = threading.Event()
    lister = Lister(
        ledger=ledger,
        clock=SystemClock(),
        deliveries=[make(tmp_path, place.delivery_ids["north"], shelf)],
    )
    stop = threading.Event()
    thread = threading.Thread(target=lister.run, args=(stop,))
    thread.start()
    wait_until(lambda: shelf.asked, "it asks")
    began = time.monotonic()
    stop.set()
    lister.wake()
    thread.join(20)
    shelf.hang.set()
    assert not thread.is_alive()
    assert time.monotonic() - began < 20, "the hanging request would take a minute"
