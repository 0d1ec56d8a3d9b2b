"""The exporter as people run it: trees in, trees out."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.builders import Built, write_artifact, write_image, write_index, write_referrers_tag
from tests.support.runner import (
    assert_whole,
    codes,
    export,
    inodes,
    listing,
    referrers,
    registry,
    run,
    start,
    substance,
    tags,
    wait,
)

HEAD = "vnd.oci.image.manifest.v1+json@"

GOLDEN = """\
Caddyfile
nginx.conf
v2/
v2/_catalog -> _pages/@all
v2/_pages -> _pages@0cc9c79e
v2/_pages@0cc9c79e/
v2/_pages@0cc9c79e/@0
v2/_pages@0cc9c79e/@1 -> @1@app
v2/_pages@0cc9c79e/@10
v2/_pages@0cc9c79e/@1@app
v2/_pages@0cc9c79e/@all
v2/_pages@0cc9c79e/app@1
v2/_pages@0cc9c79e/charts/
v2/_pages@0cc9c79e/charts/demo@1
v2/_pages@0cc9c79e/charts%2Fdemo@1
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
v2/app/tags/_pages -> _pages@c08f6957
v2/app/tags/_pages@c08f6957/
v2/app/tags/_pages@c08f6957/@0
v2/app/tags/_pages@c08f6957/@1 -> @1@latest
v2/app/tags/_pages@c08f6957/@10
v2/app/tags/_pages@c08f6957/@1@latest
v2/app/tags/_pages@c08f6957/@all
v2/app/tags/_pages@c08f6957/latest@1
v2/app/tags/_pages@c08f6957/v1@1
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
v2/charts/demo/tags/_pages -> _pages@58e2fad3
v2/charts/demo/tags/_pages@58e2fad3/
v2/charts/demo/tags/_pages@58e2fad3/0.1.0@1
v2/charts/demo/tags/_pages@58e2fad3/@0
v2/charts/demo/tags/_pages@58e2fad3/@1
v2/charts/demo/tags/_pages@58e2fad3/@all
v2/charts/demo/tags/list -> _pages/@all
"""


def short(text: str) -> str:
    """With eight digits of every digest, which is enough to tell them apart."""
    return re.sub(r"((?:sha\d+:|_pages@)[0-9a-f]{8})[0-9a-f]+", r"\1", text)


def without_pages(text: str) -> set[str]:
    """The lines of a tree that are no list's."""
    return {line for line in text.splitlines() if "/_pages" not in line}


def fresh(images: Path, tmp_path: Path) -> str:
    """The tree of a site that was never anything else."""
    directory = tmp_path / "fresh"
    shutil.rmtree(directory, ignore_errors=True)
    export(images, directory)
    return registry(directory)


def head(built: Built) -> str:
    return f"{built.media_type.removeprefix('application/')}@{built.digest}"


