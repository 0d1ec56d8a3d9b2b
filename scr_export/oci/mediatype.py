"""Media types of manifests (image-spec, media-types.md; docker's of distribution v2.2)."""

from __future__ import annotations

from typing import NewType

# An open set: artifacts bring types of their own, so this is no enumeration.
MediaType = NewType("MediaType", str)

OCI_MANIFEST = MediaType("application/vnd.oci.image.manifest.v1+json")
OCI_INDEX = MediaType("application/vnd.oci.image.index.v1+json")
DOCKER_MANIFEST = MediaType("application/vnd.docker.distribution.manifest.v2+json")
DOCKER_LIST = MediaType("application/vnd.docker.distribution.manifest.list.v2+json")

OCI_CONFIG = MediaType("application/vnd.oci.image.config.v1+json")
DOCKER_CONFIG = MediaType("application/vnd.docker.container.image.v1+json")

# What a client accepts as a manifest, and so all that a site serves as one.
MANIFESTS = frozenset({OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
DOCKER = frozenset({DOCKER_MANIFEST, DOCKER_LIST})

# Docker's first manifests; their digest is not that of their bytes.
SCHEMA_1 = frozenset(
    {
        MediaType("application/vnd.docker.distribution.manifest.v1+json"),
        MediaType("application/vnd.docker.distribution.manifest.v1+prettyjws"),
    }
)
