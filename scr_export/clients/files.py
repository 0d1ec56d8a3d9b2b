"""The files for each kind of client. Every function returns the bytes of files by their paths."""

from __future__ import annotations

import json
from collections.abc import Mapping

from scr_export.clients.mirror import Mirror, Upstream
from scr_export.clients.readme import key_of, readme

Files = dict[str, bytes]

_LOOKASIDE = "/v2/_sigstore"
_AUTHORITY = "ca.crt"


def client_files(mirror: Mirror) -> Files:
    """Return all files, by their paths below the directory that holds them."""
    files = containerd(mirror) | containers(mirror) | kubernetes_distributions(mirror) | openshift(mirror)
    files |= docker(mirror)
    return files | {"README.md": readme(mirror, files).encode()}


def containerd(mirror: Mirror) -> Files:
    """`/etc/containerd/certs.d`. Nothing falls through to the upstream, because `server` is the mirror too.

    containerd 1 ignores a file without a `host`, and asks the upstream then.
    """
    files: Files = {}
    url = mirror.server.url
    hosts = {upstream.host: _api(url, upstream) for upstream in mirror.upstreams}
    for host, (server, is_path) in ({mirror.server.address: (url, False)} | hosts).items():
        settings = ['capabilities = ["pull", "resolve"]']
        if is_path:
            settings.append("override_path = true")
        if mirror.authority:
            settings.append(f'ca = "{_AUTHORITY}"')
            files[f"containerd/certs.d/{host}/{_AUTHORITY}"] = mirror.authority
        lines = [f'server = "{server}"', *settings, "", f'[host."{server}"]', *(f"  {each}" for each in settings)]
        files[f"containerd/certs.d/{host}/hosts.toml"] = _text(lines)
    return files


def _api(url: str, upstream: Upstream) -> tuple[str, bool]:
    return (f"{url}/v2/{upstream.start}", True) if upstream.start else (url, False)


def containers(mirror: Mirror) -> Files:
    """`/etc/containers` of podman, skopeo, buildah and CRI-O. A `location` is all that they ask."""
    address = mirror.server.address
    lines = _registry(mirror, address)
    for upstream in mirror.upstreams:
        location = f"{address}/{upstream.start}".rstrip("/")
        lines += ["", *_registry(mirror, location, upstream.host)]
    files = {"containers/registries.conf.d/scr-export.conf": _text(lines)}
    if mirror.authority:
        files[f"containers/certs.d/{address}/{_AUTHORITY}"] = mirror.authority
    if mirror.is_signed:
        lookaside = ["docker:", f'  "{address}":', f'    lookaside: "{mirror.server.url}{_LOOKASIDE}"']
        files["containers/registries.d/scr-export.yaml"] = _text(lookaside)
        files["containers/policy.json"] = _json(_policy(mirror))
    return files


def _registry(mirror: Mirror, location: str, prefix: str = "") -> list[str]:
    lines = ["[[registry]]", *([f'prefix = "{prefix}"'] if prefix else []), f'location = "{location}"']
    return lines if mirror.server.is_secure else [*lines, "insecure = true"]


def _policy(mirror: Mirror) -> Mapping[str, object]:
    """Demand signatures of what the site has signatures for, by the upstream's names and by the server's."""
    scopes: dict[str, object] = {}
    for upstream in mirror.upstreams:
        if upstream.is_signed:
            place = f"{mirror.server.address}/{upstream.start}".rstrip("/")
            identity = {"type": "remapIdentity", "prefix": place, "signedPrefix": upstream.host}
            scopes[upstream.host] = [_signed_by(upstream, {"type": "matchRepoDigestOrExact"})]
            scopes[place] = [_signed_by(upstream, identity)]
    return {"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": scopes}}


def _signed_by(upstream: Upstream, identity: Mapping[str, str]) -> Mapping[str, object]:
    return {"type": "signedBy", "keyType": "GPGKeys", "keyPath": key_of(upstream), "signedIdentity": identity}


def kubernetes_distributions(mirror: Mirror) -> Files:
    """`registries.yaml` of k3s and RKE2. Their containerd asks for paths that `rewrite` makes."""
    address, url = mirror.server.address, mirror.server.url
    lines = ["mirrors:"]
    for host, start in {address: "", **{upstream.host: upstream.start for upstream in mirror.upstreams}}.items():
        lines += [f'  "{host}":', "    endpoint:", f'      - "{url}"']
        if start:
            lines += ["    rewrite:", f'      "^(.*)$": "{start}/$1"']
    files: Files = {}
    if mirror.authority:
        for directory in ("k3s", "rke2"):
            tls = ["configs:", f'  "{address}":', "    tls:", f"      ca_file: /etc/rancher/{directory}/{_AUTHORITY}"]
            files[f"{directory}/registries.yaml"] = _text([*lines, *tls])
            files[f"{directory}/{_AUTHORITY}"] = mirror.authority
        return files
    return {f"{directory}/registries.yaml": _text(lines) for directory in ("k3s", "rke2")}


def openshift(mirror: Mirror) -> Files:
    """Mirror sets of OpenShift 4.13 and later, and what its nodes must know of the server."""
    files: Files = {}
    if mirror.upstreams:
        sets = [_mirror_set(mirror, "Digest"), "---", _mirror_set(mirror, "Tag")]
        files["openshift/mirrors.yaml"] = _text(sets)
    address = mirror.server.address
    config = ["apiVersion: config.openshift.io/v1", "kind: Image", "metadata:", "  name: cluster", "spec:"]
    if mirror.authority:
        key = address.replace(":", "..")
        lines = [
            "apiVersion: v1",
            "kind: ConfigMap",
            "metadata:",
            "  name: scr-export",
            "  namespace: openshift-config",
        ]
        lines += ["data:", f'  "{key}": |', *(f"    {line}" for line in mirror.authority.decode().splitlines())]
        files["openshift/authority.yaml"] = _text(lines)
        files["openshift/image-config.yaml"] = _text([*config, "  additionalTrustedCA:", "    name: scr-export"])
    elif not mirror.server.is_secure:
        insecure = ["  registrySources:", "    insecureRegistries:", f'      - "{address}"']
        files["openshift/image-config.yaml"] = _text([*config, *insecure])
    return files


def _mirror_set(mirror: Mirror, kind: str) -> str:
    lines = ["apiVersion: config.openshift.io/v1", f"kind: Image{kind}MirrorSet"]
    lines += ["metadata:", "  name: scr-export", "spec:", f"  image{kind}Mirrors:"]
    for upstream in mirror.upstreams:
        place = f"{mirror.server.address}/{upstream.start}".rstrip("/")
        lines += [f'    - source: "{upstream.host}"', "      mirrors:", f'        - "{place}"']
        lines.append("      mirrorSourcePolicy: NeverContactSource")
    return "\n".join(lines)


def docker(mirror: Mirror) -> Files:
    """`/etc/docker`. Its daemon knows mirrors of Docker Hub only, and asks Docker Hub for what they do not have."""
    settings: dict[str, list[str]] = {}
    if not mirror.server.is_secure:
        settings["insecure-registries"] = [mirror.server.address]
    if mirror.unscoped_hub:
        settings["registry-mirrors"] = [mirror.server.url]
    files = {"docker/daemon.json": _json(settings)} if settings else {}
    if mirror.authority:
        files[f"docker/certs.d/{mirror.server.address}/{_AUTHORITY}"] = mirror.authority
    return files


def _text(lines: list[str]) -> bytes:
    return "\n".join([*lines, ""]).encode()


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"
