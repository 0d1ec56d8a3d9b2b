"""What people, charts and tools write as references, one a line, and what each of them means."""

from __future__ import annotations

import pytest

from scr_export.clients.lookup import Lookup
from scr_export.clients.references import read_references
from scr_export.oci.name import RepositoryName
from scr_export.oci.reference import FullReference

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", "latest", None),
        ("nginx:1.25", "docker.io", "library/nginx", "1.25", None),
        ("docker.io/nginx", "docker.io", "library/nginx", "latest", None),
        ("index.docker.io/library/nginx", "docker.io", "library/nginx", "latest", None),
        ("bitnami/nginx:1", "docker.io", "bitnami/nginx", "1", None),
        ("quay.io/x/y", "quay.io", "x/y", "latest", None),
        ("quay.io/y", "quay.io", "y", "latest", None),
        ("localhost/app", "localhost", "app", "latest", None),
        ("localhost:5000/app:v1", "localhost:5000", "app", "v1", None),
        ("registry:5000/app", "registry:5000", "app", "latest", None),
        ("registry.example.com:5000/team/app:v1", "registry.example.com:5000", "team/app", "v1", None),
        ("10.0.0.1/app", "10.0.0.1", "app", "latest", None),
        ("[fd00::1]:5000/app:v1", "[fd00::1]:5000", "app", "v1", None),
        ("Registry/app", "registry", "app", "latest", None),
        ("localhost", "docker.io", "library/localhost", "latest", None),
        (f"nginx@{DIGEST}", "docker.io", "library/nginx", None, DIGEST),
        (f"quay.io/x/y:1.2@{DIGEST}", "quay.io", "x/y", None, DIGEST),
        (f"registry:5000/y@sha512:{HEX}{HEX}", "registry:5000", "y", None, f"sha512:{HEX}{HEX}"),
    ],
)
def test_a_reference_is_completed_as_clients_do(
    text: str, host: str, repository: str, tag: str | None, digest: str | None
) -> None:
    found = FullReference.parse(text)
    assert (found.host, found.repository, found.tag, found.digest) == (host, repository, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "nginx:",
        "Nginx",
        "quay.io/X/y",
        "quay.io/",
        "/nginx",
        "a//b",
        "nginx:1:2",
        "nginx:-1",
        "ng inx",
        "http://quay.io/x",
        "quay.io/x@1.2",
        f"quay.io/x@{DIGEST}0",
        f"quay.io/x@{DIGEST}@{DIGEST}",
        f"quay.io/x:bad tag@{DIGEST}",
        "-.io/x",
        "a" * 300,
    ],
)
def test_other_text_is_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        FullReference.parse(text)


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("quay.io/x/y:1", "quay.io/x/y:1"),
        ("  quay.io/x/y:1  ", "quay.io/x/y:1"),
        ("quay.io/x/y:1\r", "quay.io/x/y:1"),
        ("\ufeffnginx", "nginx"),
        ("- nginx", "nginx"),
        ("- 'nginx:1'", "nginx:1"),
        ('"nginx:1",', "nginx:1"),
        ("nginx # the web server", "nginx"),
        ("          image: nginx:1", "nginx:1"),
        ('          image: "quay.io/x/y:1"', "quay.io/x/y:1"),
        ("        - image: 'quay.io/x/y:1' # pinned", "quay.io/x/y:1"),
        ('"image": "nginx:1",', "nginx:1"),
        ('{"image":"nginx:1"', "nginx:1"),
        ("deploy/web.yaml:        image: nginx:1", "nginx:1"),
        ("deploy/web.yaml:12:      - image: nginx:1", "nginx:1"),
        ("deploy/web.yaml:image: nginx:1", "nginx:1"),
        ("initImage: nginx:1", "nginx:1"),
        ("sidecar_image: nginx:1", "nginx:1"),
        ("image:v1", "image:v1"),  # no key: a space is missing
        (f"image: quay.io/x/y:1@{DIGEST}", f"quay.io/x/y:1@{DIGEST}"),
        ("  - name: registry.redhat.io/ubi8/ubi:latest", "registry.redhat.io/ubi8/ubi:latest"),
        ("  - catalog: registry.redhat.io/redhat/index:v4.14", "registry.redhat.io/redhat/index:v4.14"),
        ("quay.io/x/y:1=mirror:5000/x/y:1", "quay.io/x/y:1"),
        ("docker://quay.io/x/y:1=docker://mirror:5000/x/y:1", "docker://quay.io/x/y:1"),
        ("oci://quay.io/charts/app:1.0", "oci://quay.io/charts/app:1.0"),
    ],
)
def test_a_line_is_read_as_tools_write_it(line: str, written: str) -> None:
    (found,) = read_references([line])
    assert (found.text, found.what) == (written, "")
    assert found.reference == FullReference.parse(written.removeprefix("docker://").removeprefix("oci://"))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "# nginx",
        "   # image: nginx",
        "---",
        "...",
        "-",
        "image:",
        'image: ""',
        "mirror:",
        "  additionalImages:",
        "  - name: stable-4.12",
        "kind: ImageSetConfiguration",
        "apiVersion: mirror.openshift.io/v1alpha2",
        "          imagePullPolicy: IfNotPresent",
        "web.yaml:9:  imagePullPolicy: Always",
    ],
)
def test_a_line_that_names_no_image_is_passed_over(line: str) -> None:
    assert list(read_references([line])) == []


