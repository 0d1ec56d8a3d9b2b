"""The two fixed snippets: short lines, and the same names, tags, digests and types as the exporter has."""

from __future__ import annotations

import itertools
import re
from importlib import resources

import pytest

from scr_export.oci import digest, mediatype
from scr_export.oci.name import parse_repository_name, parse_tag
from scr_export.site.paths import artifact_type

TEXTS = {
    name: (resources.files("scr_export.site") / "snippets" / name).read_text() for name in ("nginx.conf", "Caddyfile")
}
NAME = {
    "nginx.conf": r"(?P<scr_name>[a-z0-9]++(?:(?:[._/]|__|-++)[a-z0-9]++)*)",
    "Caddyfile": r"[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*",
}
DIGEST = "sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}"
TAG = "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
TYPE = {
    "nginx.conf": r"""(?x)^ (?P<scr_a>[A-Za-z0-9][\w.-]{0,63}) (?:/|%2[Ff]) (?P<scr_b>[A-Za-z0-9][\w.-]{0,119})
               (?:(?:\+|%2[Bb])(?P<scr_c>[\w.-]{1,60}))?\Z""",
    "Caddyfile": r"^([A-Za-z0-9][\w.-]{0,63})/([A-Za-z0-9][\w.-]{0,119})(?:[+\x20]([\w.-]{1,60}))?$",
}
# Each place that has the pattern of a name or a digest, found by text that only such a place has.
NAMES = {"nginx.conf": r"\[a-z0-9\]\+\+\(\?:\(\?:\[", "Caddyfile": r"\[a-z0-9\]\+\(\?:\(\?:\["}


def in_python(text: str) -> str:
    """A snippet with its regexes as Python writes them."""
    return text.replace("(?<scr_", "(?P<scr_").replace(r"\z", r"\Z")


@pytest.fixture(params=TEXTS)
def snippet(request: pytest.FixtureRequest) -> str:
    """The name of a snippet."""
    return str(request.param)


def accepts(parse: object, text: str) -> bool:
    """Whether a gate of the exporter lets a text in."""
    assert callable(parse)
    try:
        parse(text)
    except ValueError:
        return False
    return True


def test_a_snippet_is_short(snippet: str) -> None:
    lines = TEXTS[snippet].splitlines()
    assert len([line for line in lines if line.strip() and not line.strip().startswith("#")]) <= 190
    assert [line for line in lines if len(line) > 130] == []


def test_every_occurrence_of_a_pattern_is_the_same(snippet: str) -> None:
    text = in_python(TEXTS[snippet])
    assert len(re.findall(NAMES[snippet], text)) == text.count(NAME[snippet]) >= 1
    assert text.count("sha256:[") == text.count(DIGEST) >= 3
    assert text.count("{0,127}") == text.count(TAG) == 1
    assert text.count("{0,63}") == text.count(TYPE[snippet]) == 1


WORDS = ["", *("".join(each) for size in range(1, 6) for each in itertools.product("a0._-/A", repeat=size))]


def test_the_pattern_of_names_accepts_what_the_exporter_accepts(snippet: str) -> None:
    pattern = re.compile(NAME[snippet])
    odd = [
        "a" * 255,
        "a/" * 127 + "a",
        "a\n",
        "\na",
        "a b",
        "é",
        "a" * 200 + "." + "b" * 54,
        "a---b",
        "a____b",
        "a@b",
        "a:b",
    ]
    differing = [each for each in WORDS + odd if bool(pattern.fullmatch(each)) != accepts(parse_repository_name, each)]
    assert differing == []


def test_the_pattern_of_tags_accepts_what_the_exporter_accepts(snippet: str) -> None:
    assert TAG in TEXTS[snippet]
    odd = ["x" * 127, "x" * 128, "x" * 129, "a\n", "a:b", "a@b", "é", "_" * 128, "a+b", " a", "-"]
    assert [each for each in WORDS + odd if bool(re.fullmatch(TAG, each)) != accepts(parse_tag, each)] == []


def test_the_pattern_of_digests_accepts_what_the_exporter_accepts(snippet: str) -> None:
    pattern = re.compile(f"(?:{DIGEST})")
    assert DIGEST in TEXTS[snippet]
    lengths = (0, 1, 63, 64, 65, 95, 96, 97, 127, 128, 129)
    algorithms = ("sha256", "sha384", "sha512", "sha1", "md5", "SHA256", "", "sha256:sha256")
    texts = [
        f"{algorithm}:{letter * length}{end}"
        for algorithm in algorithms
        for letter in "0afgAF"
        for length in lengths
        for end in ("", "\n")
    ]
    assert [each for each in texts if bool(pattern.fullmatch(each)) != accepts(digest.Digest.parse, each)] == []
    assert {each.partition(":")[0] for each in DIGEST.split("|")} == set(digest.ALGORITHMS)


def test_the_media_types_of_manifests_are_those_of_the_exporter(snippet: str) -> None:
    found = set(re.findall(r"vnd\.(?:oci|docker)\.[a-z0-9.]+(?:manifest|index)[a-z0-9.]*\+json", TEXTS[snippet]))
    assert found == {each.removeprefix("application/") for each in mediatype.MANIFESTS}


def test_the_pattern_of_artifact_types_accepts_what_the_exporter_writes(snippet: str) -> None:
    pattern = re.compile(TYPE[snippet], re.ASCII)
    words = ["".join(each) for size in range(1, 6) for each in itertools.product("a./+-@", repeat=size)]
    words += [
        f"{'a' * 64}/{'b' * 120}+{'c' * 60}",
        f"{'a' * 65}/b",
        f"a/{'b' * 121}",
        f"a/b+{'c' * 61}",
        "a/b\n",
        "é/b",
        "_/b",
        "a_b/c_d+e_f",
    ]
    for each in words:
        match = pattern.match(each)
        found = "@".join(match.groups("")) if match and match.end() == len(each) else None
        assert found == artifact_type(each), each
