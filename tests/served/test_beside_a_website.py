"""The registry beside a website that has a root, pages and rules of its own: neither disturbs the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http import request
from tests.support.requests_table import Published, check_error, mismatches, publish
from tests.support.servers import HOST, Server, free_port, open_directory, start_caddy, start_nginx

Answers = dict[str, tuple[int, list[tuple[str, str]], bytes]]

PAGES = {
    "index.html": "<h1>home</h1>",
    "about.html": "about",
    "data.json": '{"data": 1}',
    "old.gz": "no registry's",
    "app.conf": "conf",
    "404.html": "our own 404",
    "405.html": "our own 405",
    ".hidden": "hidden",
    "v2.txt": "a file whose name begins like the registry",
    "dir/file.txt": "in a directory",
}
IN_HTTP = "gzip on; gzip_types *; gzip_min_length 1; charset utf-8; charset_types *; include /etc/nginx/mime.types;"
NGINX = {
    "its locations come first": """
        root WEBSITE; index index.html;
        location / { try_files $uri $uri/ =404; }
        location ~* \\.(json|gz|conf|html)$ { add_header X-Regex yes; expires 30d; }
        location ~ /\\. { return 403; }
        location ~ manifests { return 418; }
        include SITE/nginx.conf; set $scr_root SITE;""",
    "its locations come last": """
        include SITE/nginx.conf; set $scr_root SITE;
        root WEBSITE; index index.html;
        location ~* \\.(json|gz|conf|html)$ { add_header X-Regex yes; expires 30d; }
        location ~ /\\. { return 403; }
        location / { try_files $uri $uri/ =404; }""",
    "it has rules for all that it serves": """
        root WEBSITE; autoindex on; expires 1h; etag on; if_modified_since exact; max_ranges 1;
        error_page 404 /404.html; error_page 405 /405.html; error_page 400 403 /404.html;
        add_header X-Site yes always; default_type text/html; types { text/html json gz; }
        gzip_vary on; log_not_found off; server_tokens off; open_file_cache max=100 inactive=60s;
        include SITE/nginx.conf; set $scr_root SITE;""",
    "it falls back to one page": """
        root WEBSITE; error_page 404 =200 /index.html;
        location / { try_files $uri /index.html; }
        include SITE/nginx.conf; set $scr_root SITE;""",
}
CADDY = {
    "it falls back to one page": """
        root * WEBSITE
        root /v2/* SITE
        encode gzip {
            minimum_length 1
            match {
                header Content-Type *
            }
        }
        import SITE/Caddyfile
        handle {
            try_files {path} /index.html
            file_server
        }""",
    "it rewrites what is no file": """
        root * WEBSITE
        root /v2/* SITE
        import SITE/Caddyfile
        handle {
            @missing not file
            rewrite @missing /index.html
            file_server
        }""",
    "it has pages without a suffix": """
        root * WEBSITE
        root /v2/* SITE
        import SITE/Caddyfile
        handle {
            try_files {path} {path}.html {path}/index.html =404
            file_server
        }""",
    "it is below a prefix": """
        root * WEBSITE
        root /v2/* SITE
        import SITE/Caddyfile
        handle_path /files/* {
            file_server browse
        }
        handle {
            redir /old /about.html
            templates
            file_server
        }""",
    "it has one handle for everything": """
        root * WEBSITE
        root /v2/* SITE
        import SITE/Caddyfile
        handle {
            uri strip_suffix /
            rewrite /home /index.html
            try_files {path} {path}/ /404.html
            header X-Site yes
            file_server {
                hide .hidden
            }
        }
        handle_errors {
            respond "an error" 418
        }""",
    "it browses": """
        root * WEBSITE
        root /v2/* SITE
        import SITE/Caddyfile
        file_server browse""",
    "it has handles and headers": """
        root * WEBSITE
        root /v2/* SITE
        header X-Site yes
        @data path *.json *.gz *.conf
        header @data X-Data yes
        encode gzip zstd
        import SITE/Caddyfile
        handle /dir/* {
            respond "a handle" 200
        }
        handle {
            file_server
        }
        handle_errors {
            rewrite * /404.html
            file_server
        }""",
    "it redirects": """
        root * WEBSITE
        root /v2/* SITE
        redir /old /about.html
        rewrite /home /index.html
        import SITE/Caddyfile
        file_server""",
}
ASKED = [
    *("/", "/about.html", "/data.json", "/old.gz", "/app.conf", "/.hidden", "/v2.txt", "/dir/", "/dir/file.txt"),
    *("/none", "/none.json", "/old", "/home", "/about", "/files/about.html", "/files/"),
    *("/v2x", "/_scr", "/manifests/1", "/v1/"),
]
VOLATILE = ("date", "expires", "etag", "last-modified", "content-security-policy")
NONCE = rb'nonce="[^"]*"'  # in the listings of newer Caddys, another in each answer


@pytest.fixture(scope="module")
def website() -> Iterator[Path]:
    """The files of a website."""
    with open_directory() as directory:
        for name, text in PAGES.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(text)
        yield directory


def _start(name: str, text: str, site: Path, website: Path, tmp: Path) -> Server:
    text = text.replace("WEBSITE", str(website)).replace("SITE", str(site))
    if name == "nginx":
        return start_nginx(site, tmp, server=text, http=IN_HTTP)
    return start_caddy(site, tmp, server=text)


ROOTS = "root * WEBSITE\nroot /v2/* SITE\n"
WITHOUT_A_HANDLE = {
    "rewrite": ROOTS + "@missing not file\nrewrite @missing /index.html\n",
    "rewrite beside one root": "root * WEBSITE\n@missing not file\nrewrite @missing /index.html\n",
    "try_files beside one root": "root * WEBSITE\ntry_files {path} /index.html\n",
    "uri": ROOTS + "uri /v2/* replace /v2/ /registry/\n",
}


@pytest.mark.parametrize("lines", WITHOUT_A_HANDLE)
def test_a_rewrite_that_reaches_below_v2_is_reported_with_its_remedy(
    lines: str, published: Published, website: Path, open_tmp: Path
) -> None:
    """The README has the website's lines in a handle; without it no path below /v2 answers from the site."""
    text = f"{WITHOUT_A_HANDLE[lines]}import SITE/Caddyfile\nfile_server"
    with _start("caddy", text, published.site, website, open_tmp) as caddy:
        for path in ("/v2/<app>/manifests/1", "/v2/<app>/manifests/<digest>", "/v2/<app>/manifests/none"):
            for method in ("GET", "HEAD"):
                check_error(request(caddy.port, method, published.resolve(path)), method, 503, "UNAVAILABLE")
            body = request(caddy.port, "GET", published.resolve(path)).body
            assert b"put the website's lines into 'handle {" in body
        for path in ("/", "/about.html"):
            assert request(caddy.port, "GET", path).status == 200


def test_the_registry_answers_below_a_prefix(published: Published, open_tmp: Path) -> None:
    """Below a prefix the registry answers too; only a Link to a next page lacks the prefix."""
    text = f"handle_path /mirror/* {{\nroot * {published.site}\nimport {published.site}/Caddyfile\n}}"
    with start_caddy(published.site, open_tmp, server=text) as caddy:
        answer = request(caddy.port, "GET", published.resolve("/mirror/v2/<app>/manifests/<digest>"))
        assert answer.all("Docker-Content-Digest") == [published.words()["digest"]]
        answer = request(caddy.port, "GET", published.resolve("/mirror/v2/<app>/tags/list?n=1"))
        assert answer.one("Link") == published.resolve('</v2/<app>/tags/list?n=1&last=1>; rel="next"')


def _without_registry(text: str) -> str:
    """The website as it was before: every line of it that names no SITE."""
    return "\n".join(line for line in text.splitlines() if "SITE" not in line.replace("WEBSITE", ""))


def _answers(server: Server) -> Answers:
    """What the website answers, without what differs from one second to the next."""
    found: Answers = {}
    for path in ASKED:
        for method in ("GET", "HEAD", "POST"):
            for headers in ({}, {"Accept-Encoding": "gzip"}):
                answer = request(server.port, method, path, headers)
                fields = sorted(each for each in answer.fields if each[0].lower() not in VOLATILE)
                found[f"{method} {path} {headers}"] = (answer.status, fields, re.sub(NONCE, b"", answer.body))
    return found


CONFIGURATIONS = [("nginx", each) for each in NGINX] + [("caddy", each) for each in CADDY]


@pytest.fixture(scope="module", params=CONFIGURATIONS, ids=": ".join)
def beside(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The name of a server, and the configuration of a website."""
    name, title = request.param
    return name, (NGINX if name == "nginx" else CADDY)[title]


def test_a_website_does_not_change_the_registry(
    beside: tuple[str, str], published: Published, website: Path, open_tmp: Path
) -> None:
    with _start(*beside, published.site, website, open_tmp) as server:
        assert mismatches(server.port, published, {"Accept-Encoding": "gzip"}) == []


def test_the_registry_does_not_change_the_website(
    beside: tuple[str, str], published: Published, website: Path, open_tmp: Path
) -> None:
    name, text = beside
    with (
        _start(name, _without_registry(text), published.site, website, open_tmp) as before,
        _start(name, text, published.site, website, open_tmp) as after,
    ):
        expected, found = _answers(before), _answers(after)
    assert any(status == 200 and body for status, _, body in expected.values())
    assert {each: found[each] for each in found if found[each] != expected[each]} == {}


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_one_server_serves_two_sites(name: str, published: Published, open_tmp: Path) -> None:
    """One with a prefix before its names, the other without; one process, no word of the other in either."""
    other = publish(open_tmp / "other", prefix="mirror/of/", images=("docker/app:1", "oci/app:1", "list:latest"))
    port = free_port()
    if name == "nginx":
        http = f"server {{ listen {HOST}:{port}; root {other.site}; include {other.site}/nginx.conf; }}"
        server = start_nginx(published.site, open_tmp, http=http)
    else:
        block = f"http://:{port} {{\nbind {HOST}\nroot * {other.site}\nimport {other.site}/Caddyfile\n}}"
        server = start_caddy(published.site, open_tmp, beside=block)
    with server:
        assert mismatches(server.port, published) == []
        assert mismatches(port, other) == []
        assert request(server.port, "GET", "/v2/mirror/of/oci/app/manifests/1").codes == ["NAME_UNKNOWN"]
        assert request(port, "GET", "/v2/oci/app/manifests/1").codes == ["NAME_UNKNOWN"]