@pytest.mark.parametrize(
    "line", ["two words", 'image: "{{ .Values.image }}"', "image: nginx:", "archiveSize: 4", "quay.io/x/y:", "x" * 9000]
)
def test_a_line_that_is_no_reference_is_told_with_its_number(line: str) -> None:
    first, second = read_references(["nginx", "", line])
    assert first.reference
    assert (second.number, second.reference) == (3, None)
    assert second.what


def look_up(text: str, *site: str, prefix: str = "", upstream: str | None = None) -> list[str]:
    return [*Lookup(map(RepositoryName, site), prefix, upstream).repositories(FullReference.parse(text))]


@pytest.mark.parametrize(
    ("text", "site", "found"),
    [
        # with the registry's name, as `skopeo sync --scoped` fills a site
        ("alpine", ["docker.io/library/alpine"], ["docker.io/library/alpine"]),
        ("quay.io/x/y", ["quay.io/x/y", "x/y"], ["quay.io/x/y"]),
        ("localhost:5000/app", ["localhost_5000/app"], ["localhost_5000/app"]),
        ("registry.example.com:5000/app", ["registry.example.com_5000/app"], ["registry.example.com_5000/app"]),
        # without it
        ("alpine", ["library/alpine"], ["library/alpine"]),
        ("alpine", ["alpine"], ["alpine"]),
        ("docker.io/library/alpine", ["alpine"], ["alpine"]),
        ("docker.io/team/app", ["team/app", "app"], ["team/app"]),
        ("quay.io/x/y", ["x/y", "y"], ["x/y"]),
        ("quay.io/alpine", ["library/alpine"], []),
        # what a registry has a directory for comes from there and from nowhere else, as by `?ns=`
        ("docker.io/library/alpine", ["docker.io/library/nginx", "library/alpine", "alpine"], []),
        ("quay.io/library/alpine", ["docker.io/library/alpine", "library/alpine"], ["library/alpine"]),
        ("quay.io/library/alpine", ["docker.io/library/alpine"], []),
        # as the site has it
        ("team/app", ["docker.io/library/alpine", "team/app"], ["team/app"]),
        ("localhost_5000/app", ["docker.io/library/alpine", "localhost_5000/app"], ["localhost_5000/app"]),
        ("registry.example.com_5000/app", ["registry.example.com_5000/app"], ["registry.example.com_5000/app"]),
        ("mirror:8080/docker.io/library/alpine", ["docker.io/library/alpine"], ["docker.io/library/alpine"]),
        ("mirror:8080/team/app", ["team/app", "docker.io/library/alpine"], ["team/app"]),
    ],
)
def test_a_reference_is_looked_up_as_servers_answer_it(text: str, site: list[str], found: list[str]) -> None:
    assert look_up(text, *site) == found


def test_a_prefix_is_put_before_every_name() -> None:
    site = ["prod/docker.io/library/alpine", "prod/team/app", "quay.io/x/y"]
    assert look_up("alpine", *site) == []
    assert look_up("alpine", *site, prefix="prod") == ["prod/docker.io/library/alpine"]
    assert look_up("quay.io/team/app", *site, prefix="prod") == ["prod/team/app"]
    assert look_up("team/other", *site, prefix="prod") == []


def test_names_without_a_registry_can_belong_to_one() -> None:
    site = ["library/alpine", "x/y", "ghcr.io/z"]
    assert look_up("quay.io/x/y", *site, upstream="quay.io") == ["x/y"]
    assert look_up("gcr.io/x/y", *site, upstream="quay.io") == []
    assert look_up("ghcr.io/z", *site, upstream="quay.io") == ["ghcr.io/z"]


def test_a_prefix_that_was_not_given_is_found() -> None:
    site = ["prod/1.0/docker.io/library/alpine", "prod/1.0/docker.io/library/nginx", "test/team/app"]
    lookup = Lookup(map(RepositoryName, site))
    assert lookup.prefix_of(map(FullReference.parse, ("alpine", "nginx", "quay.io/team/app"))) == ("prod/1.0", 2)
    assert lookup.prefix_of([FullReference.parse("quay.io/library/alpine")]) is None
