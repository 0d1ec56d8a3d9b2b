"""What mends a fault: commands for a shell. The tests run each of them."""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

from scr_export.images.naming import parse_path
from scr_export.images.place import Place, quoted
from scr_export.images.skopeo_dir import TOP_MANIFEST
from scr_export.oci.manifest import Reason
from scr_export.oci.mediatype import DOCKER_MANIFEST
from scr_export.oci.name import parse_repository_name

_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_FAMILIAR = re.compile(r"(?:docker\.io/(?:library/)?|localhost/)(?=.*:)")  # docker and podman do not show it


class Named(NamedTuple):
    """An image in a layout or in an archive: what skopeo finds it by, and the name that it has, where it has one."""

    selector: str = ""
    name: str = ""


def copy_again(place: Place) -> str:
    """Fetch the image once more; skopeo empties a directory that it wrote before."""
    return f"copy it again: {_fetch(place)}"


def copy_signed(signature: Place, digest: str) -> str:
    """Fetch the image that a signature is of, by its digest, into a directory beside the signature's."""
    base, slash, last = signature.path.rpartition("/")
    name = f"{base}{slash}{last.rpartition(':')[0]}" if ":" in last else base
    return f"copy that image too: {_fetch(signature.at(f'{name}@{digest}'))}"


def copy_anew(place: Place) -> str:
    """Fetch the image into a directory that skopeo would not empty."""
    return f"copy it again: rm -r {quoted(place.full)} && mkdir {quoted(place.full)} && {_fetch(place)}"


def _fetch(place: Place) -> str:
    return f"skopeo copy --all {quoted(source(place.path))} {quoted(f'dir:{place.full}')}"


def fill(images: Place) -> str:
    """Copy a first image."""
    target = images.below("NAME/TAG").full
    return (
        f"fill it: mkdir -p {quoted(target)} && skopeo copy --all docker://REGISTRY/NAME:TAG {quoted(f'dir:{target}')}"
    )


def source(path: str) -> str:
    """Where skopeo may have got an image from that lies at this path; an unknown registry is called REGISTRY."""
    parents, _, last = path.rpartition("/")
    base, at, digest = last.partition("@")
    if not at:
        base, at, digest = last.rpartition(":") if ":" in last else ("", ":", last)
    name = posixpath.join(parents, base).rstrip("/") or "NAME"
    host = name.partition("/")[0]
    is_known = "/" in name and ("." in host or ":" in host or host == "localhost")
    return f"docker://{'' if is_known else 'REGISTRY/'}{name}{at}{digest or 'TAG'}"


def rewrite(place: Place, options: str = "") -> str:
    """Let skopeo write the manifest anew, from directory to directory."""
    origin, target = f"dir:{place.outside}", f"dir:{place.full}"
    copy = f"skopeo copy --all {options}{quoted(origin)} {quoted(target)}"
    return f"{move_out(place)} && mkdir {quoted(place.full)} && {copy}"


def for_defect(place: Place, name: str, reason: Reason) -> str:
    """What helps against a manifest that clients refuse; `name` is its file's."""
    if reason is Reason.DAMAGED:
        return copy_again(place)
    if name != TOP_MANIFEST or reason is Reason.REFUSED:
        return f"copied again it would be the same; take it away, and have it built anew: {move_out(place)}"
    if reason is Reason.SCHEMA_1:
        return rewrite(place, "--format v2s2 ")
    field = f'"mediaType": "{DOCKER_MANIFEST}",'.replace("/", r"\/")
    return f"sed -i '1s/{{/{{{field}/' {quoted(place.below(name).full)}"


def give_parent(place: Place, levels: int) -> str:
    """Name another directory as IMAGES."""
    images = os.path.abspath(place.full)
    for _ in range(1 if re.search("[:@]", os.path.basename(images)) else levels):
        images = os.path.dirname(images)
    return f"give the directory above it: scr-export {quoted(images)} {quoted(place.arguments.site)}"


def move_out(place: Place) -> str:
    """Take it out of IMAGES."""
    return f"mv -T {quoted(place.full)} {quoted(place.outside)}"


def move_in(place: Place, tag: str) -> str:
    """Give the image in a directory a directory below it, so that it has a tag."""
    target = quoted(place.below(tag).full)
    return f"mkdir {target} && find {quoted(place.full)} -maxdepth 1 -type f -exec mv -t {target} {{}} +"


def delete(place: Place, names: Sequence[str]) -> str:
    """Remove files from a directory."""
    return f"cd {quoted(place.full)} && rm {' '.join(map(quoted, names))}"


