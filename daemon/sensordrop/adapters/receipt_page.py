"""A receipt as one page of HTML that a person can read, print and file: nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import segno

from sensordrop.core.markup import Inside, Markup, element, joined, name
from sensordrop.core.receipt import FileClass
from sensordrop.core.receipt_form import digest_of
from sensordrop.core.verification import Verdict

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Even if a name got out of its place, nothing would run and nothing would be loaded."""
SHOWN_PROBLEMS = 500
"""Problems that a page lists; a person reads fewer, and the files beside it have them all."""
SHOWN_SENSORS = 1_000
"""Sensors that a page lists."""
QR_BORDER = 4
"""Modules of white around a QR code; readers want four (ISO/IEC 18004)."""

MEANING = {
    Verdict.SAFE: "Every file that is in this folder is in the store, byte for byte, as far as it "
    "was asked for this receipt. It speaks of the moment that it was made.",
    Verdict.NOT_SAFE: "Do not wipe it yet. What stands against it is below.",
}
CLASSES = {
    FileClass.STORED: "stored and verified",
    FileClass.SKIPPED: "skipped",
    FileClass.QUARANTINED: "quarantined",
    FileClass.PENDING: "pending",
}


def page(document: Mapping[str, Any]) -> str:
    """Give the page of a receipt."""
    style = files("sensordrop.adapters").joinpath("receipt.css").read_text(encoding="utf-8")
    title = f"{document['verdict']}: receipt of {_title(document)}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        Markup(f"<style>{style}</style>"),
    )
    body = element(
        "body",
        element("h1", "Receipt of ", name(_title(document))),
        _verdict(document),
        _about(document),
        _counts(document),
        _problems(document),
        _sensors(document),
        _ignored(document),
        _proof(document),
    )
    return "<!DOCTYPE html>\n" + element("html", head, body, lang="en").text + "\n"


def _title(document: Mapping[str, Any]) -> str:
    scope = document["scope"]
    if scope["card"] is not None:
        return f"card {scope['card']}"
    if scope["sensor"] is not None:
        return f"{scope['delivery']}, sensor {scope['sensor']}"
    return str(scope["delivery"])


def _verdict(document: Mapping[str, Any]) -> Markup:
    found = Verdict(document["verdict"])
    words = "safe" if found is Verdict.SAFE else "unsafe"
    return element(
        "section",
        element("strong", found.value),
        MEANING[found],
        class_=f"verdict {words}",
        id="verdict",
    )


def _about(document: Mapping[str, Any]) -> Markup:
    facts: list[tuple[str, Inside]] = [
        ("made", f"{document['made_at']} by {document['made_by']}"),
        ("station", document["station"] or "not named"),
        ("folder", name(document["folder"])),
    ]
    if document["client"] is not None:
        place = f"{document['client']} / {document['project']} / {document['cycle']}"
        facts.insert(0, ("client, project, cycle", name(place)))
    for store in document["stores"]:
        at = store["address"] or store["endpoint_url"] or "an address that is not known"
        where = "/".join(part for part in (store["bucket_name"], store["s3_prefix"]) if part)
        facts.append(("store", f"{where} at {at}"))
    again = "every file was read again" if document["reread"] else "by size and times"
    facts.append(("folder compared", again))
    return _section("about", "What it is about", _list(facts))


def _counts(document: Mapping[str, Any]) -> Markup:
    counts = document["counts"]
    rows = [(CLASSES[each], counts[each.value]) for each in FileClass]
    total = {unit: sum(c[unit] for _, c in rows) for unit in ("files", "bytes")}
    lines = [
        element(
            "tr", element("td", words), _number(count["files"]), _number(count["bytes"])
        )
        for words, count in [*rows, ("together", total)]
    ]  # fmt: skip
    beside = []
    if document["gone"]:
        beside.append(f"{document['gone']:,} stored files are no longer in the folder. ")
    if document["conflicts"]:
        beside.append(
            f"{document['conflicts']:,} stored files lie beside other content of the same name. "
        )
    return _section(
        "counts", "Every file counted once",
        _table(("class", "files", "bytes"), lines), element("p", *beside) if beside else None,
    )  # fmt: skip


