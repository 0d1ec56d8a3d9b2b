"""Images as skopeo's `dir:` transport writes them, made from a seed.

Every byte follows from the arguments alone: no clock, no compressor whose output changes between versions.
So a digest that a test writes down stays true. All digests are computed, and the layers are real tar archives
that match the `diff_ids` of their config: docker, podman and containerd unpack and run what is written here.

    python3 tests/support/builders.py demo DIR      two small images that run: DIR/hello/1.0 and DIR/team/hello/1.0
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform as host
import shutil
import struct
import sys
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Algorithm = Literal["sha256", "sha384", "sha512"]
Compression = Literal["gzip", "zstd", "none"]
Json = dict[str, Any]

HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(host.machine(), host.machine())


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What was written: the top manifest's type and digest, and each manifest and blob file by its digest."""

    media_type: str
    digest: str
    manifests: dict[str, tuple[str, bytes]]
    blobs: dict[str, bytes]

    @property
    def raw(self) -> bytes:
        """The bytes of the top manifest."""
        return self.manifests[self.digest][1]

    @property
    def manifest_name(self) -> str:
        """The top manifest's name in a site: `<subtype>@<digest>`."""
        return f"{self.media_type.removeprefix('application/')}@{self.digest}"

    @property
    def descriptor(self) -> Json:
        """The top manifest as another manifest names it, in `manifests` or as `subject`."""
        return _descriptor(self.media_type, self.raw)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Family:
    """The media types of one specification, and how its best-known writer indents a manifest."""

    manifest: str
    index: str
    config: str
    foreign: str
    layer: str
    suffixes: Mapping[Compression, str]
    indent: int


_OCI = _Family(
    manifest="application/vnd.oci.image.manifest.v1+json",
    index="application/vnd.oci.image.index.v1+json",
    config="application/vnd.oci.image.config.v1+json",
    foreign="application/vnd.oci.image.layer.nondistributable.v1.tar",
    layer="application/vnd.oci.image.layer.v1.tar",
    suffixes={"gzip": "+gzip", "zstd": "+zstd", "none": ""},
    indent=2,
)
_DOCKER = _Family(
    manifest="application/vnd.docker.distribution.manifest.v2+json",
    index="application/vnd.docker.distribution.manifest.list.v2+json",
    config="application/vnd.docker.container.image.v1+json",
    foreign="application/vnd.docker.image.rootfs.foreign.diff.tar",
    layer="application/vnd.docker.image.rootfs.diff.tar",
    suffixes={"gzip": ".gzip", "none": ""},  # it knows no zstd
    indent=3,
)


def write_image(
    directory: Path,
    *,
    seed: int = 0,
    docker: bool = False,
    layers: int = 2,
    layer_size: int = 2048,
    compression: Compression = "gzip",
    algorithm: Algorithm = "sha256",
    prefixed: bool = False,
    media_type_field: bool = True,
    subject: Built | None = None,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
    foreign_layer: bool = False,
    share_layers_of: int | None = None,
    history: Sequence[str] = (),
) -> Built:
    """Write an image for one platform, as `skopeo copy … dir:directory` does.

    `layer_size` is the size in bytes of the one file in each layer; `algorithm` digests the layers and the
    config (a manifest is always sha256); `prefixed` names files `sha512-<hex>` as newer skopeo does;
    `foreign_layer` adds a layer with `urls` and no file; `share_layers_of` is another seed, whose layers this
    image has as its own; `history` are the commands that made the layers. Skopeo itself refuses a docker image
    without `media_type_field`.
    """
    label = str(seed if share_layers_of is None else share_layers_of)
    built = _image(
        _DOCKER if docker else _OCI,
        _tars(label, layers, layer_size),
        config={"Labels": {"seed": str(seed)}},
        foreign=_tars(f"{label}/foreign", int(foreign_layer), layer_size),
        history=history,
        compression=compression,
        algorithm=algorithm,
        media_type_field=media_type_field,
        extra=_extra(artifact_type, subject, annotations),
    )
    return _write(directory, built, prefixed)


