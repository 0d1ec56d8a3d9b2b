"""Inputs below IMAGES that skopeo did not write: made by the real tools, reported, and repaired.

Each row is one such directory. The export says what it is; its command is run in a shell, and then an export has
nothing to say any more.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import clients
from tests.support.builders import Built, write_artifact, write_image, write_index
from tests.support.runner import Report, assert_whole, start, wait
from tests.support.servers import run_docker_registry

Json = dict[str, Any]

POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'
PROGRAMS = ("skopeo", "podman", "buildah", "umoci", "docker-registry")
COMMAND = re.compile(r"(?:^|: )((?:cd|chmod|cp|mkdir|mv|rm|scr-export|sed|skopeo) .*?)(?=, or name|$)")


@dataclass(frozen=True, slots=True)
class Workshop:
    """IMAGES, SITE, a registry, and the tools with a home of their own."""

    place: Path
    registry: str
    storage: Path
    path: str

    @property
    def images(self) -> Path:
        """IMAGES."""
        return self.place / "images"

    @property
    def site(self) -> Path:
        """SITE."""
        return self.place / "site"

    def shell(self, script: str) -> str:
        """What a script writes to stdout; it must succeed."""
        environment = {
            "PATH": self.path,
            "HOME": str(self.place),
            "CONTAINERS_STORAGE_CONF": str(self.place / "storage.conf"),
            "REGISTRY": self.registry,
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.place,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def export(self, images: Path | None = None, site: Path | None = None) -> tuple[int, Report, str]:
        """Its exit status, its JSON and its messages, for a user whom modes bind."""
        ended = wait(start("--json", images or self.images, site or self.site, obedient=True))
        return ended.returncode, json.loads(ended.stdout or "{}"), ended.stderr

    def tags(self) -> set[str]:
        """What the site serves, as `name:tag`."""
        links = [path for path in self.site.glob("v2/**/manifests/*") if path.is_symlink()]
        return {f"{path.parents[1].relative_to(self.site / 'v2')}:{path.name}" for path in links}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a registry with `app:v1`, `list:v1` and `team/app:v1`, and the directory that it keeps them in."""
    clients.require(*PROGRAMS)
    place = tmp_path_factory.mktemp("registry")
    write_source(place / "image")
    write_index(place / "list")
    with run_docker_registry(place, place / "storage") as server:
        push = ["skopeo", "--insecure-policy", "copy", "--all", "--dest-tls-verify=false", "--retry-times=5"]
        for name, image in {"app:v1": "image", "team/app:v1": "image", "list:v1": "list"}.items():
            clients.run([*push, f"dir:{place}/{image}", f"docker://{server.address}/{name}"], dict(os.environ))
        yield server.address, place / "storage"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with the clients that are built for the tests, and the exporter."""
    directory = tmp_path_factory.mktemp("bin")
    for program in (clients.CRANE, clients.ORAS, clients.REGCTL):
        name = program.rpartition("/")[2].partition("@")[0]
        (directory / name).symlink_to(clients.go_program(program))
    return os.pathsep.join([str(directory), str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"])


@pytest.fixture
def workshop(storage: tuple[str, Path], tools: str, tmp_path: Path) -> Workshop:
    """A place with one good image, `good:v1`, and one to copy from, `source`."""
    workshop = Workshop(tmp_path, *storage, tools)
    write_image(workshop.images / "good/v1", seed=7)
    write_source(tmp_path / "source")
    (tmp_path / ".config/containers").mkdir(parents=True)
    (tmp_path / ".config/containers/policy.json").write_text(POLICY)
    (tmp_path / ".config/containers/registries.conf").write_text(
        f'[[registry]]\nlocation = "{workshop.registry}"\ninsecure = true\n'
    )
    store = f'graphroot = "{tmp_path}/store"\nrunroot = "{tmp_path}/run"\n'
    (tmp_path / "storage.conf").write_text(f'[storage]\ndriver = "vfs"\n{store}')
    return workshop


@dataclass(frozen=True, slots=True)
class Row:
    """`make` is a script or a function; `says` is in the message; `tags` is what is served afterwards."""

    name: str
    make: str | Callable[[Workshop], object]
    says: str
    tags: str = "good:v1 app:v1"
    path: str = "app"
    is_warning: bool = False

    def __str__(self) -> str:
        return self.name


def write_source(directory: Path) -> None:
    """An image of docker's that has a history, without which it could not be of schema 1."""
    write_image(directory, docker=True)
    config = json.loads((directory / "manifest.json").read_bytes())["config"]
    document = json.loads((directory / config["digest"][7:]).read_bytes())
    raw = json.dumps(document | {"history": [{"created": "1970-01-01T00:00:00Z"}] * 2}).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (directory / digest).write_bytes(raw)
    changed(directory, lambda manifest: manifest["config"].update(digest=f"sha256:{digest}", size=len(raw)))


