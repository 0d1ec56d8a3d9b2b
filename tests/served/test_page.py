"""The page for people at /, in a real Chromium, from the real nginx and the real Caddy."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from scr_export.oci import mediatype
from scr_export.oci.listing import Listing
from scr_export.oci.name import RepositoryName
from scr_export.site.documents import listing
from scr_export.site.entries import HardLink, Symlink
from tests.support.browser import PHONE, REGISTRY, SIZES, Browser, Scheme, chromium
from tests.support.builders import (
    Built,
    link_image,
    write_artifact,
    write_image,
    write_index,
    write_signature,
    write_tags,
)
from tests.support.http import request
from tests.support.index_page import SOURCE
from tests.support.requests_table import Published, mismatches
from tests.support.runner import export
from tests.support.servers import HASHED, PASSWORD, Server, open_directory, start_caddy, start_nginx
from tests.support.waiting import wait_until

SPDX = "application/spdx+json"
COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json"
LONG_COMMAND = "RUN /bin/sh -c " + " && ".join(f"echo {number}" for number in range(40))
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>document.title='changed'</script>",
    "javascript:alert(1)",
    "a" * 600,
    "\u202egnp.exe",
    "'\"><svg/onload=alert(1)>",
    "${alert(1)}",
    "__proto__",
    "constructor",
]
MANY = 10_000

SECTION = (
    (Path(__file__).parents[2] / "examples/README.md").read_text().partition("## The page\n")[2].partition("\n## ")[0]
)
FOR_CADDY, BESIDE_NGINX, BESIDE_CADDY = (
    textwrap.dedent(each) for each in SECTION.split("\n\n") if each.startswith("    ")
)
SITE_IN_CADDY = f"root * SITE\nimport SITE/Caddyfile\n{FOR_CADDY}"
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


def start(name: str, site: Path, tmp: Path, server: str = "") -> Server:
    """A server of the site and its page, as README and examples have them; or with what `server` says."""
    if name == "nginx":
        return start_nginx(site, tmp, server=server)
    return start_caddy(site, tmp, server=(server or SITE_IN_CADDY).replace("SITE", str(site)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(autouse=True)
def usual_look(browser: Browser) -> None:
    browser.look()


class Shown:
    """A site that has some of everything that the page shows, and what it was made from."""

    def __init__(self, directory: Path) -> None:
        images = directory / "images"
        annotations = {
            "org.opencontainers.image.version": "1.0",
            "org.opencontainers.image.source": "https://git.example",
        }
        self.app = write_image(
            images / "library/app/1.0",
            layers=3,
            annotations=annotations,
            history=["ADD rootfs.tar /", LONG_COMMAND, "COPY app /usr/bin/app # buildkit"],
        )
        write_tags(images / "library/app", "1.9", "1.10", "latest", seed=10)
        self.multi = write_index(images / "library/multi/2.0", seed=20, platforms=("amd64", "arm64", "arm/v7"))
        write_artifact(
            images / f"library/multi/{self.multi.digest.replace(':', '-')}.sig",
            seed=21,
            artifact_type="application/vnd.oci.image.config.v1+json",
            payload_type=COSIGN,
        )
        self.sbom = write_artifact(
            images / "library/multi/sbom",
            seed=22,
            artifact_type=SPDX,
            empty_config=True,
            subject=self.multi,
            annotations={"org.example.tool": "a tool"},
            payload_type=SPDX,
        )
        write_artifact(images / "charts/demo/1.0.0_3", seed=30)
        self.hostile = write_image(
            images / "team/hostile/1",
            seed=40,
            layers=len(HOSTILE),
            layer_size=1,
            annotations={each: each for each in HOSTILE},
            history=HOSTILE,
        )
        write_signature(images / "team/hostile/other", self.hostile, seed=41)
        write_image(images / f"{'a-long-name/' * 12}app/{'t' * 128}", seed=50, docker=True)
        write_tags(images / "many/tags", *(f"v{number}" for number in range(40)), seed=60)
        write_index(images / "many/tags/sparse", seed=70, sparse=("arm64",))
        export(images, directory / "site")
        self.site = directory / "site"


@pytest.fixture(scope="module")
def shown() -> Iterator[Shown]:
    with open_directory() as directory:
        yield Shown(directory)


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def server(request: pytest.FixtureRequest, shown: Shown) -> Iterator[Server]:
    with open_directory() as directory, start(request.param, shown.site, directory) as server:
        yield server


@pytest.fixture(scope="module")
def one_server(shown: Shown) -> Iterator[Server]:
    """For what no server makes a difference to."""
    with open_directory() as directory, start("nginx", shown.site, directory) as server:
        yield server


def is_quiet(browser: Browser, server: Server) -> bool:
    """Whether the console got no message, and no request went to another place than the registry and its page."""
    assert browser.messages() == []
    found = {(url.scheme, url.hostname, url.port, url.path[:4]) for url, _ in browser.requests()}
    return found <= {("http", "127.0.0.1", server.port, path) for path in ("/", "/v2/")}


# How it is served


def test_the_page_is_served_at_the_root(server: Server) -> None:
    for path in ("/", "/?a=b"):
        answer = request(server.port, "GET", path)
        assert (answer.status, answer.body) == (200, SOURCE.read_bytes())
        assert (answer.one("Content-Type") or "").startswith("text/html")


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_the_page_changes_nothing_else(name: str, published: Published, open_tmp: Path) -> None:
    with start(name, published.site, open_tmp) as server:
        assert mismatches(server.port, published) == []
        for path in ("/nginx.conf", "/Caddyfile", "/images.txt", "/.scr-export/lock", "/.scr-export/state.json"):
            assert request(server.port, "GET", path).status == 404
        if name == "caddy":  # which serves nothing of the site but this page
            for path in ("/secret.json", "/index.html", "/v2x", "//secret.json", "/./secret.json"):
                answer = request(server.port, "GET", path)
                assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_a_site_without_a_page_has_none_at_the_root(name: str, images: Path, open_tmp: Path) -> None:
    write_image(images / "app/v1")
    export(images, open_tmp / "site", "--no-html")
    with start(name, open_tmp / "site", open_tmp) as server:
        assert request(server.port, "GET", "/").status in (403, 404)
        assert request(server.port, "GET", "/v2/").status == 200


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_an_operators_own_page_is_served(name: str, images: Path, open_tmp: Path) -> None:
    write_image(images / "app/v1")
    export(images, open_tmp / "site")
    (open_tmp / "site/index.html").write_text("<h1>ours</h1>")
    assert [each["code"] for each in export(images, open_tmp / "site")["warnings"]] == ["foreign"]
    with start(name, open_tmp / "site", open_tmp) as server:
        assert request(server.port, "GET", "/").body == b"<h1>ours</h1>"


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_the_page_has_a_path_of_its_own_beside_a_website(
    browser: Browser, shown: Shown, open_tmp: Path, name: str
) -> None:
    (open_tmp / "index.html").write_text("<h1>the website</h1>")
    if name == "nginx":
        text = f"root {open_tmp}; include {shown.site}/nginx.conf; set $scr_root {shown.site}; {BESIDE_NGINX}"
    else:
        website = f"handle {{\nroot * {open_tmp}\nfile_server\n}}"
        text = f"root /v2/* SITE\nimport SITE/Caddyfile\n{BESIDE_CADDY}\n{website}"
    with start(name, shown.site, open_tmp, text.replace("/srv/site", str(shown.site))) as server:
        assert request(server.port, "GET", "/").body == b"<h1>the website</h1>"
        answer = request(server.port, "GET", "/registry")
        assert (answer.status, answer.body) == (200, SOURCE.read_bytes())
        browser.open(f"{server.url}/registry#library/app:1.0")
        browser.wait_for(".layers", "rootfs")
        browser.wait_for(".side .count", "6 repositories")
        assert browser.messages() == []


# What it shows


def test_a_path_through_the_page(browser: Browser, server: Server, shown: Shown) -> None:
    browser.open(server.url)
    browser.wait_for(".side .count", "6 repositories")
    browser.one(".side input").send_keys("APP lib")
    browser.wait_for(".side .count", "1 of 6 repositories")
    browser.click(".side .rows a", "library/app")
    browser.wait_for("h2", "library/app")
    browser.wait_for(".tags .count", "4 tags")
    assert browser.texts(".tags .tag") == ["latest", "1.10", "1.9", "1.0"]
    browser.wait_for(".tags .rows a", f"3 layers · {shown.app.digest[:19]}")
    browser.click(".tags .tag", "1.0")
    browser.wait_for(".facts", "1970-01-01 00:00 UTC")
    assert shown.app.digest in browser.one(".facts").text
    assert f"linux/{json.loads(blob(shown.app, 'config'))['architecture']}" in browser.one(".facts").text
    layers = browser.texts(".layers > li")
    descriptors = json.loads(shown.app.raw)["layers"]
    assert len(layers) == 3
    for layer, descriptor in zip(layers, descriptors, strict=True):
        assert descriptor["digest"][:19] in layer
        assert f"{descriptor['size'] / 1000:.1f} kB" in layer
    assert "ADD rootfs.tar /" in layers[0]
    assert layers[2].endswith("COPY app /usr/bin/app")
    assert "echo 39" not in layers[1]
    browser.click(".layers summary", "RUN /bin/sh -c")
    browser.wait_for(".layers > li", "echo 39")
    browser.click(".fold > summary", "Configuration")
    browser.wait_for(".fold", "seed")
    browser.wait_for(".card", "https://git.example")
    assert browser.driver.title == f"library/app:1.0 · {server.address}"
    browser.driver.back()
    browser.wait_for(".tags .tag", "1.10")
    assert is_quiet(browser, server)


def blob(built: Built, name: str) -> bytes:
    return built.blobs[json.loads(built.raw)[name]["digest"]]


def test_an_index_shows_its_platforms_signatures_and_referrers(browser: Browser, server: Server, shown: Shown) -> None:
    browser.open(f"{server.url}/#library/multi:2.0")
    browser.wait_for(".platforms summary", "linux/arm/v7")
    entries = json.loads(shown.multi.raw)["manifests"]
    assert [text.split()[0] for text in browser.texts(".platforms .name")] == [
        "linux/amd64",
        "linux/arm64",
        "linux/arm/v7",
    ]
    for entry, position in zip(entries, (1, 2, 3), strict=True):
        manifest = json.loads(shown.multi.manifests[entry["digest"]][1])
        total = sum(each["size"] for each in (manifest["config"], *manifest["layers"]))
        browser.wait_for(f".platforms > :nth-child({position}) .size", f"{total / 1000:.1f} kB")
    browser.click(".platforms summary", "linux/arm64")
    browser.wait_for(".platforms .inside", entries[1]["digest"][:19])
    assert len(browser.texts(".platforms .layers > li")) == 2
    browser.wait_for(".card", "1 signature")
    assert "This page does not verify them." in browser.one("main").text
    referrers = browser.texts(".referrers > li")
    assert len(referrers) == 2
    assert "SPDX bill of materials" in referrers[0]
    assert "cosign signature" in referrers[1]
    browser.click(".referrers a", shown.sbom.digest[:19])
    browser.wait_for(".facts", "SPDX bill of materials")
    browser.wait_for(".facts a", shown.multi.digest[:19])  # what it refers to
    download = browser.one(".layers a[download]").get_attribute("href") or ""
    path = urlsplit(download).path
    assert request(server.port, "GET", path).body == next(data for data in shown.sbom.blobs.values() if data != b"{}")
    assert is_quiet(browser, server)


def test_a_manifest_is_asked_for_by_all_its_types(browser: Browser, one_server: Server) -> None:
    browser.open(f"{one_server.url}/#library/app:1.0")
    browser.wait_for(".layers", "rootfs")
    (accept,) = [accept for url, accept in browser.requests() if url.path == "/v2/library/app/manifests/1.0"]
    assert set(accept.split(", ")) == set(mediatype.MANIFESTS)


def test_tags_of_signatures_are_shown_when_they_are_asked_for(browser: Browser, one_server: Server) -> None:
    browser.open(f"{one_server.url}/#library/multi")
    browser.wait_for(".tags .tag", "2.0")
    assert browser.texts(".tags .tag") == ["sbom", "2.0"]
    browser.click(".tags label", "Show 1 tag of signatures and attachments")
    browser.wait_for(".tags .tag", ".sig")
    browser.wait_for(".tags .facts-line", "cosign signature")
    assert is_quiet(browser, one_server)


def test_a_platform_that_was_not_copied_is_told(browser: Browser, one_server: Server) -> None:
    browser.open(f"{one_server.url}/#many/tags:sparse")
    browser.wait_for(".platforms > :nth-child(1) .size", "kB")
    browser.wait_for(".platforms > :nth-child(2) .size", "not in this registry")
    browser.click(".platforms summary", "linux/arm64")
    browser.wait_for(".platforms .note", "The registry does not have this. (manifest unknown to registry, status 404)")


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("library/app", ("h2", "library/app")),
        ("library/app:1.9", ("h2", "library/app:1.9")),
        ("/library/app:1.9", ("h2", "library/app:1.9")),
        ("library%2Fapp%3A1.9", ("h2", "library/app:1.9")),
        ("library/multi@DIGEST", ("h2", "library/multi@sha256:")),
        ("library/multi:2.0@DIGEST", ("h2", "library/multi@sha256:")),
        ("<b>x</b>", (".note", "This cannot be the name of an image.")),
        ("../../x:1", (".note", "This cannot be the name of an image.")),
        ("%", (".note", "This cannot be the name of an image.")),
        ("app:1@sha256:1", (".note", "This cannot be the name of an image.")),
        ("library/app:none", (".note", "The registry does not have this. (manifest unknown to registry, status 404)")),
        ("none", (".note", "The registry does not have this. (repository name not known to registry, status 404)")),
        ("/", ("h2", "Choose a repository")),
    ],
)
def test_an_address_leads_to_what_it_names(
    browser: Browser, one_server: Server, shown: Shown, fragment: str, expected: tuple[str, str]
) -> None:
    browser.open(f"{one_server.url}/#{fragment.replace('DIGEST', shown.multi.digest)}")
    browser.wait_for(*expected)


def test_the_filter_takes_what_is_in_a_manifest_of_kubernetes(browser: Browser, one_server: Server) -> None:
    browser.open(one_server.url)
    browser.wait_for(".side .count", "6 repositories")
    browser.one(".side input").send_keys(f"{one_server.address}/library/app:1.9")
    browser.wait_for(".side .count", "1 of 6")
    browser.press(Keys.ENTER)
    browser.wait_for("h2", "library/app:1.9")
    browser.one(".side input").send_keys(Keys.ESCAPE, "nowhere/else")
    browser.wait_for(".side .count", "0 of 6 repositories. Look for it")
    browser.click(".side .count a", "Look for it")
    browser.wait_for(".note", "repository name not known")
    browser.wait_for("h2", "nowhere/else")


def test_the_page_says_what_to_type_without_script(browser: Browser, one_server: Server) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(one_server.url)
        text = browser.one("body").text
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "docker pull HOST/NAME:TAG" in text
    assert "curl URL/v2/_catalog" in text
    assert "Choose a repository" not in text


# Commands


def commands(browser: Browser) -> list[str]:
    browser.wait_for(".commands", "skopeo copy")
    return browser.texts(".commands code")


def test_the_commands_are_for_this_host(browser: Browser, one_server: Server, shown: Shown) -> None:
    browser.open(f"{one_server.url}/#library/app:1.0")
    host = one_server.address
    reference = f"{host}/library/app:1.0"
    assert commands(browser) == [
        f"docker pull {reference}",
        f"podman pull --tls-verify=false {reference}",
        f"crictl pull {reference}",
        f"skopeo copy --all --src-tls-verify=false docker://{reference} dir:app-1.0",
    ]
    browser.click("label", "by digest")
    assert commands(browser)[0] == f"docker pull {host}/library/app@{shown.app.digest}"
    browser.open(f"{one_server.url}/#charts/demo:1.0.0_3")
    assert commands(browser) == [
        f"helm pull --plain-http oci://{host}/charts/demo --version 1.0.0+3",
        f"oras pull --plain-http {host}/charts/demo:1.0.0_3",
        f"skopeo copy --all --src-tls-verify=false docker://{host}/charts/demo:1.0.0_3 dir:demo-1.0.0_3",
    ]


def test_a_command_of_the_page_pulls_the_image(browser: Browser, server: Server, shown: Shown, tmp_path: Path) -> None:
    browser.open(f"{server.url}/#library/multi:2.0")
    command = next(each for each in commands(browser) if each.startswith("skopeo"))
    done = subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "multi-2.0/manifest.json").read_bytes() == shown.multi.raw


@pytest.mark.parametrize("host", ["127.0.0.1", REGISTRY])
def test_a_button_copies_its_command(browser: Browser, one_server: Server, shown: Shown, host: str) -> None:
    """Also on a page that came without TLS from another host, which has no `navigator.clipboard`."""
    browser.open(f"http://{host}:{one_server.port}/#library/app:1.0")
    has_clipboard = browser.script("return Boolean(navigator.clipboard)")
    assert has_clipboard is (host != REGISTRY)
    assert commands(browser)[0].startswith("docker")
    browser.click(".commands li:nth-child(2) button", "Copy")
    browser.wait_for(".commands li:nth-child(2) button", "Copied")
    browser.wait_for(".said", "Copied the command for podman")
    expected = f"podman pull --tls-verify=false {host}:{one_server.port}/library/app:1.0"
    assert browser.pasted(".side input") == expected
    browser.one(".facts button").click()
    browser.wait_for(".facts button", "Copied")
    assert browser.pasted(".side input") == shown.app.digest


# Keyboard, colours, width


def test_everything_is_reached_by_the_keyboard(browser: Browser, server: Server, shown: Shown) -> None:
    browser.open(server.url)
    browser.wait_for(".side .count", "6 repositories")
    browser.press(Keys.TAB, Keys.TAB)
    assert browser.focused() == "Filter repositories"
    assert_outlined(browser)
    browser.press("library", Keys.ARROW_DOWN)
    assert browser.focused() == "library/app"
    assert_outlined(browser)
    browser.press(Keys.ARROW_DOWN)
    assert browser.focused() == "library/multi"
    browser.press(Keys.HOME)
    assert browser.focused() == "library/app"
    browser.press(Keys.ARROW_UP)
    assert browser.focused() == "Filter repositories"
    browser.press(Keys.TAB, Keys.END, Keys.ENTER)
    browser.wait_for(".tags .tag", "2.0")
    assert browser.script("return document.activeElement.tagName") == "H2"
    walk_to(browser, "sbom")
    browser.press(Keys.ARROW_DOWN)
    assert browser.focused().startswith("2.0")
    assert_outlined(browser)
    browser.press(Keys.ENTER)
    browser.wait_for(".platforms summary", "linux/arm64")
    browser.wait_for(".referrers", "SPDX")
    for text in ("Copy the digest", "Copy the command for crictl", "linux/arm64"):
        walk_to(browser, text)
        assert_outlined(browser)
    browser.press(Keys.ENTER)
    browser.wait_for(".platforms .inside", json.loads(shown.multi.raw)["manifests"][1]["digest"][:19])
    walk_to(browser, shown.sbom.digest[:19])
    browser.press(Keys.ENTER)
    browser.wait_for(".facts", "SPDX bill of materials")
    browser.press("/")
    assert browser.focused() == "Filter repositories"
    assert is_quiet(browser, server)


def walk_to(browser: Browser, text: str) -> None:
    """Press the tabulator key until what has the focus has this text."""
    for _ in range(60):
        browser.press(Keys.TAB)
        if text in browser.focused():
            return
    pytest.fail(f"no tabulator key leads to {text!r}")


def assert_outlined(browser: Browser) -> None:
    assert browser.script("return getComputedStyle(document.activeElement).outline").endswith("solid 2px")


# What is looked at, and where which text is there once all of it is.
VIEWS = {
    "": (".side .rows", "app"),
    "library/app": (".tags .facts-line", "layers"),
    "library/app:1.0": (".layers", "rootfs"),
    "library/multi:2.0": (".referrers", "SPDX"),
    "charts/demo:1.0.0_3": (".layers", "Download"),
    "team/hostile:1": (".layers", "constructor"),
    f"{'a-long-name/' * 12}app:{'t' * 128}": (".layers", "sha256"),
    "none:1": (".note", "does not have this"),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_is_legible_and_nothing_is_wider_than_the_window(
    browser: Browser, one_server: Server, size: str, scheme: Scheme
) -> None:
    browser.look(SIZES[size], scheme)
    for number, (fragment, (place, text)) in enumerate(VIEWS.items()):
        browser.open(f"{one_server.url}/#{fragment}")
        browser.wait_for(place, text)
        browser.script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        if "multi" in fragment:
            browser.wait_for(".platforms > :nth-child(3) .inside", "Layers")
        found = browser.contrasts()
        assert len(found) > 5
        assert [(text, ratio) for text, ratio in found if ratio < 4.5] == []
        page, window = browser.width()
        assert page <= window
        assert browser.screenshot(f"{number}-{size}-{scheme}")


def test_a_phone_shows_the_list_or_what_was_chosen(browser: Browser, server: Server) -> None:
    browser.look(PHONE)
    browser.open(server.url)
    browser.click(".side .rows a", "tags")
    browser.wait_for("h2", "many/tags")
    assert browser.texts(".side .rows a") == []
    browser.wait_for(".tags .tag", "v39")
    browser.script("scrollTo(0, 1200)")
    browser.click(".tags .tag", "v15")
    browser.wait_for("h2", "many/tags:v15")
    assert browser.script("return scrollY") == 0
    browser.driver.back()
    browser.wait_for(".tags .tag", "v15")
    wait_until(lambda: browser.script("return scrollY") == 1200)
    browser.script("scrollTo(0, 0)")
    browser.click(".back", "Repositories")
    browser.wait_for(".side .rows a", "tags")
    assert browser.texts("h2") == []
    assert browser.focused() == "many/tags"
    assert is_quiet(browser, server)


# Hostile, many, absent


def test_hostile_annotations_and_commands_are_text(browser: Browser, server: Server) -> None:
    browser.open(f"{server.url}/#team/hostile:1")
    browser.wait_for(".card dl", "constructor")
    browser.wait_for(".referrers", "application/x.sig")
    for text in HOSTILE:
        browser.wait_for("dd", text)
        browser.wait_for("dt", text)
    assert browser.all("main img, main script, main svg, main [onload], main [onerror]") == []
    assert browser.driver.title.startswith("team/hostile:1")
    assert is_quiet(browser, server)


def test_hostile_names_are_text(browser: Browser, images: Path, open_tmp: Path) -> None:
    """No export writes such names; a damaged site, or a host in its place, can have them."""
    write_image(images / "app/v1")
    write_image(images / "other/v1")
    export(images, open_tmp / "site")
    names = [*HOSTILE, "../../x", "a b", "x#y:z", "", "\ud800", "%", "%41"]
    for page in (open_tmp / "site/v2").glob("_pages@*/**/*"):
        if page.is_file() and not page.is_symlink():
            page.unlink()
            page.write_text(json.dumps({"repositories": [*names, None, 1, ["x"], {"a": "b"}]}))
    with start("nginx", open_tmp / "site", open_tmp) as server:
        browser.open(server.url)
        browser.wait_for(".side .count", f"{len(names)} repositories")
        code = "return [...document.querySelectorAll('.side .rows a')].map((each) => each.textContent.toWellFormed())"
        assert browser.script(code) == [name.replace("\ud800", "\ufffd") for name in names]
        assert browser.all(".side img, .side script, .side .rows svg") == []
        for number, name in enumerate(names):
            browser.script("document.querySelectorAll('.side .rows a')[arguments[0]].click()", number)
            if re.fullmatch("a+", name):
                browser.wait_for(".note", "does not accept this name. (invalid repository name, status 400)")
            elif name == "constructor":
                browser.wait_for(".note", "does not have this")
            elif name:
                browser.wait_for(".note", "This cannot be the name of an image.")
        assert browser.driver.current_url.startswith(server.url)
        assert {url.netloc for url, _ in browser.requests()} == {server.address}
        assert [each for each in browser.messages() if "status of 40" not in each] == []


ODD_DESCRIPTORS: list[object] = [
    *(None, 7, [], "x", {"digest": 7, "size": "x", "platform": 7, "annotations": 7, "mediaType": {}}),
    {"digest": f"sha256:{'0' * 64}", "size": -1, "platform": {"os": {}, "architecture": ["x"]}, "annotations": [[]]},
    {"digest": "x", "size": 2**60, "mediaType": "constructor", "artifactType": "__proto__"},
]
ODD: list[object] = [
    *(None, 7, "x", [], [{}], {"errors": 7}),
    {"repositories": {}, "tags": 7, "manifests": {}, "layers": 7, "config": [], "annotations": 7, "subject": 7},
    {"repositories": ["a"], "tags": ["1", 7], "manifests": ODD_DESCRIPTORS, "annotations": {"a": {"b": 1}, "c": None}},
    {
        "tags": ["1"] * 500,
        "layers": ODD_DESCRIPTORS * 100,
        "config": ODD_DESCRIPTORS[5],
        "history": ODD_DESCRIPTORS,
        "created": "never",
        "subject": {"digest": "<b>"},
    },
]


@pytest.mark.parametrize("document", ODD, ids=range(len(ODD)))
def test_no_answer_breaks_the_page(browser: Browser, shown: Shown, open_tmp: Path, document: object) -> None:
    """Whatever is asked, the answer is this document."""
    (open_tmp / "answer").write_text(json.dumps(document))
    header = f"add_header Docker-Content-Digest sha256:{'0' * 64};"
    text = f"root {shown.site}; location /v2/ {{ root /; {header} try_files {open_tmp}/answer =404; }}"
    with start("nginx", shown.site, open_tmp, text) as server:
        for fragment, place in (("", ".side .count"), ("a", ".tags .count"), ("a:1", ".commands")):
            browser.open(f"{server.url}/#{fragment}")
            browser.wait_for(place, "")
        browser.script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        browser.wait_for(".card", "Signatures and referrers")
        wait_until(lambda: browser.all(".loading") == [])
        assert [each for each in browser.texts(".note") if "This page cannot show that" in each] == []
        assert browser.messages() == []


@pytest.fixture(scope="module")
def many() -> Iterator[Path]:
    """A site whose list names ten thousand repositories; the last one is there, and has two thousand tags."""
    with open_directory("/dev/shm") as directory:
        write_image(directory / "one", layers=1)
        for number in range(2000):
            link_image(directory / "one", directory / f"images/zzz/v{number}")
        export(directory / "images", directory / "site", "--verify", "size")
        names = sorted(f"team-{number % 50:02}/app-{number:04}" for number in range(MANY - 1))
        write_catalog(directory / "site/v2", [*names, "zzz"])
        yield directory / "site"


def write_catalog(registry: Path, names: list[str]) -> None:
    """Put the list of these repositories in the place of that of a site, as an export would write it."""
    listed = Listing(None, tuple(RepositoryName(name) for name in names))
    pages = registry / listing.directory_name(listed)
    for name, file in listing.files(listed):
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        match file:
            case HardLink(path):
                (pages / name).hardlink_to(pages / path)
            case Symlink(target):
                (pages / name).symlink_to(target)
            case _:
                (pages / name).write_bytes(file)
    (registry / "_pages").unlink()
    (registry / "_pages").symlink_to(pages.name)


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_ten_thousand_repositories_have_few_rows(browser: Browser, many: Path, open_tmp: Path, name: str) -> None:
    with start(name, many, open_tmp) as server:
        browser.open(server.url)
        browser.wait_for(".side .count", "10,000 repositories")
        lists = [url.query for url, _ in browser.requests() if "_catalog" in url.path]
        assert len(lists) == MANY / 1000
        assert all("n=1000" in query for query in lists)
        assert few_rows(browser, ".side")
        browser.script("document.querySelector('.side').scrollTop = 1e9")
        browser.wait_for(".side .rows a", "zzz")
        assert few_rows(browser, ".side")
        browser.script("document.querySelector('.side').scrollTop = 44 * 5000")
        browser.wait_for(".side .rows a", "team-25/")
        assert few_rows(browser, ".side")
        browser.one(".side input").send_keys("app-0042")
        browser.wait_for(".side .count", "1 of 10,000 repositories")
        assert browser.texts(".side .rows a") == ["team-42/app-0042"]
        browser.one(".side input").send_keys(Keys.ESCAPE)
        browser.wait_for(".side .count", "10,000 repositories")
        browser.press(Keys.ARROW_DOWN, Keys.END)
        assert browser.focused() == "zzz"
        assert few_rows(browser, ".side")
        browser.press(Keys.ENTER)
        browser.wait_for(".tags .count", "2,000 tags")
        assert few_rows(browser, ".tags")
        browser.script("scrollTo(0, 1e9)")
        browser.wait_for(".tags .tag", "v0")
        browser.wait_for(".tags .facts-line", "1 layer")
        assert few_rows(browser, ".tags")
        assert len([url for url, _ in browser.requests() if "/manifests/" in url.path]) < 100
        assert browser.messages() == []


def few_rows(browser: Browser, place: str) -> bool:
    """Whether no more rows are in the document than fit into the window, and a few."""
    return 10 < len(browser.all(f"{place} .rows > li")) < 60


def test_the_chosen_repository_of_many_is_in_view(browser: Browser, many: Path, open_tmp: Path) -> None:
    with start("nginx", many, open_tmp) as server:
        browser.open(f"{server.url}/#team-30/app-0030")
        browser.wait_for(".side .rows a[aria-current]", "team-30/app-0030")
        top, bottom = browser.script(
            "const { top, bottom } = document.querySelector('.rows a[aria-current]').getBoundingClientRect();"
            "return [top, innerHeight - bottom]"
        )
        assert top > 100
        assert bottom > 0


def test_a_site_that_is_not_there_is_told(browser: Browser, shown: Shown, open_tmp: Path) -> None:
    site = open_tmp / "site"
    site.mkdir()
    for name in ("nginx.conf", "index.html"):
        shutil.copy(shown.site / name, site)
    with start("nginx", site, open_tmp) as server:
        browser.open(f"{server.url}/#library/app:1.0")
        sentence = "The registry is not available. (no readable site below the root of this server, status 503)"
        browser.wait_for(".side .note", sentence)
        browser.wait_for(".main .note", sentence)
        (site / "v2").symlink_to(shown.site / "v2")
        browser.click(".side .note button", "Try again")
        browser.wait_for(".side .count", "6 repositories")
        browser.click(".main .note button", "Try again")
        browser.wait_for(".layers", "rootfs")


def test_a_server_that_ended_is_told(browser: Browser, shown: Shown, open_tmp: Path) -> None:
    server = start("nginx", shown.site, open_tmp)
    try:
        browser.open(server.url)
        browser.wait_for(".side .count", "6 repositories")
    finally:
        server.stop()
    browser.click(".side .rows a", "library/app")
    browser.wait_for(".main .note", "The registry cannot be reached.")


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (200, "<h1>hello</h1>", "The answer is not one of a registry. Does another server answer below /v2/?"),
        (401, "", "The registry asks for a password. Reload this page to enter it. (status 401)"),
        (403, "[]", "The registry does not allow you to read this. (status 403)"),
        (429, "null", "The registry gets too many requests. Wait a moment, then try again. (status 429)"),
        (500, '{"errors":[{"message":"<b>full</b>"}]}', "The registry cannot answer. (<b>full</b>, status 500)"),
        (502, "<h1>Bad gateway</h1>", "The registry cannot answer. (status 502)"),
        (503, '{"errors":[7]}', "The registry is not available. (status 503)"),
    ],
)
def test_an_error_is_told_in_a_sentence(
    browser: Browser, shown: Shown, open_tmp: Path, status: int, body: str, sentence: str
) -> None:
    text = f"root {shown.site}; location /v2/ {{ default_type application/json; return {status} '{body}'; }}"
    with start("nginx", shown.site, open_tmp, text) as server:
        browser.open(f"{server.url}/#app:1")
        browser.wait_for(".side .note", sentence)
        browser.wait_for(".main .note", sentence)


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_the_page_works_behind_a_password(browser: Browser, shown: Shown, open_tmp: Path, name: str) -> None:
    (open_tmp / "htpasswd").write_text(f"user:{HASHED}\n")
    if name == "nginx":
        guard = f"auth_basic registry; auth_basic_user_file {open_tmp}/htpasswd;"
        text = f"root {shown.site}; {guard} include {shown.site}/nginx.conf;"
    else:
        text = f"basicauth {{\nuser {HASHED}\n}}\n{SITE_IN_CADDY}"
    with start(name, shown.site, open_tmp, text) as server:
        browser.open(f"http://user:{PASSWORD}@{server.address}/#library/app:1.0")
        browser.wait_for(".side .count", "6 repositories")
        browser.wait_for(".layers", "rootfs")
        assert commands(browser)[0] == f"docker pull {server.address}/library/app:1.0"
        assert is_quiet(browser, server)