@pytest.fixture
def other_device() -> Iterator[Path]:
    """A directory on another file system than the images' one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def test_the_tree(images: Path, site: Path) -> None:
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


def test_the_snippets_of_all_sites_are_the_same(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    export(images, tmp_path / "other", "--name-prefix", "mirror")
    for name in ("nginx.conf", "Caddyfile"):
        text = (site / name).read_bytes()
        assert text
        assert text == (tmp_path / "other" / name).read_bytes()
        assert b"app" not in text.replace(b"application", b"")


def test_content_is_linked_not_copied(images: Path, site: Path) -> None:
    built = write_index(images / "app/v1")
    report = export(images, site)
    for digest in built.blobs:
        assert (site / f"v2/app/blobs/{digest}").lstat().st_ino == (images / "app/v1" / digest[7:]).lstat().st_ino
    for digest, (media_type, raw) in built.manifests.items():
        name = f"{media_type.removeprefix('application/')}@{digest}"
        path = site / "v2/app/manifests" / name / name
        source = "manifest.json" if digest == built.digest else f"{digest[7:]}.manifest.json"
        assert path.samefile(images / "app/v1" / source)
        assert path.read_bytes() == raw
    count = len(built.blobs) + len(built.manifests)
    size = sum(map(len, built.blobs.values())) + sum(len(raw) for _, raw in built.manifests.values())
    assert report["files"] == {"linked": count, "reflinked": 0, "copied": 0}
    assert report["bytes"] == {"linked": size, "reflinked": 0, "copied": 0}


def test_a_digest_is_one_inode_over_all_repositories(images: Path, site: Path) -> None:
    for path in ("a/1", "b/1"):  # two copies of one image
        built = write_image(images / path)
    shutil.copytree(images / "a", images / "c/c", copy_function=os.link)
    other = write_image(images / "d/1", seed=9, share_layers_of=0)
    assert set(built.blobs) & set(other.blobs)
    report = export(images, site)
    for digest in built.blobs:
        assert len(inodes(site / "v2", digest)) == 1
        assert inodes(site / "v2", digest) < {path.lstat().st_ino for path in images.rglob(digest[7:])}
    assert len(inodes(site / "v2", head(built))) == 1
    distinct = built.blobs | other.blobs
    assert report["hashed"] == sum(map(len, distinct.values()))


def test_the_second_run_changes_nothing_and_hashes_nothing(images: Path, site: Path) -> None:
    write_index(images / "app/v1")
    write_image(images / "team/app/v1", algorithm="sha512", prefixed=True)
    write_image(images / "team/app/v2", docker=True)
    first = export(images, site)
    before = listing(site, without=".scr-export/lock")
    second = export(images, site)
    assert second["hashed"] == 0 < first["hashed"]
    assert second["added"] == second["changed"] == second["removed"] == dict.fromkeys(first["added"], 0)
    assert (
        second["unchanged"] == sum(first["added"].values()) + 2 * first["added"]["lists"]
    )  # each is a directory, two links
    assert second["files"] == {"linked": 0, "reflinked": 0, "copied": 0}
    assert listing(site, without=".scr-export/lock") == before


def test_only_the_news_are_hashed(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    built = write_image(images / "app/v2", seed=2)
    report = export(images, site)
    assert report["hashed"] == sum(map(len, built.blobs.values()))
    assert report["added"] == {"tags": 1, "manifests": 1, "blobs": 3, "lists": 0, "other": 0}
    assert report["changed"]["lists"] == 1


def test_a_tag_moves(images: Path, site: Path, tmp_path: Path) -> None:
    old = write_image(images / "app/v1")
    export(images, site)
    new = write_image(images / "app/v1", seed=2)
    report = export(images, site)
    assert os.readlink(site / "v2/app/manifests/v1") == head(new)
    assert report["changed"]["tags"] == 1
    assert report["unreferenced"]["count"] == 1 + len(old.blobs)
    assert (site / "v2/app/manifests" / head(old) / head(old)).read_bytes() == old.raw
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)
    assert_whole(site)


def test_what_left_images_leaves_the_site(images: Path, site: Path, tmp_path: Path) -> None:
    for path in ("app/v1", "app/v2", "gone/deep/v1", "gone/deep/v2"):
        write_image(images / path, seed=len(path) + int(path[-1]))
    export(images, site)
    shutil.rmtree(images / "gone")
    shutil.rmtree(images / "app/v2")
    report = export(images, site, "--grace", "0")
    assert report["removed"] == {"tags": 3, "manifests": 3, "blobs": 9, "lists": 1, "other": 0}
    assert not (site / "v2/gone").exists()
    assert registry(site) == fresh(images, tmp_path)
    assert_whole(site)


def test_no_prune_leaves_everything(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    write_image(images / "old/v1", seed=2)
    export(images, site)
    before = without_pages(registry(site))
    shutil.rmtree(images / "old")
    shutil.rmtree(images / "app")
    write_image(images / "app/v2", seed=3)
    report = export(images, site, "--no-prune", "--grace", "0")
    assert not any(report["removed"].values())
    assert report["unreferenced"]["count"] == 0
    assert before < without_pages(registry(site))
    assert tags(site, "app") == ["v1", "v2"]
    assert tags(site, "old") == ["v1"]
    assert_whole(site)
    export(images, site, "--grace", "0")
    assert tags(site, "app") == ["v2"]
    assert not (site / "v2/old").exists()


def test_what_no_export_put_into_a_site_is_no_tag_and_no_repository(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    (site / "v2/app/manifests/-v1").symlink_to(os.readlink(site / "v2/app/manifests/v1"))
    (site / "v2/Upper/manifests").mkdir(parents=True)
    (site / "v2/Upper/manifests/v1").symlink_to("nowhere")
    export(images, site, "--no-prune")
    assert tags(site, "app") == ["v1"]
    assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": ["app"]}
    export(images, site)
    assert_whole(site)
    assert not (site / "v2/Upper").exists()


def test_names_go_at_once_and_content_waits(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    old = write_image(images / "old/v1", seed=2)
    export(images, site)
    shutil.rmtree(images / "old")
    began = time.time()
    report = export(images, site)
    assert report["unreferenced"]["count"] == 1 + len(old.blobs)
    assert began + 900 <= report["unreferenced"]["until"] <= time.time() + 900
    left = {path.name for path in (site / "v2/old").rglob("*")}
    assert left == {"blobs", "manifests", head(old), *old.blobs}
    assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": ["app"]}
    again = export(images, site)
    assert again["unreferenced"] == report["unreferenced"]  # waiting does not begin anew
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)


def test_the_first_export_after_the_grace_removes(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    old = write_image(images / "old/v1", seed=2)
    export(images, site)
    shutil.rmtree(images / "old")
    assert export(images, site, "--grace", "0.5")["unreferenced"]["count"] == 1 + len(old.blobs)
    time.sleep(0.6)
    assert export(images, site, "--grace", "0.5")["unreferenced"]["count"] == 0
    assert registry(site) == fresh(images, tmp_path)


def test_content_that_comes_back_waits_no_more(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    write_image(images / "old/v1", seed=2)
    export(images, site)
    (images / "old").rename(tmp_path / "old")
    export(images, site)
    (tmp_path / "old").rename(images / "old")
    report = export(images, site, "--grace", "0")
    assert report["unreferenced"]["count"] == 0
    assert not any(report["removed"].values())
    assert_whole(site)


def test_an_equal_copy_of_images_is_followed(images: Path, site: Path) -> None:
    built = write_index(images / "app/v1")
    export(images, site)
    before = registry(site)
    copy = images.with_name("copy")
    shutil.copytree(images, copy)
    shutil.rmtree(images)
    copy.rename(images)
    report = export(images, site)
    assert registry(site) == before
    assert report["changed"]["blobs"] == len(built.blobs)
    assert report["changed"]["manifests"] == len(built.manifests)
    for path in [*(site / "v2").glob("*/blobs/*"), *(site / "v2").glob("*/manifests/*@*/*")]:
        assert path.lstat().st_nlink == 2
    assert {path.lstat().st_ino for path in images.rglob("*") if path.is_file() and path.name != "version"} == {
        path.lstat().st_ino for path in (site / "v2/app").rglob("*") if path.is_file() and "/tags/" not in str(path)
    }


def test_a_bad_image_keeps_what_was_served(images: Path, site: Path) -> None:
    old = write_index(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    write_image(images / "other/v1", seed=3)
    export(images, site)
    new = write_image(images / "app/v1", seed=4)
    next((images / "app/v1").glob("?" * 64)).unlink()
    write_image(images / "app/v2", seed=5)
    write_image(images / "third/v1", seed=6)
    shutil.rmtree(images / "other")
    bad_and_new = write_image(images / "bad/v1", seed=7)
    (images / "bad/v1/manifest.json").write_text("{")
    for _ in range(2):
        report = export(images, site, "--keep-going", "--grace", "0", status=1)
        assert {(fault["path"], fault["code"]) for fault in report["faults"]} == {
            ("app/v1", "missing"),
            ("bad/v1", "manifest"),
        }
        assert os.readlink(site / "v2/app/manifests/v1") == head(old)
        assert {path.name for path in (site / "v2/app/blobs").iterdir()} > old.blobs.keys()
        assert tags(site, "app") == ["v1", "v2"]
        assert tags(site, "third") == ["v1"]
        assert not (site / "v2/other").exists()
        assert not (site / "v2/bad").exists()
        assert not list(site.glob(f"v2/*/manifests/{head(new)}"))
        assert not list(site.glob(f"v2/*/manifests/{head(bad_and_new)}"))
        assert_whole(site)


@pytest.mark.parametrize("why", ["digest", "half-copied", "tag-clash", "link", "half-copied above", "port"])
def test_keep_going_keeps_what_a_bad_path_stands_for(images: Path, site: Path, why: str) -> None:
    path = "localhost:5000/app:v1" if why == "port" else "team/app/v1"
    name = "localhost_5000/app" if why == "port" else "team/app"
    built = write_image(images / path)
    write_image(images / "good/v1", seed=2)
    export(images, site)
    match why:
        case "digest":
            file = max((images / path).glob("?" * 64), key=lambda each: each.stat().st_size)
            data = file.read_bytes()
            file.unlink()  # so that the site keeps the old bytes
            file.write_bytes(data[:-1] + b"?")
        case "tag-clash":
            write_image(images / "team/app:v1", seed=3)
        case "link":
            (images / path).rename(images.parent / "elsewhere")
            (images / path).symlink_to(images.parent / "elsewhere")
        case "half-copied above":
            shutil.rmtree(images / path)
            (images / "team/version").touch()
        case _:
            (images / path / "manifest.json").unlink()
    report = export(images, site, "--keep-going", "--grace", "0", status=1)
    assert report["faults"]
    assert os.readlink(site / "v2" / name / "manifests/v1") == head(built)
    assert tags(site, name) == ["v1"]
    assert_whole(site)


def test_without_keep_going_one_bad_image_stops_everything(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    before = listing(site, without=".scr-export/lock")
    write_image(images / "app/v2", seed=2)
    (images / "app/v3").mkdir()
    (images / "app/v3/manifest.json").write_text("[]")
    export(images, site, status=1)
    after = listing(site, without=".scr-export/lock")
    assert {name: entry for name, entry in after.items() if not name.startswith(".scr-export")} == {
        name: entry for name, entry in before.items() if not name.startswith(".scr-export")
    }


def test_an_empty_images_empties_no_site(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    before = registry(site)
    shutil.rmtree(images / "app")
    report = export(images, site, status=1)
    assert [fault["code"] for fault in report["faults"]] == ["empty"]
    assert registry(site) == before


def test_a_dry_run_makes_no_site(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    report = export(images, site, "--dry-run")
    assert report["dry_run"] is True
    assert report["added"] == {"tags": 1, "manifests": 1, "blobs": len(built.blobs), "lists": 2, "other": 2}
    assert not site.exists()


def test_a_dry_run_says_what_the_run_does(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    write_image(images / "old/v1", seed=2)
    export(images, site)
    write_image(images / "app/v1", seed=3)
    shutil.rmtree(images / "old")
    before = listing(site)
    dry = export(images, site, "--dry-run", "--grace", "0")
    assert listing(site) == before
    wet = export(images, site, "--grace", "0")
    for key in ("added", "changed", "removed", "unchanged", "tag_changes", "hashed", "images", "repositories", "tags"):
        assert dry[key] == wet[key]
    assert dry["files"] == {"linked": 0, "reflinked": 0, "copied": 0}
    assert wet["files"]["linked"] == 4


def test_the_report_of_a_success(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    write_index(images / "app/v2", sparse=["arm64"])
    report = export(images, site)
    warning = {"in", "path", "code", "what", "remedy"}
    assert report.keys() == {
        "schema",
        "site",
        "dry_run",
        "repositories",
        "images",
        "tags",
        "signed",
        "tag_changes",
        "added",
        "changed",
        "removed",
        "unchanged",
        "files",
        "bytes",
        "why_copied",
        "hashed",
        "unreferenced",
        "seconds",
        "faults",
        "warnings",
    }
    assert (report["schema"], report["site"], report["dry_run"]) == (1, str(site), False)
    assert (report["repositories"], report["images"], report["tags"]) == (1, 2, 2)
    assert report["added"] == {"tags": 2, "manifests": 3, "blobs": 2 * len(built.blobs), "lists": 2, "other": 2}
    assert report["unreferenced"] == {"count": 0, "until": 0}
    assert report["seconds"] > 0
    assert report["faults"] == []
    assert [(each.keys(), each["code"]) for each in report["warnings"]] == [(warning, "sparse")]


def test_the_report_of_a_failure(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    (images / "app/v1/manifest.json").write_text("[]")
    report = export(images, site, status=1)
    assert report.keys() == {"schema", "site", "error", "faults", "warnings"}
    assert report["error"] == "nothing was published: 1 fault"
    assert [(fault["path"], fault["code"]) for fault in report["faults"]] == [("app/v1", "manifest")]
    assert all(report["faults"][0].values())


def test_the_text_says_the_same(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    process = run(images, site)
    assert process.returncode == 0
    assert process.stderr == ""
    assert process.stdout.startswith(f"{site}: 1 image in 1 repository, 1 tag\n")
    assert "  added    1 tag, 1 manifest, 3 blobs, 2 lists, 2 snippets\n" in process.stdout
    assert "  nothing changed\n" in run(images, site).stdout


def test_a_name_prefix(images: Path, site: Path) -> None:
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


def test_verify_size_reads_no_blob_and_verify_digest_does(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    file = images / "app/v1" / max(built.blobs, key=lambda digest: len(built.blobs[digest]))[7:]
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    report = export(images, site, "--verify", "size")
    assert report["hashed"] == 0
    failure = export(images, site, status=1)  # what was not hashed is not taken for verified
    assert [fault["code"] for fault in failure["faults"]] == ["digest"]
    assert file.name in failure["faults"][0]["what"]
    file.write_bytes(data)
    others = sum(len(blob) for digest, blob in built.blobs.items() if digest[7:] != file.name)
    assert export(images, site)["hashed"] == sum(map(len, built.blobs.values())) - others  # noted by the failed run


def test_a_blob_that_changed_in_place_is_hashed_again(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    export(images, site)
    file = images / "app/v1" / next(iter(built.blobs))[7:]
    data = file.read_bytes()
    file.write_bytes(b"?" + data[1:])
    assert [fault["code"] for fault in export(images, site, status=1)["faults"]] == ["digest"]


def test_a_private_manifest_is_copied(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    source = images / "app/v1/manifest.json"
    source.chmod(0o600)
    report = export(images, site)
    copy = site / "v2/app/manifests" / head(built) / head(built)
    assert stat.S_IMODE(copy.lstat().st_mode) == 0o644
    assert stat.S_IMODE(source.lstat().st_mode) == 0o600
    assert copy.read_bytes() == built.raw
    assert (report["files"]["linked"], report["files"]["copied"] + report["files"]["reflinked"]) == (3, 1)
    before = listing(site / "v2")
    again = export(images, site)
    assert not any([*again["added"].values(), *again["changed"].values()])
    assert listing(site / "v2") == before
    source.chmod(0o644)
    export(images, site)
    assert copy.samefile(source)  # now it can be a link, and no byte is stored twice


def test_the_umask_does_not_hide_the_site(images: Path, site: Path) -> None:
    write_index(images / "app/v1")
    for path in images.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    export(images, site / "deeper", umask=0o077)
    state = site / "deeper/.scr-export"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (state, state / "lock", state / "verified")} == {0o700, 0o600}
    for path in [site, *site.rglob("*")]:
        if not path.is_symlink() and ".scr-export" not in path.parts:
            assert stat.S_IMODE(path.lstat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_another_file_system_gets_copies(images: Path, other_device: Path) -> None:
    built = write_index(images / "app/v1")
    write_index(images / "team/app/v1")
    before = substance(images)
    site = other_device / "site"
    report = export(images, site)
    count = len(built.blobs) + len(built.manifests)
    assert report["files"] == {"linked": count, "reflinked": 0, "copied": count}  # the second name is a link
    for path in site.glob("v2/**/blobs/*"):
        assert path.lstat().st_nlink == 2
        assert path.read_bytes() == built.blobs[path.name]
        assert stat.S_IMODE(path.lstat().st_mode) == 0o644
    assert_whole(site)
    assert substance(images) == before
    listed = listing(site / "v2")
    again = export(images, site)
    assert not any([*again["added"].values(), *again["changed"].values()])
    assert again["hashed"] == 0
    assert listing(site / "v2") == listed
    write_index(images / "third/v1")
    assert export(images, site)["files"] == {"linked": count, "reflinked": 0, "copied": 0}


def test_images_below_each_others_names(images: Path, site: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("grace", ["0", "900"])
@pytest.mark.parametrize("before", ["a/manifests/x/1", "a/x"])
def test_a_tag_takes_the_place_of_a_repository_and_the_other_way_round(
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


@pytest.mark.parametrize("before", ["a/manifests/x/1", "a/x"])
def test_what_is_not_pruned_clashes_too(images: Path, site: Path, before: str) -> None:
    write_image(images / before)
    export(images, site)
    served = registry(site)
    shutil.rmtree(images / "a")
    write_image(images / ("a/x" if before != "a/x" else "a/manifests/x/1"), seed=3)
    report = export(images, site, "--no-prune", status=1)
    assert [fault["code"] for fault in report["faults"]] == ["path-clash"]
    assert registry(site) == served


def test_what_a_bad_image_keeps_clashes_too(images: Path, site: Path) -> None:
    built = write_image(images / "a/x")
    export(images, site)
    (images / "a/x/manifest.json").unlink()
    write_image(images / "a/manifests/x/1", seed=2)
    write_image(images / "b/1", seed=3)
    report = export(images, site, "--keep-going", "--grace", "0", status=1)
    assert codes(report) == {("a/x", "half-copied"), ("a/manifests/x/1", "path-clash")}
    assert os.readlink(site / "v2/a/manifests/x") == head(built)
    assert tags(site, "a") == ["x"]
    assert tags(site, "b") == ["1"]
    assert_whole(site)


def write_signature(directory: Path, subject: Built, seed: int) -> Built:
    return write_artifact(directory, seed=seed, artifact_type="application/x.sig", empty_config=True, subject=subject)


def test_what_refers_to_an_image_is_listed(images: Path, site: Path) -> None:
    subject = write_index(images / "app/v1")
    child = next(digest for digest in subject.manifests if digest != subject.digest)
    first, second = (write_signature(images / f"app/sig{seed}", subject, seed) for seed in (5, 6))
    chart = write_artifact(images / "app/chart", seed=7, subject=subject)
    signed = write_signature(images / "app/sigsig", first, 8)
    write_signature(images / "elsewhere/sig", subject, 9)  # what is in another repository is no matter of this
    report = export(images, site)
    assert report["added"]["lists"] == 3 + 3 + 2 + 2  # with the types of each subject
    assert referrers(site, "app", subject.digest) == {first.digest, second.digest, chart.digest}
    assert referrers(site, "app", subject.digest, "application@x.sig@") == {first.digest, second.digest}
    assert referrers(site, "app", first.digest) == {signed.digest}
    assert referrers(site, "app", child) == set()
    assert_whole(site)
    before = listing(site, without=".scr-export/lock")
    assert not any(export(images, site)["changed"].values())
    assert listing(site, without=".scr-export/lock") == before


def test_an_index_under_a_tag_of_the_schema_is_merged(images: Path, site: Path) -> None:
    subject = write_image(images / "app/v1")
    first = write_signature(images / "app/sig", subject, 5)
    old = write_artifact(images / "old", seed=6)  # it does not say itself to what it refers
    tag = subject.digest.replace(":", "-")
    write_referrers_tag(images / "app" / tag, referrers=[old])
    shutil.rmtree(images / "old")
    export(images, site)
    assert referrers(site, "app", subject.digest) == {first.digest, old.digest}
    shutil.rmtree(images / "app" / tag)
    export(images, site)
    assert referrers(site, "app", subject.digest) == {first.digest}


def test_what_is_pruned_refers_no_more_at_once(images: Path, site: Path, tmp_path: Path) -> None:
    subject = write_image(images / "app/v1")
    write_signature(images / "app/sig", subject, 5)
    sbom = write_artifact(images / "app/sbom", seed=6, subject=subject)
    export(images, site)
    shutil.rmtree(images / "app/sig")
    report = export(images, site)
    assert report["unreferenced"]["count"]  # its content still waits for pulls in flight
    assert report["removed"]["lists"] == 1  # the one of its type
    assert report["changed"]["lists"] == 2
    assert referrers(site, "app", subject.digest) == {sbom.digest}
    assert referrers(site, "app", subject.digest, "application@x.sig@") == set()
    shutil.rmtree(images / "app/sbom")
    export(images, site)
    assert not (site / "v2/app/referrers").exists()
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)


def test_what_refers_stays_with_what_is_not_pruned(images: Path, site: Path) -> None:
    subject = write_image(images / "app/v1")
    old = write_signature(images / "app/sig", subject, 5)
    tag = subject.digest.replace(":", "-")
    write_referrers_tag(images / "app" / tag, referrers=[write_artifact(images / "x", seed=6)])
    shutil.rmtree(images / "x")
    export(images, site)
    before = referrers(site, "app", subject.digest)
    shutil.rmtree(images / "app")
    new = write_signature(images / "app/sig2", subject, 7)
    export(images, site, "--no-prune", "--grace", "0")
    assert referrers(site, "app", subject.digest) == before | {new.digest}
    assert old.digest in before
    export(images, site, "--grace", "0")
    assert referrers(site, "app", subject.digest) == {new.digest}


@pytest.mark.parametrize("others", [True, False])
def test_what_was_pruned_refers_to_nothing_again(images: Path, site: Path, others: bool) -> None:
    subject = write_image(images / "app/v1")
    kept = {write_signature(images / "app/sig", subject, 5).digest} if others else set()
    write_signature(images / "app/revoked", subject, 6)
    export(images, site)
    shutil.rmtree(images / "app/revoked")
    assert export(images, site)["unreferenced"]["count"] > 0
    write_image(images / "app/v2", seed=8)
    for _ in range(2):
        export(images, site, "--no-prune")
        assert referrers(site, "app", subject.digest) == kept
        assert wait(start("verify", site)).returncode == 0
    assert export(images, site, "--grace", "0")["removed"]["manifests"] == 1


def test_a_listed_referrer_that_another_directory_has(images: Path, site: Path) -> None:
    subject = write_image(images / "app/v1")
    sbom = write_artifact(images / "app/sbom", seed=6, annotations={"a": "b"})
    write_referrers_tag(images / "app" / subject.digest.replace(":", "-"), referrers=[sbom])
    (images / "app" / subject.digest.replace(":", "-") / f"{sbom.digest[7:]}.manifest.json").unlink()
    assert export(images, site)["warnings"] == []
    assert referrers(site, "app", subject.digest) == {sbom.digest}
    assert wait(start("verify", site)).returncode == 0
    assert not any(export(images, site, "--no-prune")["changed"].values())


def test_repositories_of_such_names_do_not_make_another(images: Path, site: Path) -> None:
    subject = write_image(images / "x/manifests/t")
    write_image(images / "x/referrers/t", seed=2)
    write_signature(images / "x/manifests/sig", subject, 5)
    for options in ([], ["--no-prune"]):
        export(images, site, *options)
        assert json.loads((site / "v2/_catalog").read_bytes()) == {"repositories": ["x/manifests", "x/referrers"]}
        assert wait(start("verify", site)).returncode == 0


@pytest.mark.parametrize("bad", ["sig", "v1"])
def test_what_a_bad_image_refers_to_stays_as_it_was(images: Path, site: Path, bad: str) -> None:
    subject = write_image(images / "app/v1")
    kept = write_signature(images / "app/sig", subject, 5)
    write_signature(images / "app/gone", subject, 6)
    export(images, site)
    (images / "app" / bad / "manifest.json").unlink()  # so that the site keeps its own
    shutil.rmtree(images / "app/gone")
    new = write_signature(images / "app/new", subject, 7)
    for _ in range(2):
        export(images, site, "--keep-going", "--grace", "0", status=1)
        assert referrers(site, "app", subject.digest) == {kept.digest, new.digest}
        assert_whole(site)


def test_a_list_is_one_directory_that_two_links_lead_to(images: Path, site: Path) -> None:
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


def test_a_list_and_all_its_pages_change_in_one_instant(images: Path, site: Path, tmp_path: Path) -> None:
    """What is listed is there, at every instant: a tag is made before it is listed, and listed no more when it goes."""
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
    """A list, and whatever its pages say."""
    directory = site / "v2/app/tags/_pages"
    return [tags(site, "app"), {path.name: path.read_text() for path in sorted(directory.iterdir())}]


@pytest.mark.parametrize("way", ["absent", "elsewhere", "a directory", "a file"])
def test_pages_that_were_never_in_use_are_made_anew(images: Path, site: Path, way: str) -> None:
    """A power cut may have left any of them empty: only what the link points to was settled on the disk."""
    write_image(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    export(images, site)
    link = site / "v2/app/tags/_pages"
    pages = link.resolve()
    for path in pages.iterdir():
        path.unlink()
    link.unlink()
    if way == "elsewhere":
        link.symlink_to("_pages@0")
    elif way == "a directory":
        link.mkdir()
    elif way == "a file":
        link.touch()
    export(images, site)
    assert link.resolve() == pages
    assert tags(site, "app") == ["v1", "v2"]
    assert_whole(site)


def test_an_interrupted_export_is_collected(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    (site / ".scr-export/tmp/7").write_text("half")
    (site / ".scr-export/tmp/d/e").mkdir(parents=True)
    (site / "v2/app/blobs" / f"sha256:{'0' * 64}").write_text("never named")
    (site / "v2/half/manifests").mkdir(parents=True)
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)
    assert list((site / ".scr-export/tmp").iterdir()) == []


def test_a_spoilt_state_costs_time_only(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    hashed = export(images, site)["hashed"]
    for data in (b"", b"\xff\xfe", b"[]", b'{"unreferenced": {"x": []}}', b"[" * 100_000, b"null"):
        for name in ("verified", "state.json"):
            (site / ".scr-export" / name).write_bytes(data)
        assert export(images, site)["hashed"] == hashed
        assert_whole(site)


def test_reading_images_leaves_no_access_time(images: Path, site: Path) -> None:
    write_index(images / "app/v1")
    places = [images, *images.rglob("*")]
    for path in places:
        os.utime(path, ns=(1_000_000_000, path.stat().st_mtime_ns))  # old enough for `relatime` to renew it
    export(images, site)
    assert {path.stat().st_atime_ns for path in places} == {1_000_000_000}


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