def changed(directory: Path, change: Callable[[Json], object]) -> None:
    """Change an image's manifest."""
    path = directory / "manifest.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.unlink()
    path.write_text(json.dumps(document))


def with_change(change: Callable[[Json], object], write: Callable[..., Built] = write_image, **options: Any) -> Any:
    """Write `app:v1` with a changed manifest."""

    def make(workshop: Workshop) -> None:
        write(workshop.images / "app/v1", **options)
        changed(workshop.images / "app/v1", change)

    return make


def layer(directory: Path) -> Path:
    """The file of the first layer."""
    document = json.loads((directory / "manifest.json").read_bytes())
    return directory / str(document["layers"][0]["digest"])[7:]


def with_file(change: Callable[[Path], object]) -> Callable[[Workshop], None]:
    """Copy `app:v1` from the registry and do something to the file of its first layer."""

    def make(workshop: Workshop) -> None:
        workshop.shell(f"mkdir images/app && skopeo copy -q docker://{workshop.registry}/app:v1 dir:images/app/v1")
        change(layer(workshop.images / "app/v1"))

    return make


def cut(path: Path) -> None:
    os.truncate(path, 5)


def damage(path: Path) -> None:
    path.write_bytes(b"?" + path.read_bytes()[1:])


def link(path: Path) -> None:
    path.rename(path.parents[3] / "elsewhere")
    path.symlink_to(path.parents[3] / "elsewhere")


def write_mirror_tree(workshop: Workshop) -> None:
    """What `oc image mirror … file://app` writes, which cannot be installed here."""
    built = write_index(workshop.place / "list")
    repository = workshop.images / "mirror/v2/app"
    (repository / "manifests").mkdir(parents=True)
    (repository / "blobs").mkdir()
    for digest, data in built.blobs.items():
        (repository / "blobs" / digest).write_bytes(data)
    for digest, (_, raw) in built.manifests.items():
        (repository / "blobs" / digest).write_bytes(raw)
        (repository / "manifests" / digest).hardlink_to(repository / "blobs" / digest)
    (repository / "manifests/v1").symlink_to(built.digest)


def write_urls(compression: Any) -> Callable[[Workshop], None]:
    """An image with a layer that has URLs, and that skopeo copied nevertheless."""

    def make(workshop: Workshop) -> None:
        write_image(workshop.images / "app/v1", docker=True, compression=compression)
        changed(workshop.images / "app/v1", lambda d: d["layers"][0].update(urls=["http://127.0.0.1:9/"]))

    return make


def write_schema_1_child(workshop: Workshop) -> None:
    """A list of which one platform is of schema 1."""
    workshop.shell("mkdir images/app; skopeo copy -q --format v2s1 dir:source dir:old; cp -r old/. images/app/v1")
    built = write_image(workshop.place / "new", docker=True, seed=2)
    raw = (workshop.images / "app/v1/manifest.json").read_bytes()
    payload = workshop.shell("skopeo manifest-digest images/app/v1/manifest.json").strip()
    (workshop.images / "app/v1/manifest.json").rename(workshop.images / f"app/v1/{payload[7:]}.manifest.json")
    for digest, data in built.blobs.items():
        (workshop.images / "app/v1" / digest[7:]).write_bytes(data)
    (workshop.images / f"app/v1/{built.digest[7:]}.manifest.json").write_bytes(built.raw)
    old_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    old = {"mediaType": old_type, "digest": payload, "size": len(raw)}
    entries = [
        old | {"platform": {"os": "linux", "architecture": "386"}},
        built.descriptor | {"platform": {"os": "linux", "architecture": "amd64"}},
    ]
    kind = "application/vnd.docker.distribution.manifest.list.v2+json"
    index = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
    (workshop.images / "app/v1/manifest.json").write_text(json.dumps(index))


