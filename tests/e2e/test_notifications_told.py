"""Whoever wants news of a delivery is told when a session begins, fails and ends, in words of his own."""

from __future__ import annotations

import json

from between import GoBetween
from daemon import age, drop_files
from receivers import answer, cut_in_the_answer, receiving
from test_retry_verbs import Refusing


def test_news_come_by_the_template_through_faults_and_the_address_stays_secret(station):
    with (
        receiving() as receiver,
        GoBetween(station.server.endpoint_url, Refusing()) as between,
    ):
        receiver.script = [answer(503), cut_in_the_answer]
        station.environment["SENSORDROP_NOTIFY_URL"] = f"{receiver.url}/s3cr3t-hook"
        station.delivery(
            endpoint_url=between.endpoint_url,
            times_to_retry=0,
            endpoint={"url": receiver.url, "allow_private_addresses": True},
            notify={
                "allow_private_addresses": True,
                "template": {"text": "{message}", "fields": ["{event}", "{files_failed}"]},
            },
        )
        drop_files(station.drop, {"950349/1.WAV": b"dawn", "950349/bad.WAV": b"dusk"})
        age(station.drop)
        station.start()

        def letters() -> dict[str, str]:
            rows = station.ledger.rows("SELECT kind, state FROM outbox")
            return {row["kind"]: row["state"] for row in rows}

        kinds = ("start", "failure", "done", "registration")
        station.wait_for(lambda: letters() == dict.fromkeys(kinds, "told"), what="all told")
        news = {}
        for heard in receiver.heard:
            kind = heard.headers["sensordrop-event"]
            news.setdefault(kind, set()).add((heard.key, heard.body))
        assert {kind: len(each) for kind, each in news.items()} == dict.fromkeys(kinds, 1), (
            "what is sent again has the same key and body"
        )
        said = {kind: json.loads(body) for kind, ((_, body),) in news.items()}
        assert said["start"]["text"].startswith("card: session 1 began at ")
        assert said["failure"]["text"].startswith("card: session 1 is in trouble: 950349/bad.WAV: ")
        assert said["failure"]["fields"] == ["failure", "1"]
        assert said["done"] == {
            "text": "card: session 1 ended with trouble: 1 of 2 files uploaded, 1 failed",
            "fields": ["done", "1"],
        }
        assert said["registration"]["files_uploaded"] == 1, "it is as it ever was"
        assert {h.path for h in receiver.heard if h.headers["sensordrop-event"] == "done"} == {
            "/sessions/s3cr3t-hook"
        }
        shown = station.sensordrop("session", "1").stdout
        assert "failure to http://127.0.0.1:" in shown
        assert "/***: told" in shown
        kept = station.ledger.rows("SELECT configuration::text AS text FROM config_history")
        rows = station.ledger.rows("SELECT * FROM outbox")
        told = station.daemon.output() + shown + str(kept) + str(rows)
        assert "s3cr3t" not in told
