"""`scr-export list`: what a site has, image by image, and which references it does not have."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import forked
from tests.support.builders import ARCHITECTURE, Built, write_artifact, write_image, write_index, write_referrers_tag
from tests.support.runner import ENVIRONMENT, Report, export, listing, sound, start, wait

COSIGN = "application/vnd.dev.cosign.artifact.sig.v1+json"
HELM = "application/vnd.cncf.helm.config.v1+json"
IMAGE = "vnd.oci.image.manifest.v1+json"
SIMPLE = b"\x90"  # the first byte of an OpenPGP message that is signed


def run_list(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    """Run `scr-export list` in a forked process, which is quicker than a new one."""
    forked.warm()
    words = ["list", *map(str, arguments)]
    return sound(subprocess.CompletedProcess(words, *forked.run(*words)))


def list_text(site: Path, *arguments: str, status: int = 0) -> list[str]:
    """The lines that `scr-export list` prints."""
    process = run_list(site, *arguments)
    assert process.returncode == status, process.stderr
    assert bool(process.stderr) == bool(status)
    return process.stdout.splitlines()


def list_json(site: Path, *arguments: str, status: int = 0) -> Report:
    process = run_list("--json", site, *arguments)
    assert process.returncode == status, process.stderr
    document: Report = json.loads(process.stdout)
    assert document["schema"] == 1
    return document


def listed(site: Path, *arguments: str) -> dict[str, Any]:
    """The images of a site, by name."""
    return {image["name"]: image for image in list_json(site, *arguments)["images"]}


def list_missing(
    site: Path, references: str | bytes, *options: str, status: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `scr-export list --missing -` with these references on standard input."""
    data = references.encode() if isinstance(references, str) else references
    command = [sys.executable, "-m", "scr_export", "list", *options, "--missing", "-", str(site)]
    done = subprocess.run(command, input=data, capture_output=True, env=ENVIRONMENT, check=False)
    process = sound(subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode()))
    if status is not None:
        assert process.returncode == status, process.stderr
    return process


def missing(site: Path, references: str, *options: str) -> list[str]:
    """The references that a site does not have."""
    process = list_missing(site, references, *options)
    lines = process.stdout.splitlines()
    assert (process.returncode, process.stderr) == (1 if lines else 0, "")
    return lines


def untagged(images: Path, name: str, **options: Any) -> Built:
    """Write an image that is named by its digest, as `skopeo sync` does."""
    scratch = images.parent / "scratch"
    built = write_image(scratch, **options)
    target = images / f"{name}@{built.digest}"
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch.rename(target)
    return built


def size_of(built: Built) -> int:
    """The bytes of all manifests and blobs, each once."""
    return sum(len(raw) for _, raw in built.manifests.values()) + sum(map(len, built.blobs.values()))


def test_an_image_is_one_line(images: Path, site: Path) -> None:
    one = write_image(images / "team/app/v1")
    chart = write_artifact(images / "charts/web/1.0", artifact_type=HELM)
    export(images, site)
    lines = list_text(site)
    assert [line.split() for line in lines[:3]] == [
        ["IMAGE", "DIGEST", "SIZE", "SIGNATURES", "REFERRERS", "PLATFORMS,", "TYPE"],
        ["charts/web:1.0", chart.digest[7:19], "1.5", "kB", "-", "-", HELM],
        ["team/app:v1", one.digest[7:19], "21.5", "kB", "-", "-", f"linux/{ARCHITECTURE}"],
    ]
    assert lines[3] == f"{site}: 2 images in 2 repositories"
    assert max(map(len, lines[:3])) <= 120
    assert {line.index(word) for line, word in zip(lines, ("PLATF", HELM, "linux"), strict=False)} == {
        lines[0].index("PLATFORMS")
    }