def write_long_list(workshop: Workshop) -> None:
    """Artifacts whose annotations make a list of referrers too long."""
    subject = write_image(workshop.images / "app/v1")
    for number in range(3):
        notes = {"a": "x" * 1_500_000}
        write_artifact(workshop.images / f"app/big{number}", seed=number, subject=subject, annotations=notes)


def write_half(workshop: Workshop) -> None:
    """What an interrupted copy of a new skopeo leaves: no `version`, and a blob that is not whole."""
    workshop.shell("mkdir images/app; cp -r source images/app/v1; rm images/app/v1/{manifest.json,version}")
    (workshop.images / "app/v1/dir-put-blob123").write_bytes(b"half")


def nest(workshop: Workshop) -> None:
    """An image copied without a tag, and then with one."""
    workshop.shell("for to in app app/v1; do skopeo copy -q dir:source dir:images/$to; done")


def write_damaged_child(workshop: Workshop) -> None:
    """An index with a child that is not what its name says."""
    workshop.shell(f"mkdir images/list; skopeo copy -q --all docker://{workshop.registry}/list:v1 dir:images/list/v1")
    child = next((workshop.images / "list/v1").glob("*.manifest.json"))
    child.write_bytes(b" " + child.read_bytes())


def lock(path: str) -> Callable[[Workshop], None]:
    """Take away everybody's rights to something."""

    def make(workshop: Workshop) -> None:
        write_image(workshop.images / "app/v1")
        (workshop.images / path).chmod(0)

    return make


LIST = "docker://$REGISTRY/list:v1 dir:images/list/v1"
PULL = "--insecure $REGISTRY/app:v1"
REGCTL_HOST = "regctl --host reg=$REGISTRY,tls=disabled image"
LAYOUTS = [
    ("skopeo copy oci:", "skopeo copy -q dir:source oci:images/app:v1", "app:v1"),
    (
        "skopeo copy oci:, two",
        "for tag in v1 v2; do skopeo copy -q dir:source oci:images/app:$tag; done",
        "app:v1 app:v2",
    ),
    ("skopeo copy oci:, no tag", "mkdir images/app; skopeo copy -q dir:source oci:images/app/v1", "app:v1"),
    ("skopeo copy oci:, a whole name", "skopeo copy -q dir:source oci:images/x:team/app:v1", "team/app:v1"),
    ("crane pull --format=oci", f"crane pull --format=oci {PULL} images/app", "app:latest"),
    (
        "oras copy --to-oci-layout",
        "oras copy --from-plain-http $REGISTRY/list:v1 --to-oci-layout images/app:v1",
        "app:v1",
    ),
    ("oras backup", "oras backup --plain-http $REGISTRY/app:v1 --output images/app", "app:v1"),
    ("regctl image copy", f"{REGCTL_HOST} copy $REGISTRY/list:v1 ocidir://images/app:v1", "app:v1"),
    ("umoci new", "umoci init --layout images/app; umoci new --image images/app:v1", "app:v1"),
    (
        "buildah push oci:",
        "buildah pull -q dir:source; buildah push -q $(buildah images -q) oci:images/app:v1",
        "app:v1",
    ),
    (
        "podman save --format oci-dir",
        "podman pull -q dir:source; podman save -q --format oci-dir -o images/app $(podman images -q)",
        "app:latest",
    ),
]
ARCHIVES = [
    ("skopeo copy docker-archive:", "skopeo copy -q dir:source docker-archive:images/x.tar:app:v1", "app:v1"),
    (
        "the same, compressed",
        "skopeo copy -q dir:source docker-archive:x:app:v1; gzip <x >images/app.tgz",
        "app:latest",
    ),
    ("podman save", "podman pull -q dir:source; podman save -q -o images/app.tar $(podman images -q)", "app:latest"),
    ("crane pull", f"crane pull {PULL} images/x.tar", "$REGISTRY/app:v1"),
    ("crane pull --format=legacy", f"crane pull --format=legacy {PULL} images/x.tar", "$REGISTRY/app:v1"),
    ("skopeo copy oci-archive:", "skopeo copy -q dir:source oci-archive:images/app.tar:v1", "app:v1"),
    ("skopeo copy oci-archive:, no name", "skopeo copy -q dir:source oci-archive:images/app.oci.tar", "app:latest"),
    (
        "podman save --format oci-archive",
        "podman pull -q dir:source; podman save -q --format oci-archive -o images/app.tar $(podman images -q)",
        "app:latest",
    ),
    ("regctl image export", f"{REGCTL_HOST} export $REGISTRY/app:v1 images/app.tar", "$REGISTRY/app:v1"),
]
UNPACK = "mkdir images/app; tar -C images/app -xf x.tar"
UNPACKED = [
    ("skopeo copy docker-archive:", "skopeo copy -q dir:source docker-archive:x.tar:app:v1", "app:v1"),
    ("podman save", "podman pull -q dir:source; podman save -q -o x.tar $(podman images -q)", "app:latest"),
    ("crane pull", f"crane pull {PULL} x.tar", "$REGISTRY/app:v1"),
]
GOOD = "good:v1"


