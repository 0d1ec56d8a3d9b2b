from __future__ import annotations

import pytest

from scr_export.images.naming import parse_path, repositories_below

DIGEST = f"sha256:{'0' * 64}"
LONGER = f"sha512:{'0' * 128}"


@pytest.mark.parametrize(
    ("path", "prefix", "name", "tag", "digest"),
    [
        ("alpine/3.9", "", "alpine", "3.9", None),
        ("team/app/v1", "", "team/app", "v1", None),
        ("app:v1", "", "app", "v1", None),
        ("team/app:v1", "", "team/app", "v1", None),
        ("registry.example.com/team/app:v1", "", "registry.example.com/team/app", "v1", None),
        ("registry.example.com/team/app/v1", "", "registry.example.com/team/app", "v1", None),
        ("localhost:5000/app:v1", "", "localhost_5000/app", "v1", None),
        ("localhost:5000/app/v1", "", "localhost_5000/app", "v1", None),
        ("localhost:5000/team/app:v1", "", "localhost_5000/team/app", "v1", None),
        (f"localhost:5000/app@{DIGEST}", "", "localhost_5000/app", None, DIGEST),
        (f"app@{DIGEST}", "", "app", None, DIGEST),
        (f"team/app@{LONGER}", "", "team/app", None, LONGER),
        (f"app:v1@{DIGEST}", "", "app", "v1", DIGEST),
        ("app:5000", "", "app", "5000", None),
        ("alpine/3.9", "mirror", "mirror/alpine", "3.9", None),
        ("app:v1", "mirror", "mirror/app", "v1", None),
        (f"app@{DIGEST}", "mirror", "mirror/app", None, DIGEST),
        ("localhost:5000/app:v1", "mirror/of", "mirror/of/localhost_5000/app", "v1", None),
        (f"app/sha256-{'0' * 64}.sig", "", "app", f"sha256-{'0' * 64}.sig", None),
    ],
)
def test_a_path_gives_a_reference(path: str, prefix: str, name: str, tag: str | None, digest: str | None) -> None:
    reference = parse_path(path, prefix)
    assert (reference.repository, reference.tag, reference.digest) == (name, tag, digest)


@pytest.mark.parametrize(
    "path",
    [
        "app",  # no tag
        "app:",
        ":v1",
        "team/:v1",
        "app:v1:v2",
        "localhost:5000:v1",
        "app@",
        f"@{DIGEST}",
        f":v1@{DIGEST}",
        "app@sha256:0123",
        "app@v1",
        f"app@{DIGEST}@{DIGEST}",
        f"app@{DIGEST}:v1",
        f"app:@{DIGEST}",
        "Team/app/v1",
        "team/app/.v1",
        "team:x/app:v1",  # a name cannot hold a colon, and x is no port
        "app/v 1",
        "app/v\n1",
        "app/\udcff",
        f"app/{'v' * 129}",
        f"{'a' * 250}/bcdefg/v1",
    ],
)
def test_a_path_that_gives_no_reference_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"tag|repository name|digest|digits"):
        parse_path(path)


def test_a_name_prefix_is_no_repository_by_itself() -> None:
    with pytest.raises(ValueError, match="names no tag"):
        parse_path("v1", "mirror")


@pytest.mark.parametrize(
    ("path", "prefix", "below"),
    [
        ("team", "", "team"),
        ("team/app", "mirror", "mirror/team/app"),
        ("localhost:5000", "", "localhost_5000"),
        ("localhost:5000/app", "", "localhost_5000/app"),
    ],
)
def test_a_directory_gives_the_repositories_below_it(path: str, prefix: str, below: str) -> None:
    assert repositories_below(path, prefix) == below
    assert parse_path(f"{path}/app:v1", prefix).repository == f"{below}/app"
