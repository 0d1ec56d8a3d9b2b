from __future__ import annotations

import pytest

from scr_export.oci.name import parse_repository_name, parse_tag


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "0",
        "alpine",
        "team/app",
        "registry.example.com/team/app",
        "localhost_5000/app",
        "a.b_c__d-e--f---g/h",
        "a/b/c/d/e/f/g/h",
        "a" * 255,
        "/".join("a" * 128),
        "blobs",
        "a/manifests",
        "a/tags",
    ],
)
def test_good_repository_names_are_accepted(text: str) -> None:
    assert parse_repository_name(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "../a",
        "a/..",
        "a/./b",
        "A",
        "team/App",
        "_a",
        "a_",
        "a___b",
        "a..b",
        "a._b",
        ".a",
        "a.",
        "-a",
        "a-",
        "a_-b",
        "a:b",
        "localhost:5000/app",
        "a@b",
        "a b",
        "a\n",
        "a\nb",
        "a\0",
        "a\x1b[2J",
        "a\udcff",
        "ä",
        "٣",
        "a%2fb",
        "a\\b",
        "a+b",
        "a*",
        "_catalog",
        "a/_uploads",
        "a" * 256,
        "a/" * 100_000,
    ],
)
def test_bad_repository_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="repository name") as caught:
        parse_repository_name(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "3.9",
        "v1",
        "latest",
        "_",
        "_a",
        "A-B.c_d",
        "v1.",
        "v1-",
        "a..b",
        "list",
        "a" * 128,
        f"sha256-{'0' * 64}.sig",
    ],
)
def test_good_tags_are_accepted(text: str) -> None:
    assert parse_tag(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        ".a",
        "-a",
        "a/b",
        "a:b",
        "a@b",
        "a+b",
        "a b",
        "a\n",
        "\na",
        "a\0",
        "a\x1b[2J",
        "a\udcff",
        "ä",
        "٣",
        "*",
        "a%2e",
        "a" * 129,
        "a" * 255,
        f"sha256:{'0' * 64}",
    ],
)
def test_bad_tags_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="tag") as caught:
        parse_tag(text)
    assert len(str(caught.value)) < 500