def _problems(document: Mapping[str, Any]) -> Markup | None:
    problems = document["problems"]
    if not problems:
        return None
    lines = [
        element("tr", element("td", name(p["path"], empty="all of it")), element("td", p["reason"]))
        for p in problems[:SHOWN_PROBLEMS]
    ]
    more = len(problems) - len(lines) + document["problems_left_out"]
    words = f"… and {more:,} more, in the list of files beside this page." if more else None
    return _section(
        "problems", f"What stands against it ({len(problems) + document['problems_left_out']:,})",
        _table(("file", "why"), lines), element("p", words) if words else None,
    )  # fmt: skip


def _sensors(document: Mapping[str, Any]) -> Markup | None:
    sensors = document["sensors"]
    if document["scope"]["card"] is not None or not sensors:
        return None
    lines = [
        element(
            "tr",
            element("td", name(serial, empty="no sensor's folder")),
            element("td", own["verdict"]),
            *(_number(own[each.value]["files"]) for each in FileClass),
            _number(own[FileClass.STORED.value]["bytes"]),
        )
        for serial, own in list(sensors.items())[:SHOWN_SENSORS]
    ]
    heads = ("sensor", "verdict", *CLASSES.values(), "bytes stored")
    left = len(sensors) - len(lines)
    words = f"… and {left:,} more sensors." if left else None
    return _section(
        "sensors", "Sensors", _table(heads, lines), element("p", words) if words else None
    )


def _ignored(document: Mapping[str, Any]) -> Markup | None:
    if not document["ignored"]:
        return None
    words = ", ".join(f"{number:,} {reason}" for reason, number in document["ignored"].items())
    return _section("ignored", "Skipped without harm", element("p", words))


def _proof(document: Mapping[str, Any]) -> Markup:
    digest = digest_of(document)
    facts: list[tuple[str, Inside]] = [
        ("SHA-256 of the receipt", element("code", digest)),
        ("public key", element("code", document["public_key"])),
        ("signature", element("code", document["signature"])),
        ("SHA-256 of its manifest", element("code", document["manifest"]["sha256"])),
        ("Payload-Oxum", element("code", document["payload_oxum"])),
    ]
    inside = element("div", _qr(digest), _list(facts), class_="proof")
    words = (
        "This page is a copy for people and is not signed. What counts is receipt.json beside it: "
        "sensordrop receipt verify receipt.json"
    )
    return _section("proof", "Proof", inside, element("p", words))


def _qr(digest: str) -> Markup:
    """Draw the digest as a QR code, dark on white also at night."""
    code = segno.make(f"sensordrop-receipt:{digest}", error="m", micro=False)
    size = len(code.matrix) + 2 * QR_BORDER
    drawn = "".join(
        f"M{x} {y}h1v1h-1z"
        for y, row in enumerate(code.matrix_iter(scale=1, border=QR_BORDER))
        for x, module in enumerate(row)
        if module
    )
    return element(
        "svg",
        element("rect", width=size, height=size, fill="#fff"),
        element("path", d=drawn, fill="#000"),
        viewBox=f"0 0 {size} {size}",
        role="img",
        aria_label=f"QR code of the receipt's SHA-256 {digest}",
    )


def _section(identity: str, title: str, *inside: Inside) -> Markup:
    return element("section", element("h2", title), *inside, id=identity)


def _list(facts: list[tuple[str, Inside]]) -> Markup:
    pairs = [joined(element("dt", what), element("dd", told)) for what, told in facts]
    return element("dl", *pairs)


def _table(heads: tuple[str, ...], lines: list[Markup]) -> Markup:
    row = element("tr", *(element("th", head, scope="col") for head in heads))
    table = element("table", element("thead", row), element("tbody", *lines))
    return element("div", table, class_="wide")


def _number(value: int) -> Markup:
    return element("td", f"{value:,}", class_="number")