def rows() -> Iterator[Row]:
    """Every row."""
    for name, make, tags in LAYOUTS:
        yield Row(name, make, "is an OCI layout", f"{GOOD} {tags}")
    for name, make, tags in ARCHIVES:
        yield Row(name, make, "is an archive of", f"{GOOD} {tags}", is_warning=True)
    for name, make, tags in UNPACKED:
        yield Row(f"{name}, unpacked", f"{make}; {UNPACK}", "is an unpacked `docker save`", f"{GOOD} {tags}")
    yield Row(
        "an archive of image directories",
        "mkdir app; cp -r source app/v1; tar -cf images/all.tar app",
        "is an archive of image directories",
        is_warning=True,
    )
    yield Row("another archive", "tar -cf images/docs.tar storage.conf", "without an image", GOOD, is_warning=True)
    yield from tree_rows()
    yield from manifest_rows()
    yield from file_rows()
    yield from name_rows()


def tree_rows() -> Iterator[Row]:
    """Trees of registries."""
    all_of_it = f"{GOOD} app:v1 list:v1 team/app:v1"
    storage = "is the storage of a registry"
    yield Row("a registry's storage", lambda w: shutil.copytree(w.storage, w.images / "var"), storage, all_of_it)
    deep = "docker/registry/v2"
    yield Row("its innermost part", lambda w: shutil.copytree(w.storage / deep, w.images / "x"), storage, all_of_it)
    yield Row("oc image mirror", write_mirror_tree, "is a tree of `oc image mirror`")
    yield Row("a site", "scr-export images other; mv other images/site", "is a site of scr-export", GOOD)


def manifest_rows() -> Iterator[Row]:
    """Images that clients cannot pull, or not all of them."""
    convert = "mkdir images/app; skopeo copy -q --format v2s1 dir:source dir:images/app/v1"
    yield Row("schema 1", convert, "is of docker's schema 1")
    yield Row("a child of schema 1", write_schema_1_child, "it is left out", is_warning=True)
    sync = "skopeo sync --src docker --dest dir $REGISTRY/list@$(skopeo inspect --raw docker://$REGISTRY/list:v1 |"
    sync += " sha256sum | sed 's/ .*//;s/^/sha256:/') images"
    yield Row("skopeo sync without --all", sync, "without --all", GOOD)
    index_only = (
        "mkdir images/list; skopeo copy -q --multi-arch index-only docker://$REGISTRY/list:v1 dir:images/list/v1"
    )
    yield Row("an index alone", index_only, "nothing of it can be pulled", f"{GOOD} list:v1")
    some = f"{index_only.replace('index-only', 'all')}; rm $(ls images/list/v1/*.manifest.json | head -1)"
    yield Row("an index of which one is missing", some, "1 of the 2 manifests", f"{GOOD} list:v1", is_warning=True)
    for compression in ("gzip", "none"):
        yield Row(f"URLs, {compression}", write_urls(compression), "has URLs", is_warning=True)
    yield Row("a field of schema 1", with_change(lambda d: d.update(fsLayers=[])), "has 'fsLayers'", GOOD)
    yield Row(
        "a docker manifest without mediaType",
        with_change(lambda d: d.pop("mediaType"), docker=True),
        "without mediaType",
    )
    for name, change in (
        ("no type", lambda d: d["manifests"][0].pop("mediaType")),
        ("another type", lambda d: d["manifests"][0].update(mediaType=OCI_INDEX)),
    ):
        yield Row(f"a child of {name}", with_change(change, write_index), "the index says")
    yield Row(
        "a long list of referrers", write_long_list, "the list of what refers to app@sha256:", TAGS, is_warning=True
    )