def write_index(
    directory: Path,
    *,
    seed: int = 0,
    docker: bool = False,
    platforms: Sequence[str] = ("amd64", "arm64"),
    sparse: Collection[str] = (),
    layers: int = 2,
    layer_size: int = 2048,
    compression: Compression = "gzip",
    algorithm: Algorithm = "sha256",
    prefixed: bool = False,
    media_type_field: bool = True,
    subject: Built | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Built:
    """Write an image for several platforms, as `skopeo copy --all … dir:directory` does.

    A platform is an architecture with an optional variant: `amd64`, `arm/v7`. Those in `sparse` are named in
    the index but neither their manifest nor their blobs are written. `media_type_field` is about the index.
    """
    family = _DOCKER if docker else _OCI
    children = {
        platform: _image(
            family,
            _tars(f"{seed}/{platform}", layers, layer_size),
            config={"Labels": {"seed": str(seed)}},
            platform=platform,
            compression=compression,
            algorithm=algorithm,
        )
        for platform in platforms
    }
    extra = _extra(None, subject, annotations)
    return _write(directory, _index(family, children, sparse, extra, media_type_field), prefixed)


def write_artifact(
    directory: Path,
    *,
    seed: int = 0,
    artifact_type: str = HELM_CONFIG,
    payload: bytes = b"",
    payload_type: str = HELM_CHART,
    empty_config: bool = False,
    subject: Built | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Built:
    """Write an OCI manifest that is no image: a chart, a signature, an SBOM.

    The artifact type is the config's media type, as helm has it; with `empty_config` it is the field
    `artifactType` and the config is empty, as image-spec 1.1 has it. No payload means one made from the seed.
    """
    payload = payload or _content(f"{seed}/payload", 1024)
    config = b"{}" if empty_config else json.dumps({"name": f"artifact-{seed}"}).encode()
    fields = {
        "config": _descriptor(EMPTY if empty_config else artifact_type, config),
        "layers": [_descriptor(payload_type, payload)],
        **_extra(artifact_type if empty_config else None, subject, annotations),
    }
    return _write(directory, _built(_OCI.manifest, fields, blobs=[config, payload]))


def write_referrers_tag(directory: Path, *, referrers: Sequence[Built]) -> Built:
    """Write the index that the tag `<algorithm>-<hex>` names (distribution-spec, "Referrers Tag Schema")."""
    fields = {"manifests": [referrer(each) for each in referrers]}
    return _write(directory, _built(_OCI.index, fields, children=referrers))


def referrer(built: Built) -> Json:
    """Its descriptor as a referrers list has it: with the manifest's artifact type and annotations."""
    manifest = json.loads(built.raw)
    artifact_type = manifest.get("artifactType") or manifest.get("config", {}).get("mediaType")
    return built.descriptor | _extra(artifact_type, None, manifest.get("annotations"))


def write_signature(directory: Path, subject: Built, seed: int) -> Built:
    """Write an artifact of the type `application/x.sig` that refers to a manifest."""
    return write_artifact(directory, seed=seed, artifact_type="application/x.sig", empty_config=True, subject=subject)


def write_tags(directory: Path, *tags: str, seed: int = 0) -> None:
    """Write an image for each tag, with seeds that count up from `seed`."""
    for number, tag in enumerate(tags):
        write_image(directory / tag, seed=seed + number)


def write_runnable(
    directory: Path,
    *,
    binary: bytes | Mapping[str, bytes],
    docker: bool = False,
    compression: Compression = "gzip",
) -> Built:
    """Write an image that runs one static program, `/hello`; given a program for each platform, an index."""
    family = _DOCKER if docker else _OCI
    programs = binary if isinstance(binary, Mapping) else {ARCHITECTURE: binary}
    config: Json = {"Entrypoint": ["/hello"]}
    children = {
        platform: _image(family, [_tar("hello", data, 0o755)], config, platform=platform, compression=compression)
        for platform, data in programs.items()
    }
    return _write(directory, _index(family, children) if programs is binary else children[ARCHITECTURE])


def blob_of(images: Path, path: str) -> Path:
    """The largest blob of an image."""
    return max(
        (each for each in (images / path).iterdir() if len(each.name) == 64), key=lambda each: each.stat().st_size
    )


def link_image(source: Path, directory: Path) -> None:
    """Give an image another directory, which costs no space: its files are hard links."""
    shutil.copytree(source, directory, copy_function=os.link)


def hello_elf(message: str, *, architecture: str = ARCHITECTURE) -> bytes:
    """A static Linux program (amd64, arm64) that writes the message (under 64 KiB) to stdout and exits 0."""
    text = message.encode()
    if architecture == "amd64":
        # mov eax, 1 (write); mov edi, 1 (stdout); lea rsi, [rip+16]; mov edx, length; syscall
        # mov eax, 60 (exit); xor edi, edi; syscall
        write = b"\xb8\1\0\0\0\xbf\1\0\0\0\x48\x8d\x35\x10\0\0\0\xba" + struct.pack("<I", len(text)) + b"\x0f\x05"
        machine, code = 62, write + b"\xb8\x3c\0\0\0\x31\xff\x0f\x05"
    elif architecture == "arm64":
        # mov x0, 1 (stdout); adr x1, .+28; mov x2, length; mov x8, 64 (write); svc 0
        # mov x0, 0; mov x8, 93 (exit); svc 0
        words = (0xD2800020, 0x100000E1, 0xD2800002 | len(text) << 5, 0xD2800808, 0xD4000001)
        machine, code = 183, struct.pack("<8I", *words, 0xD2800000, 0xD2800BA8, 0xD4000001)
    else:
        raise ValueError(f"no hello program for architecture {architecture!r}")
    base, headers = 0x400000, 64 + 56
    size = headers + len(code) + len(text)
    identity = struct.pack("<4s5B7x", b"\x7fELF", 2, 1, 1, 0, 0)
    header = struct.pack("<HHI3QI6H", 2, machine, 1, base + headers, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<2I6Q", 1, 5, 0, base, base, size, size, 0x10000)
    return identity + header + segment + code + text


def plant(path: Path, kind: str, outside: Path) -> None:
    """Create a special file: a symlink to `outside`, a broken or looping one, a FIFO, a directory or a device."""
    match kind:
        case "link":
            path.symlink_to(outside)
        case "dangling":
            path.symlink_to("nowhere")
        case "loop":
            path.symlink_to(path.name)
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "device" if os.geteuid() == 0:
            os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero, which never ends
        case "device":
            os.mkfifo(path)


def tree(directory: Path) -> str:
    """Everything below the directory, one line each, sorted: `file`, `link -> target`, `directory/`."""
    return "".join(f"{_line(directory, path)}\n" for path in sorted(directory.rglob("*")))


def _line(directory: Path, path: Path) -> str:
    name = path.relative_to(directory).as_posix()
    if path.is_symlink():
        return f"{name} -> {path.readlink()}"
    return f"{name}/" if path.is_dir() else name


def _image(
    family: _Family,
    tars: Sequence[bytes],
    config: Json,
    *,
    foreign: Sequence[bytes] = (),
    history: Sequence[str] = (),
    platform: str = ARCHITECTURE,
    compression: Compression = "gzip",
    algorithm: Algorithm = "sha256",
    media_type_field: bool = True,
    extra: Json | None = None,
) -> Built:
    rootfs = {"type": "layers", "diff_ids": [_digest(tar) for tar in [*tars, *foreign]]}
    image = {"created": "1970-01-01T00:00:00Z", **_platform(platform), "config": config, "rootfs": rootfs}
    if history:
        image["history"] = [{"created_by": command} for command in history]
    raw = json.dumps(image).encode()
    layers = [_compress(tar, compression) for tar in tars]
    layer_type = family.layer + family.suffixes[compression]
    urls = {"urls": ["http://127.0.0.1:9/layer"]}  # port 9 discards: nothing answers there
    fields = {
        "config": _descriptor(family.config, raw, algorithm),
        "layers": [_descriptor(layer_type, layer, algorithm) for layer in layers]
        + [_descriptor(family.foreign, tar, algorithm) | urls for tar in foreign],
        **(extra or {}),
    }
    return _built(
        family.manifest,
        fields,
        [raw, *layers],
        algorithm=algorithm,
        typed=media_type_field,
        indent=family.indent,
    )


def _index(
    family: _Family,
    children: Mapping[str, Built],
    sparse: Collection[str] = (),
    extra: Json | None = None,
    media_type_field: bool = True,
) -> Built:
    entries = [child.descriptor | _entry(platform, child) for platform, child in children.items()]
    present = [child for platform, child in children.items() if platform not in sparse]
    fields = {"manifests": entries, **(extra or {})}
    return _built(family.index, fields, children=present, typed=media_type_field, indent=family.indent)


def _entry(platform: str, child: Built) -> Json:
    """The fields that an index adds to a child's descriptor; recent skopeo adds the annotation too."""
    zstd = {"io.github.containers.compression.zstd": "true"}
    return {"platform": _platform(platform)} | ({"annotations": zstd} if b"+zstd" in child.raw else {})


def _built(
    media_type: str,
    fields: Json,
    blobs: Iterable[bytes] = (),
    *,
    children: Sequence[Built] = (),
    algorithm: Algorithm = "sha256",
    typed: bool = True,
    indent: int = _OCI.indent,
) -> Built:
    """The manifest with these fields, and the manifests and blobs of its children."""
    document = {"schemaVersion": 2} | ({"mediaType": media_type} if typed else {}) | fields
    raw = json.dumps(document, indent=indent).encode()
    manifests = {digest: each for child in children for digest, each in child.manifests.items()}
    inherited = {digest: each for child in children for digest, each in child.blobs.items()}
    return Built(
        media_type=media_type,
        digest=_digest(raw),
        manifests=manifests | {_digest(raw): (media_type, raw)},
        blobs=inherited | {_digest(blob, algorithm): blob for blob in blobs},
    )


def _write(directory: Path, built: Built, prefixed: bool = False) -> Built:
    """Replace all files of the directory, `manifest.json` last; like skopeo, never write into an old inode."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    newer = prefixed and not all(digest.startswith("sha256:") for digest in built.blobs)
    (directory / "version").write_text(f"Directory Transport Version: {'1.2' if newer else '1.1'}\n")
    for digest, data in built.blobs.items():
        path = directory / _filename(digest, prefixed)
        path.write_bytes(data)
        path.chmod(0o644)  # under every umask; manifests follow the umask
    for digest, (_, raw) in built.manifests.items():
        if digest != built.digest:
            (directory / f"{_filename(digest, prefixed)}.manifest.json").write_bytes(raw)
    (directory / "manifest.json").write_bytes(built.raw)
    return built


def _filename(digest: str, prefixed: bool) -> str:
    algorithm, encoded = digest.split(":")
    return f"{algorithm}-{encoded}" if prefixed and algorithm != "sha256" else encoded


def _digest(data: bytes, algorithm: Algorithm = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def _descriptor(media_type: str, data: bytes, algorithm: Algorithm = "sha256") -> Json:
    return {"mediaType": media_type, "digest": _digest(data, algorithm), "size": len(data)}


def _extra(artifact_type: str | None, subject: Built | None, annotations: Mapping[str, str] | None) -> Json:
    subject_field = subject and subject.descriptor
    fields = {"artifactType": artifact_type, "subject": subject_field, "annotations": annotations}
    return {name: value for name, value in fields.items() if value is not None}


def _platform(platform: str) -> Json:
    architecture, _, variant = platform.partition("/")
    return {"architecture": architecture, "os": "linux"} | ({"variant": variant} if variant else {})


def _content(label: str, size: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(size)


def _tars(label: str, count: int, size: int) -> list[bytes]:
    return [_tar(f"layer-{number}", _content(f"{label}/{number}", size)) for number in range(count)]


def _tar(name: str, data: bytes, mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), mode
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _compress(data: bytes, compression: Compression) -> bytes:
    """A valid stream that stores the data as it is: its bytes depend on no compressor's version."""
    if compression == "gzip":  # RFC 1952 around stored blocks (RFC 1951, 3.2.4), no time, unknown OS
        blocks = (struct.pack("<BHH", last, len(x), 0xFFFF - len(x)) + x for last, x in _chunks(data, 0xFFFF))
        trailer = struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
        return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"".join(blocks) + trailer
    if compression == "zstd":  # RFC 8878: one segment, its size in four bytes, raw blocks of up to 128 KiB
        blocks = (struct.pack("<I", last | len(x) << 3)[:3] + x for last, x in _chunks(data, 1 << 17))
        return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + b"".join(blocks)
    return data


def _chunks(data: bytes, size: int) -> Iterator[tuple[bool, bytes]]:
    """The data in pieces of a size, each with whether it is the last."""
    for start in range(0, len(data), size):
        yield start + size >= len(data), data[start : start + size]


def main(arguments: Sequence[str]) -> int:
    """Write the demonstration images; the exit status."""
    if len(arguments) != 2 or arguments[0] != "demo":
        print("usage: builders.py demo DIR", file=sys.stderr)
        return 2
    directory = Path(arguments[1])
    message = "Hello from a directory of plain files.\n"
    write_runnable(directory / "hello/1.0", binary=hello_elf(message))
    programs = {each: hello_elf(f"{each}: {message}", architecture=each) for each in ("amd64", "arm64")}
    write_runnable(directory / "team/hello/1.0", binary=programs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
