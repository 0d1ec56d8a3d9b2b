"""The tree that an export writes, for all kinds of images and names."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.builders import write_artifact, write_image, write_index, write_signature
from tests.support.runner import OF_ANY_RUN, assert_whole, codes, export, fresh, listing, registry, start, tags, wait

GOLDEN = """\
Caddyfile
images.txt
index.html
nginx.conf
v2/
v2/_catalog -> _pages/@all
v2/_pages -> _pages@12637c89
v2/_pages@12637c89/
v2/_pages@12637c89/@0
v2/_pages@12637c89/@1 -> @1@app
v2/_pages@12637c89/@10/
v2/_pages@12637c89/@10/@10
v2/_pages@12637c89/@1@app
v2/_pages@12637c89/@all
v2/_pages@12637c89/app@1
v2/_pages@12637c89/charts/
v2/_pages@12637c89/charts/demo@1
v2/_pages@12637c89/charts%2Fdemo@1
v2/app/
v2/app/blobs/
v2/app/blobs/sha256:33dd98e2
v2/app/blobs/sha256:56b09c8e
v2/app/blobs/sha256:ba12223b
v2/app/blobs/sha256:e1e832c4
v2/app/manifests/
v2/app/manifests/latest -> vnd.oci.image.index.v1+json@sha256:4fb7323b
v2/app/manifests/v1 -> vnd.oci.image.index.v1+json@sha256:4fb7323b
v2/app/manifests/vnd.oci.image.index.v1+json@sha256:4fb7323b/
v2/app/manifests/vnd.oci.image.index.v1+json@sha256:4fb7323b/vnd.oci.image.index.v1+json@sha256:4fb7323b
v2/app/manifests/vnd.oci.image.manifest.v1+json@sha256:75c26b11/
v2/app/manifests/vnd.oci.image.manifest.v1+json@sha256:75c26b11/vnd.oci.image.manifest.v1+json@sha256:75c26b11
v2/app/manifests/vnd.oci.image.manifest.v1+json@sha256:b4bc956f/
v2/app/manifests/vnd.oci.image.manifest.v1+json@sha256:b4bc956f/vnd.oci.image.manifest.v1+json@sha256:b4bc956f
v2/app/tags/
v2/app/tags/_pages -> _pages@c1c2ee15
v2/app/tags/_pages@c1c2ee15/
v2/app/tags/_pages@c1c2ee15/@0
v2/app/tags/_pages@c1c2ee15/@1 -> @1@latest
v2/app/tags/_pages@c1c2ee15/@10/
v2/app/tags/_pages@c1c2ee15/@10/@10
v2/app/tags/_pages@c1c2ee15/@1@latest
v2/app/tags/_pages@c1c2ee15/@all
v2/app/tags/_pages@c1c2ee15/latest@1
v2/app/tags/_pages@c1c2ee15/v1@1
v2/app/tags/list -> _pages/@all
v2/charts/
v2/charts/demo/
v2/charts/demo/blobs/
v2/charts/demo/blobs/sha256:65745f82
v2/charts/demo/blobs/sha256:b7c526ec
v2/charts/demo/blobs/sha256:cd93ab35
v2/charts/demo/blobs/sha256:d18edae2
v2/charts/demo/manifests/
v2/charts/demo/manifests/0.1.0 -> vnd.oci.image.manifest.v1+json@sha256:0c566468
v2/charts/demo/manifests/vnd.oci.image.manifest.v1+json@sha256:0c566468/
v2/charts/demo/manifests/vnd.oci.image.manifest.v1+json@sha256:0c566468/vnd.oci.image.manifest.v1+json@sha256:0c566468
v2/charts/demo/manifests/vnd.oci.image.manifest.v1+json@sha256:432c1680/
v2/charts/demo/manifests/vnd.oci.image.manifest.v1+json@sha256:432c1680/vnd.oci.image.manifest.v1+json@sha256:432c1680
v2/charts/demo/tags/
v2/charts/demo/tags/_pages -> _pages@e9f21998
v2/charts/demo/tags/_pages@e9f21998/
v2/charts/demo/tags/_pages@e9f21998/0.1.0@1
v2/charts/demo/tags/_pages@e9f21998/@0
v2/charts/demo/tags/_pages@e9f21998/@1
v2/charts/demo/tags/_pages@e9f21998/@all
v2/charts/demo/tags/list -> _pages/@all
"""


def short(text: str) -> str:
    """Shorten every digest to eight digits, which still differ."""
    return re.sub(r"((?:sha\d+:|_pages@)[0-9a-f]{8})[0-9a-f]+", r"\1", text)


def test_an_export_writes_the_whole_tree(images: Path, site: Path) -> None:
    write_artifact(images / "charts/demo/0.1.0")
    write_index(images / "app:v1", platforms=["amd64", "arm/v7"], layers=1)
    write_index(images / "app/latest", platforms=["amd64", "arm/v7"], layers=1)
    built = write_artifact(images / "new", seed=2)
    (images / "new").rename(images / f"charts/demo@{built.digest}")
    export(images, site)
    assert short(registry(site)) == GOLDEN
    assert (site / "v2/_catalog").read_bytes() == b'{"repositories":["app","charts/demo"]}\n'
    assert (site / "v2/app/tags/list").read_bytes() == b'{"name":"app","tags":["latest","v1"]}\n'
    assert_whole(site)


def test_all_sites_have_the_same_snippets(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    export(images, tmp_path / "other", "--name-prefix", "mirror")
    for name in ("nginx.conf", "Caddyfile"):
        text = (site / name).read_bytes()
        assert text
        assert text == (tmp_path / "other" / name).read_bytes()
        assert b"app" not in text.replace(b"application", b"")


def test_a_name_prefix_comes_before_every_repository(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    write_image(images / "localhost:5000/app:v1", seed=2)
    export(images, site, "--name-prefix", "mirror/of")
    assert json.loads((site / "v2/_catalog").read_bytes()) == {
        "repositories": ["mirror/of/app", "mirror/of/localhost_5000/app"]
    }
    assert_whole(site)
    (images / "app/v1/manifest.json").unlink()
    export(images, site, "--name-prefix", "mirror/of", "--keep-going", "--grace", "0", status=1)
    assert tags(site, "mirror/of/app") == ["v1"]
    assert_whole(site)


def test_a_second_export_changes_nothing_and_hashes_nothing(images: Path, site: Path) -> None:
    write_index(images / "app/v1")
    write_image(images / "team/app/v1", algorithm="sha512", prefixed=True)
    write_image(images / "team/app/v2", docker=True)
    first = export(images, site)
    before = listing(site, without=OF_ANY_RUN)
    second = export(images, site)
    assert second["hashed"] == 0 < first["hashed"]
    assert second["added"] == second["changed"] == second["removed"] == dict.fromkeys(first["added"], 0)
    assert (
        second["unchanged"] == sum(first["added"].values()) + 2 * first["added"]["lists"]
    )  # each is a directory, two links
    assert second["files"] == {"linked": 0, "reflinked": 0, "copied": 0}
    assert listing(site, without=OF_ANY_RUN) == before


def test_retagging_moves_one_symlink(images: Path, site: Path, tmp_path: Path) -> None:
    old = write_image(images / "app/v1")
    export(images, site)
    new = write_image(images / "app/v1", seed=2)
    report = export(images, site)
    assert os.readlink(site / "v2/app/manifests/v1") == new.manifest_name
    assert report["changed"]["tags"] == 1
    assert report["unreferenced"]["count"] == 1 + len(old.blobs)
    assert (site / "v2/app/manifests" / old.manifest_name / old.manifest_name).read_bytes() == old.raw
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)
    assert_whole(site)


def test_repositories_below_the_directories_of_another_leave_it_as_it_is(
    images: Path, site: Path, tmp_path: Path
) -> None:
    for number, path in enumerate(["a/1", "a/blobs/1", "a/manifests/1", "a/tags/1", "a/manifests/x/1", "a/b/1"]):
        write_image(images / path, seed=number)
    export(images, site)
    assert_whole(site)
    assert not any(export(images, site)["removed"].values())
    for path in ("a/manifests/x", "a/tags", "a/b"):
        shutil.rmtree(images / path)
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)
    shutil.rmtree(images / "a/1")
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)
    assert_whole(site)


def test_repositories_named_like_directories_do_not_create_their_parent(images: Path, site: Path) -> None:
    subject = write_image(images / "x/manifests/t")
    write_image(images / "x/referrers/t", seed=2)
    write_signature(images / "x/manifests/sig", subject, 5)
    for options in ([], ["--no-prune"]):
        export(images, site, *options)
        assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": ["x/manifests", "x/referrers"]}
        assert wait(start("verify", site)).returncode == 0


def test_an_index_may_have_its_manifests_in_other_directories(images: Path, site: Path) -> None:
    index = write_index(images / "app/v1", sparse=["amd64", "arm64"])
    assert codes(export(images, site, status=1)) == {("app/v1", "sparse")}
    write_index(images / "app/v2", platforms=["amd64"])
    [warning] = export(images, site)["warnings"]
    assert warning["what"] == f"1 of the 2 manifests that {index.digest} lists were not copied"
    write_index(images / "app/v2", platforms=["amd64", "arm64", "s390x"])
    assert export(images, site)["warnings"] == []
    shutil.rmtree(images / "app/v2")
    assert export(images, site, "--no-prune")["warnings"] == []
    assert codes(export(images, site, status=1)) == {("app/v1", "sparse")}


@pytest.mark.parametrize("grace", ["0", "900"])
@pytest.mark.parametrize("before", ["a/manifests/x/1", "a/x"])
def test_a_tag_and_a_repository_replace_each_other_at_one_path(
    images: Path, site: Path, tmp_path: Path, before: str, grace: str
) -> None:
    write_image(images / "a/y")
    write_image(images / before, seed=2)
    export(images, site)
    shutil.rmtree(images / ("a/manifests" if before != "a/x" else before))
    write_image(images / ("a/x" if before != "a/x" else "a/manifests/x/1"), seed=3)
    export(images, site, "--grace", grace)
    assert_whole(site)
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)


def test_two_links_lead_to_the_pages_of_a_list(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    old = os.readlink(site / "v2/app/tags/_pages")
    write_image(images / "app/v2", seed=2)
    for options in ([], ["--no-prune"]):
        write_image(images / f"app/v{len(options) + 2}", seed=2)
        report = export(images, site, *options)
        new = os.readlink(site / "v2/app/tags/_pages")
        assert new != old
        assert {path.name for path in (site / "v2/app/tags").iterdir()} == {new, "_pages", "list"}
        assert (report["changed"]["lists"], report["removed"]["lists"], report["removed"]["other"]) == (1, 0, 0)
        old = new


def test_a_list_and_all_its_pages_change_at_once(images: Path, site: Path, tmp_path: Path) -> None:
    """At every instant, each listed tag exists: it is created before it is listed, and removed after that."""
    for tag in ("v1", "v2"):
        write_image(images / "app" / tag)
    export(images, site)
    before = _pages(site)
    shutil.rmtree(images / "app/v1")
    for seed, tag in enumerate(("v3", "v4")):
        write_image(images / "app" / tag, seed=seed)
    seen = os.open(tmp_path / "seen", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def look(_: int) -> None:
        """In the exporter, before each change of the disk."""
        there = {path.name for path in (site / "v2/app/manifests").iterdir() if path.is_symlink()}
        os.write(seen, json.dumps([_pages(site), sorted(set(tags(site, "app")) - there)]).encode() + b"\n")

    assert forked.run(str(images), str(site), "--grace", "0", before_change=look).status == 0
    os.close(seen)
    looks = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert len(looks) > 10
    changes = [pages for (pages, _), (earlier, _) in zip(looks[1:], looks, strict=False) if pages != earlier]
    assert (looks[0][0], changes) == (before, [_pages(site)])
    assert [missing for _, missing in looks if missing] == []
    assert _pages(site) != before


def _pages(site: Path) -> list[object]:
    """A list, and the text of all its pages."""
    directory = site / "v2/app/tags/_pages"
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return [tags(site, "app"), {str(path.relative_to(directory)): path.read_text() for path in files}]
