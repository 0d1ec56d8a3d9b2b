"""The images that the other tests start from are what they claim to be."""

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support import builders


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def manifest(built: builders.Built) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(built.raw)
    return document


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("docker", [False, True])
def test_every_digest_and_size_is_that_of_the_file(tmp_path: Path, docker: bool, algorithm: builders.Algorithm) -> None:
    """Each descriptor, and each key of `Built`, says the digest and size of the bytes on disk."""
    built = builders.write_image(tmp_path, docker=docker, algorithm=algorithm)
    image = manifest(built)
    assert image["mediaType"] == built.media_type
    assert built.digest == f"sha256:{hashlib.sha256((tmp_path / 'manifest.json').read_bytes()).hexdigest()}"
    assert {each["digest"] for each in [image["config"], *image["layers"]]} == built.blobs.keys()
    for each in [image["config"], *image["layers"]]:
        data = (tmp_path / each["digest"].split(":")[1]).read_bytes()
        assert each["digest"] == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        assert (each["size"], data) == (len(data), built.blobs[each["digest"]])


def test_a_seed_gives_the_same_bytes_everywhere_and_another_seed_others(tmp_path: Path) -> None:
    """The first digest is written out: it may change only together with the builder."""
    first = builders.write_index(tmp_path / "a", seed=1, platforms=["amd64", "arm64"])
    again = builders.write_index(tmp_path / "b", seed=1, platforms=["amd64", "arm64"])
    other = builders.write_index(tmp_path / "c", seed=2, platforms=["amd64", "arm64"])
    assert first.digest == "sha256:251e1060f4ddcd3fb0b17e739a17c35ad7d733581b1b7aef1c50a09236103367"
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first == again
    assert not first.blobs.keys() & other.blobs.keys()


@pytest.mark.parametrize("size", [0, 2048, 300_000])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_layers_unpack_to_their_diff_ids(tmp_path: Path, compression: builders.Compression, size: int) -> None:
    """A layer is a tar archive, compressed as said, whose digest is the config's `rootfs.diff_ids`."""
    built = builders.write_image(tmp_path, layers=1, layer_size=size, compression=compression)
    blob = built.blobs[manifest(built)["layers"][0]["digest"]]
    tar = gzip.decompress(blob) if compression == "gzip" else blob
    config = json.loads(built.blobs[manifest(built)["config"]["digest"]])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(tar).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert [member.size for member in archive] == [size]


def test_zstd_layers_are_one_frame_of_raw_blocks(tmp_path: Path) -> None:
    """RFC 8878: magic, one segment with its size in four bytes, blocks until the one marked last."""
    built = builders.write_image(tmp_path, layers=1, layer_size=300_000, compression="zstd")
    plain = builders.write_image(tmp_path, layers=1, layer_size=300_000, compression="none")
    frame = built.blobs[manifest(built)["layers"][0]["digest"]]
    tar = plain.blobs[manifest(plain)["layers"][0]["digest"]]
    assert frame[:9] == b"\x28\xb5\x2f\xfd\xa0" + len(tar).to_bytes(4, "little")
    data, rest, last = b"", frame[9:], 0
    while not last:
        last, size = rest[0] & 1, int.from_bytes(rest[:3], "little") >> 3
        data, rest = data + rest[3 : 3 + size], rest[3 + size :]
    assert (data, rest) == (tar, b"")


def test_an_index_has_its_children_beside_it_except_the_sparse(tmp_path: Path) -> None:
    """`<hex>.manifest.json` for each platform that is there; the index names the others too."""
    built = builders.write_index(tmp_path, platforms=["amd64", "arm/v7"], sparse=["arm/v7"], layers=1)
    present, absent = manifest(built)["manifests"]
    assert absent["platform"] == {"architecture": "arm", "os": "linux", "variant": "v7"}
    assert built.manifests.keys() == {built.digest, present["digest"]}
    names = {f"{present['digest'][7:]}.manifest.json", "manifest.json", "version"}
    assert contents(tmp_path).keys() == names | {digest[7:] for digest in built.blobs}