def replace_link(place: Place, target: str) -> str:
    """Put what a link leads to in the link's place."""
    origin = os.path.join(os.path.dirname(os.path.abspath(place.full)), target)
    return f"rm {quoted(place.full)} && cp -a {quoted(os.path.normpath(origin))} {quoted(place.full)}"


def remove_link(place: Place) -> str:
    """Remove a link; what it stood for goes from the site then."""
    return f"to give up its images: rm {quoted(place.full)}"


def make_readable(place: Place, error: OSError) -> str:
    """What may help where something cannot be read."""
    if error.errno == errno.EACCES:
        return f"as its owner: chmod -R u+rwX,go+rX {quoted(place.full)}"
    return f"see what the kernel's log says of the disk, and {copy_again(place)}"


def from_layout(place: Place, names: Sequence[Named]) -> str:
    """Copy the images of an OCI layout."""
    return " && ".join([move_out(place), *_copies(place, f"oci:{place.outside}", names)])


def from_archive(place: Place, transport: str, names: Sequence[Named]) -> str:
    """Copy the images of an archive, which lies at `place`."""
    stem = _stem(place)
    return " && ".join([move_out(place), *_copies(stem, f"{transport}:{place.outside}", names)])


def _stem(place: Place) -> Place:
    return place.at(re.sub(r"(?<=[^/])(\.oci|\.docker)?(\.tar)?(\.gz|\.tgz)?$", "", place.path))


def from_compressed(place: Place) -> str:
    """Copy the image of a compressed archive of `docker save`. Old versions of skopeo cannot unpack it themselves."""
    archive = f"{place.outside}.tar"
    unpack = f"gunzip -c {quoted(place.outside)} >{quoted(archive)}"
    return " && ".join([move_out(place), unpack, *_copies(_stem(place), f"docker-archive:{archive}", [Named()])])


def from_unpacked(place: Place, names: Sequence[Named]) -> str:
    """Pack what somebody unpacked of `docker save`, and copy its images."""
    archive = f"{place.outside}.tar"
    pack = f"tar -C {quoted(place.outside)} -cf {quoted(archive)} ."
    return " && ".join([move_out(place), pack, *_copies(place, f"docker-archive:{archive}", names)])


def _copies(place: Place, origin: str, names: Sequence[Named]) -> list[str]:
    commands = []
    for selector, name in names:
        target = _target(place, name)
        image = quoted(f"{origin}:{selector}" if selector else origin)
        commands += [
            f"mkdir -p {quoted(target.full)}",
            f"skopeo copy --all {image} {quoted(f'dir:{target.full}')}",
        ]
    return commands


def _target(place: Place, name: str) -> Place:
    """Where an image of this name belongs, that was found at `place`."""
    repository, _, tag = _FAMILIAR.sub("", name).rpartition(":")
    if repository:
        return place.at(f"{repository}/{tag}")
    if not place.path:
        place = place.at(os.path.basename(os.path.abspath(place.full)))
    if _TAG.fullmatch(name) and posixpath.basename(place.path) != name:
        return place.below(name)
    return place if re.search("[/:@]", place.path) else place.below("latest")


def name_anew(place: Place) -> str:
    """Give an image directory the nearest name that it can have; what the system or a program hid is moved away."""
    parts = place.path.split("/")
    for number, part in enumerate(parts):
        if part.startswith((".", "#", "$", "~")) or not part.isprintable():
            return move_out(place.at("/".join(parts[: number + 1])))
    *parents, last = parts
    base, at, digest = last.partition("@")
    base, colon, tag = (base, at, digest) if at else base.rpartition(":")
    if not colon and not parents:
        base, colon, tag = tag, ":", "latest"
    names = [_component(name) for name in (*parents, base) if name]
    new = f"{'/'.join(names)}{colon or '/'}{tag if at else _tag(tag)}"
    try:
        parse_path(new)
    except ValueError:
        return move_out(place)
    target = place.at(new)
    parent = os.path.dirname(target.full)
    return f"mkdir -p {quoted(parent)} && mv -T {quoted(place.full)} {quoted(target.full)}"


def _component(name: str) -> str:
    name = name.lower()
    try:
        return parse_repository_name(name)
    except ValueError:
        return re.sub(r"[._-]{2,}", "-", re.sub(r"[^a-z0-9._-]+", "-", name)).strip("._-")


def _tag(tag: str) -> str:
    return re.sub(r"[^\w.-]+", "-", tag, flags=re.ASCII).lstrip(".-")[:128]