def test_a_long_name_moves_its_own_line_only(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    heading, line, *_ = list_text(site)
    write_image(images / "long" / ("x" * 100))
    export(images, site)
    assert list_text(site)[:2] == [heading, line]


def test_an_index_has_the_size_of_all_its_platforms_and_names_them(images: Path, site: Path) -> None:
    built = write_index(images / "app/v1", platforms=("amd64", "arm/v7", "arm64"))
    many = write_index(images / "many/v1", seed=2, platforms=("386", "amd64", "arm/v6", "arm64"))
    export(images, site)
    image = listed(site)["app:v1"]
    assert image["digest"] == built.digest
    assert image["media_type"] == built.media_type
    assert image["platforms"] == ["linux/amd64", "linux/arm/v7", "linux/arm64"]
    assert image["size"] == size_of(built)
    assert [part["platforms"] for part in image["manifests"]] == [[each] for each in image["platforms"]]
    assert sum(part["size"] for part in image["manifests"]) + len(built.raw) == image["size"]
    text = list_text(site)
    assert text[1].endswith("  linux/amd64,linux/arm/v7,linux/arm64")
    assert text[2].endswith("  linux/386,amd64,arm/v6,arm64")
    assert list_json(site)["size"] == size_of(built) + size_of(many)


def test_what_images_share_counts_once_in_the_sum(images: Path, site: Path) -> None:
    one = write_image(images / "app/v1")
    two = write_image(images / "other/v1", seed=2, share_layers_of=0)
    write_image(images / "app/again")
    export(images, site)
    assert {name: image["size"] for name, image in listed(site).items()} == {
        "app:again": size_of(one),
        "app:v1": size_of(one),
        "other:v1": size_of(two),
    }
    shared = sum(len(blob) for digest, blob in one.blobs.items() if digest in two.blobs)
    assert shared
    assert list_json(site)["size"] == size_of(one) + size_of(two) - shared


def test_what_is_not_there_is_neither_named_nor_counted(images: Path, site: Path) -> None:
    sparse = write_index(images / "app/sparse", sparse=["arm64"])
    foreign = write_image(images / "app/windows", seed=2, foreign_layer=True)
    export(images, site)
    found = listed(site)
    assert found["app:sparse"]["platforms"] == ["linux/amd64"]
    assert len(sparse.manifests) == 2
    assert found["app:sparse"]["size"] == size_of(sparse)
    present = sum(path.stat().st_size for path in (images / "app/windows").iterdir() if path.name != "version")
    assert found["app:windows"]["size"] == present
    assert foreign.digest == found["app:windows"]["digest"]


@pytest.mark.parametrize(
    ("platform", "shown"),
    [
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v7"),
        ({"OS": "windows", "Architecture": "amd64", "os.version": "10.0"}, "windows/amd64"),
        ({"os": "linux", "architecture": "amd64", "variant": ""}, "linux/amd64"),
        ({"os": "unknown", "architecture": "unknown"}, "-"),
        ({"os": "linux"}, "-"),
        ({"os": "", "architecture": ""}, "-"),
        ({"os": "\x1b[2J", "architecture": "amd64"}, "-"),
        ({"os": "li nux", "architecture": "amd64"}, "-"),
        ({"os": "a/b", "architecture": "c"}, "-"),
        ({"os": "x" * 500, "architecture": "amd64"}, "-"),
    ],
)
def test_a_platform_is_that_of_the_index_or_else_of_the_config(
    images: Path, site: Path, platform: dict[str, str], shown: str
) -> None:
    write_index(images / "app/index", platforms=["amd64"])
    _state_in_index(images / "app/index", platform)
    write_image(images / "app/image", seed=2)
    _state_in_config(images / "app/image", platform)
    write_index(images / "app/silent", seed=3, platforms=["arm64"])
    _state_in_index(images / "app/silent", None)
    export(images, site)
    rows = {line.split()[0]: line.split()[-1] for line in list_text(site)[1:4]}
    assert rows == {"app:index": shown, "app:image": shown, "app:silent": "linux/arm64"}


def _state_in_index(image: Path, platform: dict[str, str] | None) -> None:
    index = json.loads((image / "manifest.json").read_bytes())
    del index["manifests"][0]["platform"]
    if platform:
        index["manifests"][0]["platform"] = platform
    (image / "manifest.json").write_text(json.dumps(index))


def _state_in_config(image: Path, platform: dict[str, str]) -> None:
    manifest = json.loads((image / "manifest.json").read_bytes())
    config = json.loads((image / manifest["config"]["digest"][7:]).read_bytes())
    raw = json.dumps({key: config[key] for key in config if key not in ("os", "architecture")} | platform).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (image / digest).write_bytes(raw)
    manifest["config"] |= {"digest": f"sha256:{digest}", "size": len(raw)}
    (image / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("config", [b"[]", b"\xff\xff", b'{"os": 1, "architecture": []}', b"[" * 9000, b"null"])
def test_a_config_of_any_bytes_is_no_platform(images: Path, site: Path, config: bytes) -> None:
    write_image(images / "app/v1")
    manifest = json.loads((images / "app/v1/manifest.json").read_bytes())
    digest = hashlib.sha256(config).hexdigest()
    (images / "app/v1" / digest).write_bytes(config)
    manifest["config"] |= {"digest": f"sha256:{digest}", "size": len(config)}
    (images / "app/v1/manifest.json").write_text(json.dumps(manifest))
    export(images, site)
    assert list_text(site)[1].split()[-1] == "-"


def test_hostile_texts_cannot_control_a_terminal(images: Path, site: Path) -> None:
    hostile = "application/\x1b[31mred\n\u202e"
    write_artifact(images / "app/v1", artifact_type=hostile, empty_config=True, annotations={"a\x1b": "b\r\nc"})
    export(images, site)
    text = "\n".join(list_text(site, "-v"))
    assert "application/\\x1b[31mred\\n\\u202e" in text
    assert "a\\x1b=b\\r\\nc" in text
    assert text.replace("\n", "").isprintable()
    image = listed(site)["app:v1"]
    assert (image["artifact_type"], image["annotations"]) == (hostile, {"a\x1b": "b\r\nc"})


def test_images_without_a_tag_are_named_by_their_digest(images: Path, site: Path) -> None:
    built = untagged(images, "team/app", seed=1)
    write_index(images / "team/app:v1", seed=2)
    write_image(images / "team/app:old", seed=3)
    export(images, site)
    shutil.rmtree(images / "team/app:old")
    export(images, site)  # its content stays for the grace period, and is none of the site's images
    names = ["team/app:v1", f"team/app@{built.digest}"]
    assert list_text(site, "-q") == names
    assert listed(site)[names[1]]["tag"] is None
    (site / "images.txt").write_text("mine\n")
    assert list_text(site, "-q") == names
    (site / "images.txt").unlink()
    assert list_text(site, "-q") == names


def test_a_glob_is_matched_with_the_name_and_with_name_and_tag(images: Path, site: Path) -> None:
    for number, path in enumerate(("team/app/v1", "team/app/v2", "team/app/sub/v1", "other/app/v1", "app/v1")):
        write_image(images / path, seed=number, layers=1)
    digest = untagged(images, "digest/only", seed=9).digest
    export(images, site)
    for glob, names in (
        ("team/app", ["team/app:v1", "team/app:v2"]),
        ("team/app:v1", ["team/app:v1"]),
        ("*:v2", ["team/app:v2"]),
        ("team/*", ["team/app:v1", "team/app:v2", "team/app/sub:v1"]),
        ("*/app", ["other/app:v1", "team/app:v1", "team/app:v2"]),
        ("[ot]*app:v[12]", ["other/app:v1", "team/app:v1", "team/app:v2"]),
        ("digest/*", [f"digest/only@{digest}"]),
        (f"*@{digest}", [f"digest/only@{digest}"]),
        ("APP", []),
        ("nothing", []),
    ):
        assert list_text(site, "-q", glob) == names
    assert list_json(site, "team/app:v1")["glob"] == "team/app:v1"
    assert list_text(site, "nothing")[0] == f"{site}: 0 images in 0 repositories"


def test_a_mirror_is_listed_like_the_site(images: Path, site: Path, tmp_path: Path) -> None:
    write_index(images / "team/app/v1")
    untagged(images, "digest/only", seed=2)
    export(images, site)
    mirror = tmp_path / "mirror"
    shutil.copytree(site, mirror, symlinks=True, ignore=shutil.ignore_patterns(".scr-export"))
    before = listing(mirror)
    ours, theirs = list_json(site), list_json(mirror)
    assert listing(mirror) == before
    for each in (ours, theirs):
        del each["site"], each["seconds"]
    assert ours == theirs
    assert len(ours["images"]) == 2


def test_signatures_and_referrers_are_counted(images: Path, site: Path) -> None:
    index = write_index(images / "app/v1", platforms=["amd64"])
    child = next(digest for digest in index.manifests if digest != index.digest)
    write_artifact(images / "app" / f"{child.replace(':', '-')}.sig", seed=1, payload_type="application/signature")
    signature = write_artifact(images / "app/cosign", seed=2, artifact_type=COSIGN, empty_config=True, subject=index)
    sbom = write_artifact(images / "app/sbom", seed=3, artifact_type="application/spdx+json", subject=index)
    more = write_artifact(images / "app/sbom2", seed=5, artifact_type="application/x", empty_config=True, subject=index)
    (images / "app/v1/signature-1").write_bytes(SIMPLE)
    (images / "app/v1/signature-2").write_bytes(SIMPLE + b"two")
    (images / "app/v1/signature-3").write_bytes(b"\0sigstore-json\n{}")
    write_image(images / "plain/v1", seed=4)
    export(images, site)
    image = listed(site)["app:v1"]
    assert image["signatures"] == {"cosign": 3, "simple": 2}
    assert sorted(image["referrers"], key=lambda each: str(each["artifact_type"])) == [
        {"digest": sbom.digest, "artifact_type": "application/spdx+json", "subject": index.digest},
        {"digest": signature.digest, "artifact_type": COSIGN, "subject": index.digest},
        {"digest": more.digest, "artifact_type": "application/x", "subject": index.digest},
    ]
    row = next(line for line in list_text(site) if line.startswith("app:v1 "))
    assert row.split()[4:6] == ["5", "3"]
    row = next(line for line in list_text(site) if line.startswith("plain:v1 "))
    assert row.split()[4:6] == ["-", "-"]


def test_what_a_referrers_tag_lists_counts(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    other = write_artifact(images / "app/sbom", seed=2, artifact_type="application/spdx+json")
    write_referrers_tag(images / "app" / built.digest.replace(":", "-"), referrers=[other])
    export(images, site)
    assert [each["digest"] for each in listed(site)["app:v1"]["referrers"]] == [other.digest]


def test_verbose_prints_whole_digests_and_every_part(images: Path, site: Path) -> None:
    built = write_index(images / "app/v1", annotations={"org.example": "yes"})
    export(images, site)
    lines = list_text(site, "-v")
    assert built.digest in lines[1]
    assert all(digest in "\n".join(lines[2:4]) for digest in built.manifests if digest != built.digest)
    assert [line.split()[0] for line in lines[1:5]] == ["app:v1", "manifest", "manifest", "annotation"]
    assert lines[4].endswith("org.example=yes")


@pytest.mark.parametrize(
    ("damage", "code", "path"),
    [
        (lambda built, site: next(site.glob("v2/app/blobs/*")).unlink(), "missing", f"{IMAGE}@"),
        (lambda built, site: _manifest(built, site).unlink(), "unreadable", f"{IMAGE}@"),
        (lambda built, site: _rewrite(_manifest(built, site)), "manifest", f"{IMAGE}@"),
        (lambda built, site: shutil.rmtree(_manifest(built, site).parent), "tag", "v1"),
    ],
)
def test_damage_that_shows_is_a_fault(images: Path, site: Path, damage: Any, code: str, path: str) -> None:
    built = write_image(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    export(images, site)
    damage(built, site)
    report = list_json(site, status=1)
    (fault,) = report["faults"]
    assert (fault["in"], fault["code"]) == ("SITE", code)
    assert fault["path"].startswith(f"v2/app/manifests/{path}")
    assert [image["name"] for image in report["images"]] == ["app:v1", "app:v2"]
    process = run_list("-q", site)
    assert process.stdout.splitlines() == ["app:v1", "app:v2"]
    assert process.stderr.startswith(f"error: {site}/{fault['path']}: ")
    process = list_missing(site, "app:v1\napp:v2\n", status=1)
    assert process.stdout in ("app:v1\n", "app:v2\n")  # the blob can be of either


def _manifest(built: Built, site: Path) -> Path:
    return site / "v2/app/manifests" / built.manifest_name / built.manifest_name


def _rewrite(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"{}")


def test_what_is_no_site_and_a_site_that_is_written_are_told(images: Path, site: Path, tmp_path: Path) -> None:
    assert wait(start("list", tmp_path / "nowhere")).returncode == 1
    assert "not a site" in wait(start("list", images)).stderr
    write_image(images / "app/v1")
    export(images, site)
    with (site / ".scr-export/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert wait(start("list", site)).returncode == 3


def test_a_directory_that_is_called_like_the_command_is_written_with_a_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(Path("list/app/v1"))
    assert wait(start("./list", "site")).returncode == 0
    assert wait(start("list", "site", "-q")).stdout == "app:v1\n"


def test_a_closed_pipe_ends_the_list_quietly(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    process = start("list", site)
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    assert wait(process).stderr == ""


HUB = ("docker.io/library/alpine/3.20", "docker.io/team/app/v1", "quay.io/x/y/latest", "localhost_5000/z/v1")


@pytest.fixture
def scoped(images: Path, site: Path) -> Path:
    """A site whose names begin with the registry."""
    for number, path in enumerate(HUB):
        write_image(images / path, seed=number, layers=1)
    export(images, site)
    return site


def test_references_that_are_missing_are_printed_as_they_were_written(scoped: Path) -> None:
    there = "alpine:3.20 docker.io/alpine:3.20 index.docker.io/library/alpine:3.20 team/app:v1 quay.io/x/y"
    there += " quay.io/x/y:latest localhost:5000/z:v1 mirror:8080/docker.io/team/app:v1 docker.io/team/app:v1"
    absent = ["alpine", "alpine:3.21", "quay.io/x/y:v1", "quay.io/x/z", "gcr.io/x/y", "x/y", "localhost:5001/z:v1"]
    assert missing(scoped, "\n".join([*there.split(), *absent, *absent])) == absent
    assert missing(scoped, "\n".join(there.split())) == []


def test_lines_are_read_as_helm_grep_and_oc_mirror_write_them(scoped: Path) -> None:
    text = """\
# deploy
          image: "alpine:3.20"
        - image: alpine:9   # new
deploy/web.yaml:12:          image: 'quay.io/x/gone:1'
          imagePullPolicy: Always

kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v1alpha2
mirror:
  additionalImages:
  - name: registry.redhat.io/ubi8/ubi:latest
  - name: quay.io/x/y
quay.io/x/w:1=mirror:5000/x/w:1
"""
    gone = ["alpine:9", "quay.io/x/gone:1", "registry.redhat.io/ubi8/ubi:latest", "quay.io/x/w:1"]
    assert missing(scoped, text) == gone
    assert missing(scoped, "\ufeff" + text.replace("\n", "\r\n")) == gone


def test_a_digest_must_be_that_of_a_manifest_in_the_repository(images: Path, site: Path) -> None:
    index = write_index(images / "quay.io/x/y/v1")
    write_image(images / "quay.io/x/other/v1", seed=2)
    by_digest = untagged(images, "quay.io/x/y", seed=3)
    export(images, site)
    there = [f"quay.io/x/y@{digest}" for digest in (*index.manifests, by_digest.digest)]
    there += [f"quay.io/x/y:nosuch@{index.digest}"]  # clients ignore the tag then
    absent = [f"quay.io/x/other@{index.digest}", f"quay.io/x/y@sha256:{'0' * 64}", f"quay.io/x/y:v1@sha256:{'1' * 64}"]
    config = next(iter(index.blobs))
    absent.append(f"quay.io/x/y@{config}")
    assert missing(site, "\n".join([*there, *absent])) == absent


def test_content_in_its_grace_period_is_missing(images: Path, site: Path) -> None:
    old = write_image(images / "app/v1")
    write_image(images / "app/v2", seed=2)
    export(images, site)
    shutil.rmtree(images / "app/v1")
    export(images, site)
    assert (site / "v2/app/manifests" / old.manifest_name).exists()
    assert missing(site, f"app:v1\napp@{old.digest}\napp:v2") == ["app:v1", f"app@{old.digest}"]


def test_a_prefix_and_an_upstream_can_be_given(images: Path, site: Path) -> None:
    write_image(images / "docker.io/library/alpine/3.20", layers=1)
    write_image(images / "x/y/v1", seed=2, layers=1)
    export(images, site, "--name-prefix", "prod/1.0")
    text = "alpine:3.20\nquay.io/x/y:v1\ngcr.io/x/y:v1\n"
    assert missing(site, text, "--name-prefix", "prod/1.0") == []
    assert missing(site, text, "--name-prefix", "prod/1.0", "--upstream", "quay.io") == ["gcr.io/x/y:v1"]
    process = list_missing(site, text, status=1)
    assert process.stdout == text
    assert process.stderr.startswith(f"warning: {site}/v2/prod/1.0: ")
    assert process.stderr.endswith("give --name-prefix prod/1.0\n")
    assert process.stderr.count("\n") == 1


def test_every_name_of_a_site_is_there(images: Path, site: Path) -> None:
    paths = ("docker.io/library/alpine/3", "library/alpine/4", "alpine/5", "r.example_5000/a/b/v1", "localhost_80/c/v1")
    for number, path in enumerate(paths):
        write_image(images / path, seed=number, layers=1)
    untagged(images, "team/app", seed=9)
    export(images, site)
    assert missing(site, run_list("-q", site).stdout) == []


def test_a_line_that_is_no_reference_is_told_with_file_and_line(scoped: Path, tmp_path: Path) -> None:
    file = tmp_path / "refs.txt"
    file.write_bytes(b'alpine:3.20\n\nimage: "{{ .Values.image }}"\nquay.io/\x1b[31m\xff\nnginx\n')
    process = wait(start("list", "--missing", file, scoped))
    assert (process.returncode, process.stdout) == (1, "nginx\n")
    first, second = process.stderr.splitlines()
    assert first.startswith(f"error: {file}:3: '{{{{ .Values.image }}}}' is not a reference: ")
    assert second.startswith(f"error: {file}:4: ")
    assert process.stderr.replace("\n", "").isprintable()
    document = json.loads(wait(start("list", "--json", "--missing", file, scoped)).stdout)
    assert document["missing"] == ["nginx"]
    assert document["found"] == {"alpine:3.20": "docker.io/library/alpine:3.20"}
    assert [(each["in"], each["path"], each["code"]) for each in document["faults"]] == [
        ("FILE", f"{file}:{line}", "reference") for line in (3, 4)
    ]
    file.write_text("alpine:3.20\ntwo words\n")
    process = wait(start("list", "-q", "--missing", file, scoped))
    assert (process.returncode, process.stdout) == (1, "")  # it may be an image that is missing


def test_verbose_says_what_each_reference_was_taken_for(scoped: Path) -> None:
    process = list_missing(scoped, "alpine:3.20\nnginx\n", "-v", status=1)
    assert process.stdout == "nginx\n"
    assert process.stderr == "found: alpine:3.20 is docker.io/library/alpine:3.20\n"


def test_a_file_without_references_is_warned_of(scoped: Path) -> None:
    process = list_missing(scoped, "# nothing\n\n", status=0)
    assert process.stdout == ""
    assert process.stderr.startswith("warning: -: names no image; ")
    assert list_missing(scoped, "", "-q", status=0).stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--missing", "NOWHERE", "SITE"],
        ["--missing", "", "SITE"],
        ["--missing", "SITE", "SITE"],
        ["--missing", "-", "SITE", "GLOB"],
        ["--name-prefix", "prod", "SITE"],
        ["--upstream", "docker.io", "SITE"],
        ["--missing", "-", "--name-prefix", "Upper", "SITE"],
        ["--missing", "-", "--upstream", "https://docker.io", "SITE"],
        [],
        ["SITE", "GLOB", "MORE"],
    ],
)
def test_wrong_usage_ends_with_status_2(scoped: Path, arguments: list[str]) -> None:
    words = {"SITE": str(scoped), "NOWHERE": str(scoped / "nowhere")}
    process = wait(start("list", *(words.get(each, each) for each in arguments)))
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr


def test_a_list_works_with_closed_streams(scoped: Path) -> None:
    for redirect in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        command = f"exec {sys.executable} -m scr_export list --missing - {scoped} {redirect}"
        done = subprocess.run(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=False,
        )
        assert done.returncode == 0
        assert "internal" not in done.stderr
        assert os.path.isdir(scoped)