def test_prefixed_file_names_have_the_version_of_newer_skopeo(tmp_path: Path) -> None:
    """Only an image with other digests than sha256 is named and versioned differently."""
    builders.write_image(tmp_path / "old", prefixed=True)
    built = builders.write_image(tmp_path / "new", prefixed=True, algorithm="sha512")
    assert (tmp_path / "old/version").read_text() == "Directory Transport Version: 1.1\n"
    assert (tmp_path / "new/version").read_text() == "Directory Transport Version: 1.2\n"
    names = {digest.replace(":", "-") for digest in built.blobs}
    assert contents(tmp_path / "new").keys() == names | {"manifest.json", "version"}


def test_writing_again_leaves_nothing_old_and_no_inode_behind(tmp_path: Path) -> None:
    """A hard link to the first image keeps the first image's bytes."""
    image, kept = tmp_path / "image", tmp_path / "kept"
    first = builders.write_image(image, seed=1)
    kept.hardlink_to(image / "manifest.json")
    second = builders.write_image(image, seed=2)
    assert kept.read_bytes() == first.raw
    assert not contents(image).keys() & {digest[7:] for digest in first.blobs}
    assert (image / "manifest.json").read_bytes() == second.raw


def test_optional_fields_are_written(tmp_path: Path) -> None:
    """A field is in the manifest if it was requested, and only then."""
    plain = builders.write_image(tmp_path / "plain", media_type_field=False)
    assert manifest(plain).keys() == {"schemaVersion", "config", "layers"}
    rich = builders.write_image(
        tmp_path / "rich", seed=1, share_layers_of=0, foreign_layer=True,
        subject=plain, artifact_type="application/x", annotations={"a": "b"},
    )  # fmt: skip
    *shared, foreign = manifest(rich)["layers"]
    assert shared == manifest(plain)["layers"]
    assert foreign["urls"]
    assert foreign["digest"] not in rich.blobs
    assert manifest(rich)["subject"] == plain.descriptor
    assert (manifest(rich)["artifactType"], manifest(rich)["annotations"]) == ("application/x", {"a": "b"})


def test_a_referrers_tag_carries_type_and_annotations_of_each(tmp_path: Path) -> None:
    """Both ways to say an artifact's type end up in the index (distribution-spec, "Referrers Tag Schema")."""
    image = builders.write_image(tmp_path / "image")
    old = builders.write_artifact(tmp_path / "old", subject=image)
    new = builders.write_artifact(
        tmp_path / "new", artifact_type="text/x", empty_config=True, subject=image, annotations={"a": "b"}
    )
    index = manifest(builders.write_referrers_tag(tmp_path / "tag", referrers=[old, new]))
    assert index["manifests"] == [
        old.descriptor | {"artifactType": builders.HELM_CONFIG},
        new.descriptor | {"artifactType": "text/x", "annotations": {"a": "b"}},
    ]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no program for this machine")
def test_the_hello_program_runs(tmp_path: Path) -> None:
    """Bare, without libc or loader, it writes its message and exits 0."""
    program = tmp_path / "hello"
    program.write_bytes(builders.hello_elf("Grüße\n"))
    program.chmod(0o755)
    done = subprocess.run([program], capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "Grüße\n", b"")


def test_tree_lists_files_links_and_directories(tmp_path: Path) -> None:
    """Sorted by path, relative, a link by its target and never followed."""
    (tmp_path / "b/deep").mkdir(parents=True)
    (tmp_path / "b/deep/.hidden").touch()
    (tmp_path / "a").symlink_to("b/deep")
    assert builders.tree(tmp_path) == "a -> b/deep\nb/\nb/deep/\nb/deep/.hidden\n"


def test_the_demo_is_one_image_and_one_index(tmp_path: Path) -> None:
    """`demo DIR` writes both shapes; anything else is wrong usage."""
    assert builders.main(["demo", str(tmp_path)]) == 0
    types = [json.loads(path.read_bytes())["mediaType"] for path in sorted(tmp_path.rglob("manifest.json"))]
    assert types == [
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    ]
    assert builders.main(["demo"]) == 2