OCI_INDEX = "application/vnd.oci.image.index.v1+json"
TAGS = f"{GOOD} app:v1 app:big0 app:big1"


def file_rows() -> Iterator[Row]:
    """Images whose files are not what they should be."""
    yield Row("a damaged layer", with_file(damage), "is damaged: its bytes have the digest sha256:")
    yield Row("a layer cut off", with_file(cut), "has 5 bytes")
    yield Row("a missing layer", with_file(Path.unlink), "is missing")
    yield Row("a link in an image", with_file(link), "is not a regular file")
    yield Row(
        "a damaged child", write_damaged_child, "is damaged: its bytes have the digest sha256:", f"{GOOD} list:v1"
    )
    yield Row("half a manifest", with_file(lambda path: cut(path.with_name("manifest.json"))), "is not JSON")
    yield Row("half an image", write_half, "an image whose copy was not finished")
    half = "cp source/version images/good; cp source/[0-9a-f]* images/good"
    yield Row("half an image beside others", half, "an image whose copy was not finished", GOOD)
    yield Row("half an image at the top", "cp source/version images", "that was not copied whole", GOOD)
    for path in ("app/v1/manifest.json", "app/v1", "app"):
        yield Row(f"{path} is closed", lock(path), "Permission denied")


def name_rows() -> Iterator[Row]:
    """Names and places."""
    copy = "skopeo copy -q dir:source dir:images"
    yield Row("no tag", f"{copy}/app", "names no tag", f"{GOOD} app:latest")
    yield Row("a name in capitals", f"mkdir images/App; {copy}/App/v1", "is not a repository name")
    yield Row(
        "a name with spaces", f"mkdir 'images/my app'; {copy}/my' 'app/v1", "not a repository name", f"{GOOD} my-app:v1"
    )
    yield Row("a tag with a sign", f"mkdir images/app; {copy}/app/v1+2", "is not a tag", f"{GOOD} app:v1-2")
    yield Row("a hidden directory", f"mkdir -p images/.git/x; {copy}/.git/x/v1", "not a repository name", GOOD)
    link = "mkdir shelf; skopeo copy -q dir:source dir:shelf/v1; ln -s ../shelf images/app"
    yield Row("a link to a directory", link, "is a symbolic link to a directory")
    alias = "ln -s v1 images/good/latest"
    yield Row("a link to an image", alias, "is a symbolic link to a directory", f"{GOOD} good:latest")
    yield Row("a link to nothing", "ln -s /mnt/not/mounted images/app", "is a disk not mounted?", GOOD)
    yield Row("an image in an image", nest, "inside it is another", f"{GOOD} app:v1 app:latest")
    yield Row("a manifest.json beside images", "cp source/manifest.json images", "lies beside image directories", GOOD)
    deep = "mkdir -p images/$(printf 'a/%.0s' $(seq 140))"
    yield Row("a path that is too deep", deep, "lies too deep", GOOD)


