"""Images in another form than skopeo's `dir:`, which is told by looking at names and at the first bytes of files."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from typing import Any, NamedTuple

from scr_export.fs.safe import directory_at, open_file, read_file
from scr_export.images import remedies
from scr_export.images.place import Place, quoted
from scr_export.images.skopeo_dir import TOP_MANIFEST

_LARGEST_JSON = 4 * 1024 * 1024
_BLOCK = 512  # of a tar archive (POSIX, pax, "ustar Interchange Format")
_MOST_MEMBERS = 20_000
_UNPACKED = 16 * 1024 * 1024  # so much of a compressed archive is looked at
_HEX = re.compile(r"(?:blobs/|[0-9a-f]{64}(?:\.json|\.tar|/)|sha256:[0-9a-f]{64})")


class OtherKind(NamedTuple):
    """What something is, in words that continue its path, and the command that mends it."""

    place: Place
    code: str
    what: str
    remedy: str


def directory_kind(place: Place, directory: int, names: Collection[str]) -> OtherKind | None:
    """What a directory without `manifest.json` is, if it is one of another kind; `names` are in it."""
    tree: Place | None
    if "oci-layout" in names:
        what = "is an OCI layout, not an image directory"
        return OtherKind(place, "oci-layout", what, remedies.from_layout(place, _layout_names(directory)))
    if is_site(directory):
        return OtherKind(place, "site", "is a site of scr-export, not a directory of images", remedies.move_out(place))
    if {"blobs", "repositories"} <= set(names) and _has(directory, "blobs/sha256"):
        tree = place.at(re.sub(r"(^|/)docker/registry/v2$", "", place.path))
        inside = place.path.removeprefix(tree.path).strip("/")
        return OtherKind(
            tree, "registry", "is the storage of a registry, not image directories", _from_storage(tree, inside)
        )
    if {"blobs", "manifests"} <= set(names) and _holds_digests(directory, "manifests"):
        tree = _tree_of_mirror(place)
        what = "is a tree of `oc image mirror`, not image directories"
        return OtherKind(tree, "oc-mirror", what, _from_mirror(tree)) if tree else None
    return None


def is_site(directory: int) -> bool:
    """Whether an export wrote this directory."""
    return _has(directory, "v2") and (_has(directory, ".scr-export") or _has(directory, "v2/_catalog"))


def unpacked_archive(place: Place, directory: int) -> OtherKind | None:
    """Whether `manifest.json` is that of an archive which `docker save` wrote and somebody unpacked."""
    with suppress(OSError, ValueError, RecursionError):
        document = json.loads(read_file(TOP_MANIFEST, directory, _LARGEST_JSON)[0])
        if _is_docker_save(document):
            what = "is an unpacked `docker save`, not an image directory"
            return OtherKind(place, "docker-save", what, remedies.from_unpacked(place, _repo_tags(document)))
    return None


def _has(directory: int, path: str) -> bool:
    try:
        os.stat(path, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _holds_digests(directory: int, name: str) -> bool:
    with suppress(OSError), directory_at(name, directory) as inner, os.scandir(inner) as entries:
        return any(entry.name.startswith("sha256:") and not entry.is_dir() for entry in entries)
    return False


def _layout_names(directory: int) -> list[remedies.Named]:
    """The images of an OCI layout (image-spec, annotations.md)."""
    try:
        document = json.loads(read_file("index.json", directory, _LARGEST_JSON)[0])
    except (OSError, ValueError, RecursionError):
        return [remedies.Named()]
    return _names_in_index(document)


def _names_in_index(document: Any) -> list[remedies.Named]:
    entries = document.get("manifests") if isinstance(document, dict) else None
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    annotations = [entry.get("annotations") for entry in entries]
    names = [each.get("org.opencontainers.image.ref.name") for each in annotations if isinstance(each, dict)]
    found = [name for name in names if isinstance(name, str) and name]
    if len(entries) < 2:  # old versions of skopeo find an image of docker's in a layout only without a name
        return [remedies.Named("", found[0] if found else "")]
    return [remedies.Named(name, name) for name in found or (f"@{number}" for number in range(len(entries)))]


def _is_docker_save(document: Any) -> bool:
    return isinstance(document, list) and any(
        isinstance(image, dict) and image.keys() >= {"Config", "Layers"} for image in document
    )


def _repo_tags(document: list[Any]) -> list[remedies.Named]:
    tags = [image.get("RepoTags") for image in document if isinstance(image, dict)]
    found = [tag for each in tags if isinstance(each, list) for tag in each if isinstance(tag, str) and tag]
    return [remedies.Named(tag, tag) for tag in found] or [remedies.Named()]


# trees of registries: every tag becomes an image directory whose files are hard links


def _from_storage(tree: Place, inside: str) -> str:
    """In distribution's storage, `repositories/NAME/_manifests/tags/TAG/current/link` holds a digest."""
    return (
        f"{remedies.move_out(tree)} && cd {quoted(os.path.join(tree.outside, inside))} && "
        "find repositories -path '*/_manifests/tags/*/current/link' | while read -r tag; do "
        "name=${tag#repositories/}; name=${name%%/_manifests/*}; tag=${tag%/current/link}; "
        f"to={quoted(os.path.abspath(tree.arguments.images))}/$name/${{tag##*/}}; "
        'mkdir -p "$to"; file() { set -- "$1" "${1#??}"; echo "blobs/sha256/${1%"$2"}/$1/data"; }; '
        'ln "$(file "$(cut -d: -f2 "$tag/current/link")")" "$to/manifest.json"; '
        'for each in "repositories/$name/_manifests/revisions/sha256/"*; do '
        'ln "$(file "${each##*/}")" "$to/${each##*/}.manifest.json"; done; '
        'for each in "repositories/$name/_layers/sha256/"*; do ln "$(file "${each##*/}")" "$to/${each##*/}"; done; done'
    )


