"""What counts: junk, patterns of names, kinds, and the order of the reasons."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sensordrop.core.glob import forward_regex, glob_regex, name_regex
from sensordrop.core.model import EntryType, FileKind
from sensordrop.core.selection import (
    EXTENSIONS,
    IgnoreReason,
    Selection,
    extension_of,
    kind_of,
)

EVERYTHING = Selection()

JUNK = [
    "System Volume Information/IndexerVolumeGuid",
    "System Volume Information/WPSettings.dat",
    "950349/System Volume Information/tracking.log",
    "$RECYCLE.BIN/S-1-5-21/desktop.ini",
    "$RECYCLE.BIN/$R1.WAV",
    "RECYCLER/x.wav",
    ".Trashes/501/20250909_092000.WAV",
    ".Trashes",
    ".Trash/a.wav",
    ".Trash-1000/files/20250909_092000.WAV",
    ".Trash-1000/info/20250909_092000.WAV.trashinfo",
    "950349/.Spotlight-V100/Store-V2/x",
    ".fseventsd/fseventsd-uuid",
    ".fseventsd/0000000000a1b2c3",
    ".TemporaryItems/folders.501/x",
    ".DocumentRevisions-V100/x",
    "._20250909_092000.WAV",
    "950349/._IMG_0001.JPG",
    "._X.WAV",
    "._.Trashes",
    "._",
    "950349/.DS_Store",
    "DCIM/100RECNX/Thumbs.db",
    "ehthumbs.db",
    "DCIM/desktop.ini",
    "LOST.DIR/12345",
    ".dtrash/files/IMG_0001.JPG",
    "line\nbreak/.DS_Store",
]

NO_JUNK = [
    # AudioMoth
    "950349/20250909_092000.WAV",
    "20250909/24F319046034A3C5_20250909_092000T.WAV",
    "5B07C752.WAV",
    "00000000.WAV",
    "950349/CONFIG.TXT",
    "950349/GPS.TXT",
    # Song Meter
    "Data/SMA01234_20250909_092000.wav",
    "Data/SM3_0+1_20250909_092000.wav",
    "Data/SMU01234_20250909$092000.wav",
    "Data/SMA01234_20250909_092000.wac",
    "Data/S4U01234_20250909_092000.w4v",
    "Data/S4U01234_20250909_092000.zc",
    "SMA01234_Summary.txt",
    "SMA01234_A_Summary.txt",
    "SMA01234.miniconfig",
    "SMA01234.minidiags",
    "S4A01234.sm4dump",
    # Frontier BAR
    "20160823_063006_Dawn _-1.4763 178.8986_.wav",
    "20181101_060000_REC [-27.3866 152.8761].flac",
    "S20240815T091156.982648+1000_E20240815T091251.967555+1000_-12.34567+78.98102.wav",
    "data",
    "Reclog.csv",
    "GPS_log.csv",
    "logfile_00012345_SD1.txt",
    # Camera traps
    "DCIM/100RECNX/IMG_0001.JPG",
    "DCIM/101RECNX/IMG_0001.JPG",
    "DCIM/100EK113/EK000001.JPG",
    "DCIM/100_BTCF/IMG_0001.JPG",
    "DCIM/100_BTCF/IMG_0002.TLS",
    "DCIM/100MEDIA/DSCF0001.AVI",
    "DCIM/100MEDIA/DSCF0002.MP4",
    # Names of folders, recovered pieces, and what only looks like junk
    "Audiomoth 1/20250909_092000.WAV",
    "FOUND.000/FILE0000.CHK",
    ".hidden.wav",
    ".config/recorder.ini",
    ".",
    "Trashes/x.wav",
    "Trash-1000/x.wav",
    "my Thumbs.db.wav",
    "Thumbs.db.wav",
    "myThumbs.db",
    "System Volume Information 2/x.wav",
    "my System Volume Information/x.wav",
    "RECYCLE.BIN/x.wav",
    "$RECYCLExBIN/x.wav",
    "LOST.DIR2/x.wav",
    "LOSTxDIR/x.wav",
    ".DS_Store.wav",
    "xDS_Store",
    "desktop.ini.wav",
    "_.WAV",
    "x._y.wav",
    "._folder/x.wav",
    ".Trashes2/x.wav",
    ".TrashesX",
    "._folder\n/x.wav",
    "Thumbs.db\n",
    "Thumbs.db\n.wav",
    "\nThumbs.db",
    "de\u017fktop.ini",  # a long s is no s
    "des\u212atop.ini",  # a kelvin sign is no k
    "L\u00d6ST.DIR/x.wav",
]


@pytest.mark.parametrize("path", JUNK)
@pytest.mark.parametrize("case", [str, str.upper, str.lower, str.title])
def test_what_operating_systems_leave_on_cards_is_junk_in_any_case(path, case):
    assert EVERYTHING.ignore_reason(case(path)) == IgnoreReason.JUNK


@pytest.mark.parametrize("path", JUNK)
def test_junk_is_junk_in_every_folder(path):
    assert EVERYTHING.ignore_reason(f"site 4/950349/{path}") == IgnoreReason.JUNK


@pytest.mark.parametrize("path", NO_JUNK)
def test_recordings_sidecars_and_what_may_be_data_are_uploaded(path):
    assert EVERYTHING.ignore_reason(path) is None
    assert EVERYTHING.ignore_reason(f"950349/{path}") is None


@pytest.mark.parametrize("entry_type", list(EntryType))
def test_an_unreadable_junk_folder_is_junk_whatever_its_type(entry_type):
    assert EVERYTHING.ignore_reason(".Trashes", entry_type) == IgnoreReason.JUNK


def test_links_and_special_files_are_named_as_such():
    reasons = {t: EVERYTHING.ignore_reason("950349/a.wav", t) for t in EntryType}
    assert reasons.pop(EntryType.FILE) is None
    assert reasons.pop(EntryType.LINK) == "symbolic link"
    assert set(reasons.values()) == {"not a regular file"}


def test_the_first_reason_that_holds_is_given():
    rules = Selection(include=("*.wav",), exclude=("bad*",), extensions=("flac",))
    assert rules.ignore_reason(".Trashes/bad.jpg", EntryType.LINK) == "junk"
    assert rules.ignore_reason("bad.jpg", EntryType.LINK) == "excluded"
    assert rules.ignore_reason("a.jpg", EntryType.LINK) == "symbolic link"
    assert rules.ignore_reason("a.jpg", EntryType.PIPE) == "not a regular file"
    assert rules.ignore_reason("a.jpg") == "not included"
    assert rules.ignore_reason("a.wav") == "extension not listed"


# --- kinds and extensions -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "extension"),
    [
        ("950349/20250909_092000.WAV", "wav"),
        ("a.tar.GZ", "gz"),
        ("data", ""),
        ("v1.2/data", ""),
        (".miniconfig", ""),
        ("950349/.wav", ""),
        ("..wav", "wav"),
        ("trailing.", ""),
        ("20160823_063006_Dawn _-1.4763 178.8986_.wav", "wav"),
        ("a.W\u0130V", "w\u0130v"),
        ("a.\u212aZ", "\u212az"),
        ("a.wa\nV", "wa\nv"),
    ],
)
def test_the_extension_is_what_follows_the_last_dot_of_the_name(path, extension):
    assert extension_of(path) == extension


@pytest.mark.parametrize("extensions", [("wav",), ("WAV",), (".wav",), (".Wav",)])
def test_extensions_may_be_given_as_people_write_them(extensions):
    rules = Selection(extensions=extensions)
    assert rules.extensions == ("wav",)
    assert rules.ignore_reason("a.WAV") is None
    assert rules.ignore_reason("a.wav") is None
    assert rules.ignore_reason("a.jpg") == "extension not listed"
    assert rules.ignore_reason("data") == "extension not listed"
    assert rules.ignore_reason(".wav") == "extension not listed"


def test_files_without_an_extension_can_be_listed_too():
    assert Selection(extensions=("wav", "")).ignore_reason("data") is None


def test_no_extension_has_two_kinds_and_all_are_written_in_lower_case():
    written = [extension for extensions in EXTENSIONS.values() for extension in extensions]
    assert len(written) == len(set(written))
    assert written == [extension.lower() for extension in written]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.WAV", FileKind.AUDIO),
        ("a.wac", FileKind.AUDIO),
        ("IMG_0001.JPG", FileKind.IMAGE),
        ("IMG.HEIC", FileKind.IMAGE),
        ("IMG_0002.TLS", FileKind.VIDEO),
        ("a.mkv", FileKind.VIDEO),
        ("CONFIG.TXT", FileKind.SIDECAR),
        ("S4A.sm4dump", FileKind.SIDECAR),
        ("FILE0000.CHK", FileKind.OTHER),
        ("data", FileKind.OTHER),
        (".wav", FileKind.OTHER),
    ],
)
def test_a_kind_goes_by_the_extension(path, kind):
    assert kind_of(path) is kind


# --- patterns -----------------------------------------------------------------------------


def excluded(pattern, path):
    return Selection(exclude=(pattern,)).ignore_reason(path) == IgnoreReason.EXCLUDED


@pytest.mark.parametrize(
    ("pattern", "takes", "leaves"),
    [
        ("a.wav", ["a.wav", "x/a.wav", "x/y/a.wav", "a.wav/b"], ["a.WAV", "ba.wav", "a.wavb"]),
        ("*.wav", ["a.wav", "x/a.wav", ".wav", "x.wav/b"], ["a.WAV", "awav", "a.wav2"]),
        ("test*", ["test", "test1.wav", "x/testing/a"], ["atest", "x/atest"]),
        ("Data", ["Data", "Data/a", "x/Data/y/a"], ["Data2/a", "xData", "data/a"]),
        ("Data/", ["Data/a", "x/Data/y/a"], ["Data", "x/Data", "Data2/a"]),
        ("/Data", ["Data", "Data/a"], ["x/Data", "x/Data/a"]),
        ("/Data/", ["Data/a"], ["Data", "x/Data/a"]),
        ("C2/Data", ["C2/Data", "C2/Data/a"], ["x/C2/Data", "C2/x/Data"]),
        ("*/a.wav", ["x/a.wav"], ["a.wav", "x/y/a.wav"]),
        ("x/*/a", ["x/y/a"], ["x/a", "x/y/z/a"]),
        ("**/a.wav", ["a.wav", "x/a.wav", "x/y/a.wav"], ["xa.wav", "x/ya.wav"]),
        ("x/**/a", ["x/a", "x/y/a", "x/y/z/a"], ["xa", "x/ya", "y/a"]),
        ("x/**", ["x/a", "x/y/a"], ["x", "y/x/a"]),
        ("**", ["a", "x/a"], []),
        ("a**b", ["ab", "axb", "a/b", "ax/yb", "x/ab"], ["a/bc", "b"]),
        ("DCIM**/IMG.JPG", ["DCIM/IMG.JPG", "DCIM2/x/IMG.JPG"], ["DCIMIMG.JPG", "IMG.JPG"]),
        ("**/x/**/y", ["x/y", "a/x/b/y", "x/x/y/z"], ["x", "y", "xy"]),
        ("***", ["a", "x/a"], []),
        ("a?c", ["abc", "a\nc", "aäc", "a🐦c"], ["ac", "a/c", "abbc"]),
        ("[ab]c", ["ac", "bc"], ["cc", "c", "[ab]c"]),
        ("[!ab]c", ["cc", "!c", "\nc"], ["ac", "bc", "/c", "c"]),
        ("x[!a]y", ["xby"], ["xay", "x/y"]),
        ("[0-9][0-9].wav", ["42.wav"], ["4.wav", "a2.wav"]),
        ("[a-]c", ["ac", "-c"], ["bc"]),
        ("[-a]c", ["ac", "-c"], ["bc"]),
        ("[!-a]c", ["bc", "Zc"], ["ac", "-c"]),
        ("[a-c-e]", ["a", "b", "c", "-", "e"], ["d"]),
        ("x[--9]y", ["x-y", "x.y", "x5y"], ["x/y"]),
        ("x[.-0]y", ["x.y", "x0y"], ["x/y"]),
        ("[ä-ü]", ["ö"], ["a"]),
        ("[🐦-🐧]", ["🐦", "🐧"], ["🐨"]),
        ("[*]", ["*"], ["a"]),
        ("[?]", ["?"], ["a"]),
        ("[[]a", ["[a"], ["a"]),
        ("[^a]", ["^", "a"], ["b"]),
        ("[\\]", ["\\"], ["a"]),
        ("[\\d]", ["\\", "d"], ["1"]),
        ("[:alpha:]", ["a", ":"], ["b"]),
        ("[z-a]", ["[z-a]"], ["b", "z"]),
        ("[b-a]", ["[b-a]"], ["a", "b"]),
        ("a**/b", ["a/b", "ax/b", "ax/y/b"], ["ab", "a", "axb"]),
        ("x/**", ["x/a\nb", "x/\n"], ["x"]),
        ("a**b", ["a\nb", "a\n/\nb"], []),
        ("Data", ["Data/a\nb"], ["Data\n", "\nData"]),
        ("[]", ["[]"], ["a"]),
        ("[!]", ["[!]"], ["a"]),
        ("[a", ["[a"], ["a"]),
        ("a]", ["a]"], ["a"]),
        ("x[a/b]y", ["x[a/b]y"], ["xay"]),
        ("REC [-27.3866 152.8761].flac", ["REC 7.flac"], ["REC [-27.3866 152.8761].flac"]),
        ("REC [[]-27.3*", ["REC [-27.3866 152.8761].flac"], ["REC 7.flac"]),
        ("a.b+c(d)|e^f$g{1}", ["a.b+c(d)|e^f$g{1}"], ["aXb+c(d)|e^f$g{1}", "e^f$g{1}"]),
        ("a|b", ["a|b"], ["a", "b"]),
        ("\\d", ["\\d"], ["1"]),
        ("\\*", ["\\x", "\\"], ["*"]),
        ("(?i)a", ["(Xi)a"], ["a", "A"]),
        ("*\n*", ["a\nb", "\n"], ["ab"]),
        ("a b#c", ["a b#c"], ["abc", "a b"]),
        ("Vögel*", ["Vögel früh.wav"], ["Vogel.wav", "vögel"]),
        ("-x", ["-x"], ["x"]),
        ("", [], ["a", "x/a"]),
        ("/", [], ["a", "x/a"]),
    ],
)
def test_a_pattern_takes_what_its_words_say(pattern, takes, leaves):
    assert [path for path in takes if not excluded(pattern, path)] == []
    assert [path for path in leaves if excluded(pattern, path)] == []


@pytest.mark.parametrize("code", [code for code in range(1, 128) if chr(code) not in "/*?["])
def test_every_ascii_character_can_stand_in_a_pattern(code):
    character = chr(code)
    assert excluded(f"a{character}b", f"a{character}b")
    assert not excluded(f"a{character}b", "ab")
    assert not excluded(f"a{character}b", f"a{chr(code % 127 + 1)}b")


def class_in_plain_words(body, p):
    """Give what the class that begins at p takes, and where it ends, or None if there is none."""
    end = body.find("]", p)
    inside = body[p + 1 : end] if end > 0 else ""
    negated, inside = inside.startswith("!"), inside.removeprefix("!")
    if not inside or "/" in inside:
        return None
    members, i = [], 0
    while i < len(inside):
        step = 3 if i + 2 < len(inside) and inside[i + 1] == "-" else 1
        members.append((inside[i], inside[i + step - 1]))
        i += step
    if any(low > high for low, high in members):
        return None
    return (
        lambda c: c != "/" and negated is not any(low <= c <= high for low, high in members)
    ), end + 1


def wildcard_in_plain_words(body, p, path, at):
    """Give where the path may go on after the wildcard at p, and its width, or None."""
    if body.startswith("**/", p) and (p == 0 or body[p - 1] == "/"):
        return [at] + [i + 1 for i in range(at, len(path)) if path[i] == "/"], 3
    if body.startswith("**", p):
        return range(at, len(path) + 1), 2
    if body[p] == "*":
        return range(at, at + len(path[at:].split("/")[0]) + 1), 1
    return None


def plainly_matches(pattern, path):
    """Judge by the rules in plain words, as slowly as may be: the regexes are held against it."""
    body = pattern.strip("/")
    below_only = bool(body) and pattern.endswith("/")

    @cache
    def matches(p, at):
        if p == len(body):
            return path[at : at + 1] == "/" or (at == len(path) and not below_only)
        if found := wildcard_in_plain_words(body, p, path, at):
            starts, width = found
            return any(matches(p + width, start) for start in starts)
        if at == len(path):
            return False
        if body[p] == "?":
            return path[at] != "/" and matches(p + 1, at + 1)
        if body[p] == "[" and (judged := class_in_plain_words(body, p)):
            belongs, end = judged
            return belongs(path[at]) and matches(end, at + 1)
        return body[p] == path[at] and matches(p + 1, at + 1)

    anchored = "/" in pattern.rstrip("/")
    starts = [0] if anchored else [0] + [i + 1 for i, c in enumerate(path) if c == "/"]
    return any(matches(0, s) for s in starts)


pattern_pieces = st.sampled_from(
    ["*", "*", "**", "**/", "/", "?", "a", "b", "a", ".", "[a-b]", "[!a]", "[", "]", "-", "!",
     "[--b]", "\n", "ä", "\\"]
)  # fmt: skip
patterns = st.lists(pattern_pieces, max_size=9).map("".join)
near_paths = st.text("aab/.\n", max_size=14)
real_paths = st.lists(st.text("aab.-ä\\", min_size=1, max_size=4), min_size=1, max_size=5).map(
    "/".join
)


@settings(max_examples=1500)
@given(patterns, near_paths | real_paths)
@example("**a*b", "ab/a/ab")
@example("x**y*z", "xy/yz")
@example("*a/**/b*", "aa/a/bb")
@example("a*/**b*a", "a/b/ba")
def test_both_forms_of_a_pattern_mean_what_the_words_say(pattern, path):
    expected = plainly_matches(pattern, path)
    assert (re.fullmatch(glob_regex(pattern), path, re.DOTALL) is not None) == expected
    assert (re.fullmatch(forward_regex(pattern), path, re.DOTALL) is not None) == expected


@given(st.text(max_size=20))
def test_any_text_at_all_is_a_pattern(pattern):
    Selection(include=(pattern,), exclude=(pattern,)).ignore_reason("950349/a.wav")
    re.compile(glob_regex(pattern))


@given(st.text("abä.- \\(+$", min_size=1, max_size=8))
def test_a_pattern_without_wildcards_takes_its_own_name_in_any_folder(name):
    assert excluded(name, name)
    assert excluded(name, f"950349/{name}")
    assert excluded(name, f"{name}/a.wav")
    assert not excluded(name, f"{name}x")
    assert not excluded(name, f"x{name}")


def test_a_name_alone_matches_without_folders():
    assert re.fullmatch(name_regex("._*"), "._a.wav", re.DOTALL)
    assert not re.fullmatch(name_regex("._*"), "x/._a.wav", re.DOTALL)
    assert not re.fullmatch(name_regex("._*"), "._a/x.wav", re.DOTALL)


# A matcher that tries again from every wildcard needs centuries for these; pytest's time limit
# ends it. The longest path that Linux takes is 4,096 bytes, four characters each when escaped.
NEVER_MATCHING = [
    "**a" * 12 + "**b",
    "*a" * 12 + "*b",
    "**/a" * 1 + "**/*a" * 12 + "/b",
    "a/" + "**/" * 20 + "b",
    "a/" + "**/a/" * 15 + "b",
    "*" * 200 + "b",
    "?*" * 40 + "b",
    "[!b]*" * 40 + "b",
    "**[a/]*" * 10 + "b",
    "**aa**/a*a/**/*a*a" * 4 + "b",
]
LONG_PATHS = [
    "a" * 16_384,
    "a/" * 8_192 + "a",
    ("a" * 255 + "/") * 64 + "a",
    "aa/a" * 4_096,
    "\n" * 16_384,
    "." * 16_384,
    "._" * 8_192,
    ".Trash-" * 2_340,
    "/".join([".Trash-"] * 2_048) + "x",
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("pattern", NEVER_MATCHING)
def test_no_pattern_makes_a_long_name_take_for_ever(pattern):
    rules = Selection(exclude=(pattern,), include=(pattern,))
    for path in LONG_PATHS:
        assert rules.ignore_reason(path) in (IgnoreReason.NOT_INCLUDED, IgnoreReason.JUNK)


# --- include and exclude together ----------------------------------------------------------


def test_with_include_only_what_is_named_is_uploaded_and_exclude_wins():
    rules = Selection(include=("*.WAV", "CONFIG.TXT", "Data/"), exclude=("test*", "/old"))
    assert rules.ignore_reason("950349/a.WAV") is None
    assert rules.ignore_reason("950349/CONFIG.TXT") is None
    assert rules.ignore_reason("Data/a.jpg") is None
    assert rules.ignore_reason("950349/a.jpg") == "not included"
    assert rules.ignore_reason("950349/test1.WAV") == "excluded"
    assert rules.ignore_reason("old/a.WAV") == "excluded"
    assert rules.ignore_reason("950349/old/a.WAV") is None


def test_include_never_brings_junk_back():
    assert Selection(include=("._*",)).ignore_reason("._a.wav") == "junk"


def test_rules_without_patterns_have_no_regex_for_them():
    assert EVERYTHING.include_regex is None
    assert EVERYTHING.exclude_regex is None


def test_rules_with_the_same_settings_are_equal():
    assert Selection(exclude=("a",), extensions=("WAV",)) == Selection(
        exclude=("a",), extensions=("wav",)
    )
    assert Selection(exclude=("a",)) != Selection(exclude=("b",))
