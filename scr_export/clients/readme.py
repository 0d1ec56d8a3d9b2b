"""What is written beside the files: where each goes, and what is reloaded then."""

from __future__ import annotations

from collections.abc import Container, Iterator

from scr_export.clients.mirror import Mirror, Upstream
from scr_export.oci.reference import HUB

_INTRODUCTION = """# Pull from {address}

These files make clients pull from `{url}`. Copy those of your clients; each section says where they go and what is
reloaded then. Where a host has such a file already, put the lines of this one into it.
"""

_NAMES = """
Every image can be pulled by its full name: `{address}/` and the name of its repository.
{table}"""

_TABLE = """With these files the following names come from there too, and from nowhere else:

| name | is asked for as |
|---|---|
{rows}
"""

_CONTAINERD = """
## containerd, Kubernetes

    cp -r containerd/certs.d /etc/containerd/

The files are read at each pull. Once, name their directory in `/etc/containerd/config.toml`, and then
`systemctl restart containerd`:

    # containerd 1
    version = 2
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"

    # containerd 2
    version = 3
    [plugins."io.containerd.cri.v1.images".registry]
      config_path = "/etc/containerd/certs.d"

`ctr` takes `--hosts-dir /etc/containerd/certs.d`. What the server does not have fails; the upstream registry is
not asked.
"""

_CONTAINERS = """
## podman, skopeo, buildah, CRI-O

    cp -r containers/{directories} /etc/containers/

The files are read at each pull; CRI-O needs `systemctl reload crio`. What the server does not have fails; the upstream
registry is not asked. A file of `registries.conf.d` whose name sorts behind this one replaces its entries for the same
registry.
"""

_SIGNATURES = """
### Signatures

`registries.d/scr-export.yaml` says where the server has simple signatures. `policy.json` demands them for

{scopes}

Put the public keys there (`gpg --export KEY >FILE`), look at the rest of the policy, and only then

    cp containers/policy.json /etc/containers/

From then on an image of these that is not signed is refused, by the upstream's name and by the server's.

Clients do not send the server's password to where signatures are. If it asks for one, let it serve `/v2/_sigstore/`
without, or write it into the file (`lookaside: http://USER:PASSWORD@…`), which every user can read, or copy the site's
`v2/_sigstore` to each host and write `lookaside: file:///…/_sigstore`. Until then every pull from the server fails
with status 401, whatever the policy says.
"""

_K3S = """
## k3s, RKE2

    cp k3s/* /etc/rancher/k3s/      then  systemctl restart k3s        (k3s-agent on agents)
    cp rke2/* /etc/rancher/rke2/    then  systemctl restart rke2-server (rke2-agent on agents)

What the server does not have is asked of the upstream registry, unless k3s or rke2 runs with
`--disable-default-registry-endpoint`.
"""

_OPENSHIFT = """
## OpenShift 4.13 and later

{commands}

The machine config operator then brings this to the nodes, and drains and restarts them where it must.
"""

_DOCKER = """
## docker

{commands}

docker pulls by the full name, `{address}/…`.{hub}
"""

_DOCKER_HUB = """ Its daemon can use a mirror of Docker Hub alone, which this `registry-mirrors` is:
`docker pull alpine` asks `{address}` first. What is not there is asked of Docker Hub:
no setting of docker prevents that."""

_DOCKER_NO_HUB = """ Its daemon can use a mirror of Docker Hub alone, and only where the images
of Docker Hub stand at the top of the site (`library/alpine`), without `docker.io/`."""


def readme(mirror: Mirror, files: Container[str]) -> str:
    """Return the text for these files."""
    return "".join(_sections(mirror, files)).strip() + "\n"


def _sections(mirror: Mirror, files: Container[str]) -> Iterator[str]:
    address = mirror.server.address
    yield _INTRODUCTION.format(address=address, url=mirror.server.url)
    rows = "\n".join(f"| `{each.host}/…` | `{address}/{_start(each)}…` |" for each in mirror.upstreams)
    yield _NAMES.format(address=address, table=_TABLE.format(rows=rows) if rows else "")
    yield _CONTAINERD
    directories = ["registries.conf.d", *(["certs.d"] if mirror.authority else [])]
    directories += ["registries.d"] if mirror.is_signed else []
    joined = directories[0] if len(directories) == 1 else "{" + ",".join(directories) + "}"
    yield _CONTAINERS.format(directories=joined)
    if mirror.is_signed:
        signed = [f"- `{each.host}/…`, by the key in `{key_of(each)}`" for each in mirror.upstreams if each.is_signed]
        yield _SIGNATURES.format(scopes="\n".join(signed))
    yield _K3S
    yield from _openshift(files)
    yield _docker(mirror, files)


def key_of(upstream: Upstream) -> str:
    """Return where the policy looks for the public key that an upstream's images are signed with."""
    return f"/etc/containers/keys/{upstream.host.replace(':', '_')}.gpg"


def _start(upstream: Upstream) -> str:
    return f"{upstream.start}/" if upstream.start else ""


def _openshift(files: Container[str]) -> Iterator[str]:
    names = [name for name in ("authority.yaml", "mirrors.yaml") if f"openshift/{name}" in files]
    commands = [f"    oc apply -f openshift/{name}" for name in names]
    if "openshift/image-config.yaml" in files:
        commands.append(
            "    oc patch image.config.openshift.io/cluster --type=merge --patch-file openshift/image-config.yaml"
        )
    if commands:
        yield _OPENSHIFT.format(commands="\n".join(commands))


def _docker(mirror: Mirror, files: Container[str]) -> str:
    commands = ["    cp -r docker/certs.d /etc/docker/"] if mirror.authority else []
    if "docker/daemon.json" in files:
        commands.append("    cp docker/daemon.json /etc/docker/    then  systemctl reload docker")
    if not commands:
        commands.append("    (no file is needed)")
    address = mirror.server.address
    hub = _DOCKER_HUB if mirror.unscoped_hub else _DOCKER_NO_HUB
    if not any(upstream.host == HUB for upstream in mirror.upstreams):
        hub = ""
    return _DOCKER.format(commands="\n".join(commands), address=address, hub=hub.format(address=address))