def _tree_of_mirror(place: Place) -> Place | None:
    """The `v2` directory that a repository lies in."""
    head, found, _ = f"/{place.path}".rpartition("/v2/")
    if found:
        return place.at(f"{head}/v2".strip("/"))
    return place.at("") if os.path.basename(os.path.abspath(place.arguments.images)) == "v2" else None


def _from_mirror(tree: Place) -> str:
    """`v2/NAME/manifests/TAG` is a link to `sha256:HEX`, and `v2/NAME/blobs` holds all else."""
    return (
        f"{remedies.move_out(tree)} && cd {quoted(tree.outside)} && "
        "find . -path '*/manifests/*' -type l | while read -r tag; do "
        "name=${tag%/manifests/*}; "
        f"to={quoted(os.path.abspath(tree.arguments.images))}/${{name#./}}/${{tag##*/}}; "
        'mkdir -p "$to"; ln -L "$tag" "$to/manifest.json"; '
        'for each in "$name"/manifests/sha256:*; do ln "$each" "$to/${each##*:}.manifest.json"; done; '
        'for each in "$name"/blobs/sha256:*; do ln "$each" "$to/${each##*:}"; done; done'
    )


# archives


def archive_kind(place: Place, directory: int, name: str) -> OtherKind | None:
    """What a file is, if it is an archive: of an image, of image directories or of something else."""
    try:
        descriptor = open_file(name, directory)
    except OSError:
        return None
    with closing(os.fdopen(descriptor, "rb")) as file, suppress(OSError, ValueError, zlib.error):
        start = file.read(_BLOCK)
        if start[257:262] == b"ustar":
            return _tar_kind(place, descriptor)
        if start[:2] == b"\x1f\x8b":
            return _compressed_kind(place, start + file.read(_UNPACKED))
    return None


def _tar_kind(place: Place, descriptor: int) -> OtherKind:
    members = dict(_members(descriptor))
    if TOP_MANIFEST in members:
        document = _json_member(descriptor, members[TOP_MANIFEST])
        if _is_docker_save(document):
            names = _repo_tags(document)
            return OtherKind(
                place, "archive", _of("docker save"), remedies.from_archive(place, "docker-archive", names)
            )
    if "oci-layout" in members and "index.json" in members:
        names = _names_in_index(_json_member(descriptor, members["index.json"]))
        return OtherKind(place, "archive", _of("an OCI layout"), remedies.from_archive(place, "oci-archive", names))
    if any(member.endswith("/manifest.json") for member in members):
        unpack = f"tar -C {quoted(place.at(os.path.dirname(place.path)).full)} -xf {quoted(place.outside)}"
        return OtherKind(place, "archive", _of("image directories"), f"{remedies.move_out(place)} && {unpack}")
    return OtherKind(
        place, "archive", "is an archive without an image; nothing of it is exported", remedies.move_out(place)
    )


def _of(kind: str) -> str:
    return f"is an archive of {f'`{kind}`' if kind == 'docker save' else kind}; nothing of it is exported"


def _compressed_kind(place: Place, data: bytes) -> OtherKind | None:
    unpacked = zlib.decompressobj(31).decompress(data, _BLOCK)
    if unpacked[257:262] != b"ustar":
        return None
    if _HEX.match(_name_in(unpacked)):
        return OtherKind(place, "archive", _of("docker save"), remedies.from_compressed(place))
    return OtherKind(place, "archive", "is an archive; nothing of it is exported", remedies.move_out(place))


def _members(descriptor: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Names of the members of a tar archive, each with the place of its content and its length in bytes."""
    position, end = 0, os.fstat(descriptor).st_size
    for _ in range(_MOST_MEMBERS):
        header = os.pread(descriptor, _BLOCK, position)
        if len(header) < _BLOCK or header[257:262] != b"ustar":
            return
        size = _number(header[124:136])
        if size > end - position - _BLOCK:
            return
        yield _name_in(header).removeprefix("./"), (position + _BLOCK, size)
        position += _BLOCK + -(-size // _BLOCK) * _BLOCK


def _name_in(header: bytes) -> str:
    return header[:100].split(b"\0")[0].decode(errors="replace")


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU, for what does not fit into octal digits
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:])
    return int(field.rstrip(b" \0") or b"0", 8)


def _json_member(descriptor: int, member: tuple[int, int]) -> Any:
    position, size = member
    try:
        return json.loads(os.pread(descriptor, min(size, _LARGEST_JSON), position))
    except (ValueError, RecursionError):
        return None