@pytest.mark.parametrize("row", list(rows()), ids=str)
def test_a_fault_is_reported_and_its_command_repairs_it(workshop: Workshop, row: Row) -> None:
    if callable(row.make):
        row.make(workshop)
    else:
        workshop.shell(row.make)
    status, report, messages = workshop.export()
    assert status == (0 if row.is_warning else 1)
    [problem] = report["warnings" if row.is_warning else "faults"]
    assert row.says in problem["what"]
    assert f"{problem['what']}; {problem['remedy']}" in messages
    mend(workshop, problem["remedy"])
    status, report, messages = workshop.export()
    assert (status, report["faults"], report["warnings"]) == (0, [], []), messages
    assert_whole(workshop.site)
    served = row.tags.replace("$REGISTRY", workshop.registry.replace(":", "_"))
    assert workshop.tags() == set(served.split())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `docker save` writes of `app:v1`."""
    place = tmp_path_factory.mktemp("saved")
    write_source(place / "image")
    clients.require("docker", "dockerd", "containerd", "skopeo")
    clients.configure(place / "etc", {})
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", f"dir:{place}/image", f"docker-archive:{place}/in:app:v1"]
    clients.run(copy, dict(os.environ))
    with (
        clients.machine(place / "etc") as machine,
        machine.daemon("containerd", ready=("ctr", "version")),
        machine.daemon("dockerd", ready=("docker", "version")),
    ):
        machine.run("docker", "load", "--input", f"{place}/in")
        machine.run("docker", "save", "--output", f"{place}/saved.tar", "app:v1")
    return place / "saved.tar"


@pytest.mark.parametrize("form", ["archive", "compressed", "unpacked"])
def test_an_archive_of_docker_save_is_reported_and_can_be_copied(workshop: Workshop, saved: Path, form: str) -> None:
    script = {
        "archive": f"cp {saved} images/x.tar",
        "compressed": f"gzip <{saved} >images/app.tar.gz",
        "unpacked": f"mkdir images/app; tar -C images/app -xf {saved}",
    }
    says = "is an unpacked `docker save`" if form == "unpacked" else "is an archive of `docker save`"
    tag = "app:latest" if form == "compressed" else "app:v1"
    row = Row(form, script[form], says, f"good:v1 {tag}", is_warning=form != "unpacked")
    test_a_fault_is_reported_and_its_command_repairs_it(workshop, row)


NOTHING = {
    "podman save --format docker-dir": (
        "podman pull -q dir:source; mkdir images/app;"
        " podman save -q --format docker-dir -o images/app/v1 $(podman images -q)"
    ),
    "files of a delivery": "echo 2026.11 >images/version; mkdir images/docs; echo 1.0 >images/docs/version",
    "a checksum's file": f"echo x >images/{'0' * 64}; gzip <storage.conf >images/notes.gz; echo x >images/notes.tar",
    "links to files": "cd images; ln -s ../storage.conf README; ln -s me@host.123:4 .#README",
    "what systems leave": (
        "for to in .snapshot/hourly.0 .snapshots/1/snapshot .zfs/snapshot/x .Trash-1000/files @eaDir '#recycle'"
        " '$RECYCLE.BIN' 'System Volume Information' lost+found good/.snapshot; do"
        ' mkdir -p "images/$to/app"; cp -r source "images/$to/app/v1"; done'
    ),
}


@pytest.mark.parametrize("make", NOTHING.values(), ids=NOTHING.keys())
def test_files_that_are_no_image_and_hide_none_are_ignored(workshop: Workshop, make: str) -> None:
    workshop.shell(make)
    status, report, messages = workshop.export()
    assert (status, report["faults"], report["warnings"]) == (0, [], []), messages
    assert workshop.tags() == {"good:v1"} | ({"app:v1"} if "docker-dir" in make else set())


def test_an_index_may_have_its_manifests_elsewhere_in_the_repository(workshop: Workshop) -> None:
    """`skopeo copy --multi-arch index-only`, and its platforms as images of their own."""
    workshop.shell(
        "mkdir images/list; skopeo copy -q --multi-arch index-only docker://$REGISTRY/list:v1 dir:images/list/v1"
    )
    index = json.loads((workshop.images / "list/v1/manifest.json").read_bytes())
    for number, child in enumerate(index["manifests"]):
        status, _, messages = workshop.export()
        assert (status, "can be pulled" in messages) == ((0, False) if number else (1, True)), messages
        origin = f"docker://{workshop.registry}/list@{child['digest']}"
        workshop.shell(f"skopeo copy -q {origin} dir:images/list@{child['digest']}")
    status, report, messages = workshop.export()
    assert (status, report["faults"], report["warnings"]) == (0, [], []), messages
    assert_whole(workshop.site)
    assert workshop.tags() == {"good:v1", "list:v1"}


def test_a_foreign_layer_that_was_not_copied_is_reported(workshop: Workshop) -> None:
    write_image(workshop.images / "app/v1", docker=True, foreign_layer=True)
    status, report, _ = workshop.export()
    [warning] = report["warnings"]
    assert (status, warning["code"]) == (0, "foreign")


def test_an_absent_config_is_never_foreign(workshop: Workshop) -> None:
    write_image(workshop.images / "app/v1")
    changed(workshop.images / "app/v1", lambda d: d["config"].update(urls=["http://127.0.0.1:9/"]))
    digest = json.loads((workshop.images / "app/v1/manifest.json").read_bytes())["config"]["digest"]
    (workshop.images / "app/v1" / digest[7:]).unlink()
    status, report, _ = workshop.export()
    [fault] = report["faults"]
    assert (status, fault["code"]) == (1, "missing")


# IMAGES or SITE itself is something else


def one_command(messages: str) -> str:
    """The `scr-export` that a message names."""
    [command] = re.findall(r"(scr-export /\S+ \S+?)(?=, or |$)", messages.splitlines()[0])
    return str(command)


@pytest.mark.parametrize("below", ["good", "good/v1"])
def test_a_directory_below_images_is_distinguished_from_it(workshop: Workshop, below: str) -> None:
    status, report, messages = workshop.export(workshop.images / below)
    assert (status, len(report["faults"])) == (1, 1), messages
    workshop.shell(one_command(messages))
    assert workshop.tags() == {"good:v1"}


def test_one_repository_may_be_images_whose_tags_were_forgotten(workshop: Workshop) -> None:
    _, report, _ = workshop.export(workshop.images / "good")
    [command] = [each for each in COMMAND.findall(report["faults"][0]["remedy"]) if each.startswith("mkdir")]
    workshop.shell(command)
    assert workshop.export(workshop.images / "good")[0] == 0
    assert workshop.tags() == {"v1:latest"}


@pytest.mark.parametrize("first", ["missing", "empty", "site"])
def test_swapped_arguments_are_reported(workshop: Workshop, first: str) -> None:
    if first == "empty":
        workshop.site.mkdir()
    elif first == "site":
        assert workshop.export()[0] == 0
    before = workshop.shell("find images | sort")
    status, _, messages = workshop.export(workshop.site, workshop.images)
    assert (status, len(messages.splitlines())) == (2, 1)
    assert "are the arguments swapped?" in messages
    assert workshop.shell("find images | sort") == before
    workshop.shell(one_command(messages))
    assert workshop.tags() == {"good:v1"}


def test_a_site_is_no_directory_of_images(workshop: Workshop) -> None:
    assert workshop.export()[0] == 0
    status, _, messages = workshop.export(workshop.site, workshop.place / "copy")
    assert (status, len(messages.splitlines())) == (2, 1)
    assert "is a site of scr-export" in messages
    workshop.shell(messages.rpartition(": ")[2])
    workshop.shell("scr-export verify copy")


@pytest.mark.parametrize("kind", ["OCI layout", "unpacked `docker save`", "storage of a registry"])
def test_images_itself_may_be_of_another_kind(workshop: Workshop, kind: str) -> None:
    make = {
        "OCI layout": "skopeo copy -q dir:source oci:other:v1",
        "unpacked `docker save`": (
            "skopeo copy -q dir:source docker-archive:x.tar:app:v1; mkdir other; tar -C other -xf x.tar"
        ),
        "storage of a registry": f"cp -r {workshop.storage} other",
    }
    workshop.shell(make[kind])
    status, report, messages = workshop.export(workshop.place / "other")
    [fault] = report["faults"]
    assert (status, kind in fault["what"]) == (1, True), messages
    mend(workshop, fault["remedy"])
    assert workshop.export(workshop.place / "other")[0] == 0
    assert workshop.tags()


def test_the_fault_of_an_empty_directory_says_how_to_fill_it(workshop: Workshop) -> None:
    workshop.shell("rm -r images/good")
    status, report, _ = workshop.export()
    [fault] = report["faults"]
    assert (status, fault["code"]) == (1, "empty")
    [command] = COMMAND.findall(fault["remedy"])
    command = command.replace("REGISTRY/NAME:TAG", f"{workshop.registry}/app:v1").replace("NAME/TAG", "app/v1")
    workshop.shell(command)
    assert workshop.export()[0] == 0


def test_ten_of_many_problems_of_a_kind_are_reported(workshop: Workshop) -> None:
    write_image(workshop.images / "app/v1")
    changed(workshop.images / "app/v1", lambda d: d.update(layers=[7] * 1000))
    status, report, messages = workshop.export()
    assert (status, len(report["faults"])) == (1, 1000)
    assert len(messages.splitlines()) == 12
    assert "990 problems more of this kind" in messages.splitlines()[10]


def mend(workshop: Workshop, remedy: str) -> None:
    """Run the command that a remedy names."""
    [command] = COMMAND.findall(remedy)
    workshop.shell(command.replace("REGISTRY/", f"{workshop.registry}/"))
