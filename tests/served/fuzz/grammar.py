"""Requests at random, from a seed: plain ones, and ones in which a part or two are not as they should be."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.served.fuzz.contents import MANY, Contents
from tests.served.fuzz.wire import Fields, Request
from tests.support import requests_table

SITES = ("alone", "alone", "alone", "alone", "beside", "beside", "guarded", "closed")
LENGTHS = (2, 9, 130, 260, 600, 4100, 7800)
HOST = (b"Host", b"registry.example")
# what means something to a server, a file system, a regex, a template or a cache
TOKENS = [
    *(b"..", b".", b"", b"/", b"//", b"%2e%2e", b"%2E.", b"..%2f", b"%2f", b"%2F..", b"\\", b"%5c", b"..%5c", b"..;"),
    *(b"%00", b"%00.json", b"%0a", b"%0d%0aX-Evil:%201", b"%20", b"%09", b"%7f", b"%ff", b"\xff", b"%c0%ae%c0%ae"),
    *(
        "ü".encode(),
        "名".encode(),
        b"%c3%bc",
        b"%e2%80%ae",
        b"%2500",
        b"%252e%252e",
        b"%252f",
        b"%25",
        b"%",
        b"%zz",
        b"%u002e",
    ),
    *(b"*", b"**", b"?", b"%3f", b"[", b"]", b"[a-z]*", b"%5b0-9%5d", b"{", b"}", b"{a,b}", b"%7b1,2%7d", b"@", b"*@*"),
    *(
        b"~",
        b":",
        b";",
        b"+",
        b"=",
        b"&",
        b"#",
        b"%23",
        b"!",
        b"|",
        b"%7c",
        b'"',
        b"%22",
        b"'",
        b"<",
        b">",
        b"%3e%3b",
        b"`",
    ),
    *(b"$scr_root", b"${document_root}", b"$uri", b"$1", b"\\1", b"{env.HOME}", b"{http.request.uri}", b"%7bpath%7d"),
    *(
        b"{re.scr_of.1}",
        b"{scr_digest}",
        b"{query.n}",
        b"(?s).*",
        b"^",
        b"$",
        b"\\z",
        b"%2f%2f",
        b"%2e",
        b"-",
        b"--",
        b"_",
        b"__",
    ),
    *(
        b"/..",
        b"/../..",
        b"/%2e%2e/%2e%2e/",
        b"/.scr-export/secret",
        b"/../../.scr-export/secret",
        b"../../../../secret",
    ),
    *(
        b"..%2f..%2f..%2f..%2f.scr-export%2fsecret",
        b"..%2f..%2f..%2f..%2f..%2fsecret",
        b"/etc/passwd",
        b"%2fetc%2fpasswd",
    ),
]
NAMES = [
    *(
        b"nothing",
        b"no/thing",
        b"Oci/app",
        b"oci/-app",
        b"oci",
        b"a",
        b"a/b",
        b"a..b",
        b"a___b",
        b"_app",
        b"app_",
        b"v2",
        b"v2/v2",
    ),
    *(
        b"v2/oci/app",
        b"library",
        b"docker.io",
        b"docker.io/oci/app",
        b"localhost:5000/library/app",
        b"",
        b"_catalog",
        b".",
    ),
]
REFERENCES = [
    *(
        b"1",
        b"none",
        b"latest",
        b"list",
        b"",
        b"_catalog",
        b"@all",
        b"_pages",
        b"uploads",
        b"sha256:",
        b"sha256:1",
        b":",
    ),
    *(
        b"md5:" + b"a" * 32,
        b"sha256:" + b"0" * 64,
        b"SHA256:" + b"0" * 64,
        b"sha512:" + b"0" * 64,
        b"sha512:" + b"f" * 128,
    ),
    *(
        b"sha384:" + b"0" * 96,
        b"sha256:" + b"g" * 64,
        b"x" * 129,
        b".hidden",
        b"-dash",
        b"to-etc",
        b"same",
        b"/same",
        b"blobs",
    ),
]
KINDS = [
    b"manifests",
    b"blobs",
    b"tags",
    b"referrers",
    b"list",
    b"tag",
    b"MANIFESTS",
    b"manifest",
    b"_pages",
    b"x",
    b"",
]
NUMBERS = [
    *(
        b"0",
        b"1",
        b"2",
        b"9",
        b"10",
        b"11",
        b"99",
        b"100",
        b"101",
        b"120",
        b"121",
        b"999",
        b"1000",
        b"1001",
        b"00",
        b"007",
    ),
    *(
        b"000010",
        b"9" * 30,
        b"",
        b"-1",
        b"+1",
        b"1.0",
        b"1e3",
        b"0x1",
        b"%31",
        b"%201",
        b"1%0a",
        b"x",
        b"1x",
        b"x1",
        b"-",
    ),
]
HOSTS = [
    *(
        b"docker.io",
        b"quay.io",
        b"localhost:5000",
        b"localhost%3A5000",
        b"localhost%3a5000",
        b"localhost_5000",
        b"ghcr.io",
    ),
    *(
        b"library",
        b"oci",
        b"oci/app",
        b"docker.io/library",
        b"v2",
        b"..",
        b".",
        b"",
        b"_pages",
        b"Docker.io",
        b"docker.io.",
    ),
    *(
        b"docker.io:",
        b"docker.io:443",
        b":5000",
        b"many",
        b"docker%2eio",
        b"docker.io%2f..",
        b"docker.io/../oci",
        b"*",
        b"d*",
    ),
]
METHODS = [
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"PROPFIND",
    b"MKCOL",
    b"get",
    b"X" * 30,
]
DATES = [b"Fri, 01 Jan 2100 00:00:00 GMT", b"Thu, 01 Jan 1970 00:00:00 GMT", b"yesterday", b""]
RANGES = [
    *(
        b"bytes=0-0",
        b"bytes=0-9",
        b"bytes=1-",
        b"bytes=-1",
        b"bytes=-0",
        b"bytes=5-2",
        b"bytes=99999999-",
        b"bytes=0-99999999",
    ),
    *(b"bytes=0-0,2-3", b"bytes=0-1,1-2,0-99", b"bytes=" + b"0-0," * 20 + b"1-1", b"bytes=" + b"0-," * 300 + b"0-"),
    *(
        b"bytes=,",
        b"bytes=",
        b"bytes",
        b"items=0-1",
        b"bytes=0-18446744073709551616",
        b"bytes=-99999999999999999999",
        b"bytes = 0-1",
    ),
    *(
        b"bytes=0-1, 3-4",
        b"BYTES=0-1",
        b"bytes=0-\t1",
        b"bytes=a-b",
        b"bytes=0-1;2-3",
        b"bytes=99999999-,0-0",
        b"bytes=-5,-3",
    ),
]
_T = TypeVar("_T")
EMPTY_DIGEST = b"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Grammar:
    """Makes requests to a server that has the contents; the same ones from the same seed."""

    def __init__(self, contents: Contents, seed: str) -> None:
        self._random = random.Random(seed)
        self._contents = contents
        self._names = sorted(contents.tags)
        self._tags = sorted({tag for tags in contents.tags.values() for tag in tags})
        self._digests = sorted({each for found in contents.manifests.values() for each in found})
        self._blobs = sorted({each for found in contents.blobs.values() for each in found})
        self._helpers = _helpers(contents)

    def request(self) -> Request:
        """The next request."""
        digest = ""
        path, query, digest = self._plain()
        target = path
        if self._random.random() < 0.6:
            for _ in range(self._random.choice((1, 1, 1, 2, 2, 3))):
                target = self._random.choice(self._mutations)(self, target)
        if query or self._random.random() < 0.25:
            target += b"?" + self._query(query)
        if not target or re.search(rb"[ \r\n\t\x0b\x0c]", target):
            target = re.sub(rb"[ \r\n\t\x0b\x0c]", b"%20", target) or b"/"
        method = self._pick([b"GET"] * 14 + [b"HEAD"] * 4) if self._random.random() < 0.93 else self._pick(METHODS)
        version = b"HTTP/1.0" if self._random.random() < 0.01 else b"HTTP/1.1"
        body = b"hello" if method in (b"POST", b"PUT", b"PATCH") and self._random.random() < 0.5 else b""
        return Request(self._pick(SITES), method, target, self._fields(digest.encode(), body), version, body)

    def _pick(self, choices: Sequence[_T]) -> _T:
        return self._random.choice(choices)

    # a plain request

    def _plain(self) -> tuple[bytes, list[tuple[bytes, bytes]], str]:
        """A path, parameters that fit, and the digest of what is there."""
        name = self._pick([*self._names, MANY])
        below = f"/v2/{name}"
        manifests, blobs = self._contents.manifests[name], self._contents.blobs[name]
        query = [(b"ns", self._pick(HOSTS[:6]))] if self._random.random() < 0.15 else []
        kind = self._random.random()
        if kind < 0.22:
            tag = self._pick(sorted(self._contents.tags[name]))
            return f"{below}/manifests/{tag}".encode(), query, self._contents.tags[name][tag].digest
        if kind < 0.38:
            digest = self._pick([*sorted(manifests), self._pick(self._digests)])
            return f"{below}/manifests/{digest}".encode(), query, digest
        if kind < 0.58:
            digest = self._pick([*sorted(blobs), self._pick(self._blobs)])
            return f"{below}/blobs/{digest}".encode(), query, digest
        if kind < 0.72:
            digest = self._pick([*sorted(manifests), *self._digests[:3]])
            return f"{below}/referrers/{digest}".encode(), query + self._of_type(), digest
        if kind < 0.97:
            is_tags = self._random.random() < 0.7
            path = f"{below}/tags/list" if is_tags else "/v2/_catalog"
            entries = sorted(self._contents.tags[name]) if is_tags else self._names
            return path.encode(), query + self._of_page(entries), ""
        return self._pick([b"/v2/", b"/v2", b"/v2/_images.txt"]), query, ""

    def _of_type(self) -> list[tuple[bytes, bytes]]:
        if self._random.random() < 0.4:
            return []
        kind = self._pick([*requests_table.TYPES, *requests_table.TYPES, *requests_table.NO_TYPES]).encode("latin-1")
        kind = kind.replace(b"<8k>", b"y" * 8000)[:7000]
        return [
            (b"artifactType", kind.replace(b"/", b"%2F").replace(b"+", b"%2B") if self._random.random() < 0.5 else kind)
        ]

    def _of_page(self, entries: list[str]) -> list[tuple[bytes, bytes]]:
        found = []
        if self._random.random() < 0.6:
            found.append((b"n", self._pick(NUMBERS)))
        if self._random.random() < 0.5:
            last = self._pick(entries).encode()
            found.append((b"last", last.replace(b"/", b"%2F") if self._random.random() < 0.5 else last))
        return found

    # its query

    def _query(self, plain: list[tuple[bytes, bytes]]) -> bytes:
        pairs = list(plain)
        while self._random.random() < 0.2:
            pairs.insert(self._random.randint(0, len(pairs)), (self._key(), self._value()))
        written = b"&".join(
            key + (b"=" + value if value or self._random.random() < 0.8 else b"") for key, value in pairs
        )
        while self._random.random() < 0.08:
            written = self._pick([self._insert, self._encode, self._repeat, self._drop])(written)
        return written

    def _key(self) -> bytes:
        return self._pick(
            [b"n", b"last", b"ns", b"artifactType", b"N", b"Last", b"NS", b"artifacttype", b"%6e", b"x", b"", b"n[]"]
        )

    def _value(self) -> bytes:
        return self._pick(
            [self._pick(NUMBERS), self._pick(HOSTS), self._pick(TOKENS), self._pick(self._tags).encode(), self._long()]
        )

    # what is wrong with the path

    def _insert(self, text: bytes) -> bytes:
        at = self._random.randint(0, len(text))
        return text[:at] + self._pick(TOKENS) + text[at:]

    def _encode(self, text: bytes) -> bytes:
        if not text:
            return text
        at = self._random.randrange(len(text))
        form = self._pick([b"%%%02x", b"%%%02X", b"%%25%02x", b"%%%02x"])
        return text[:at] + form % text[at] + text[at + 1 :]

    def _encode_all(self, text: bytes) -> bytes:
        share = self._pick([0.1, 0.5, 1])
        return text[:1] + b"".join(
            b"%%%02x" % each if self._random.random() < share else bytes([each]) for each in text[1:]
        )

    def _byte(self, text: bytes) -> bytes:
        at = self._random.randint(0, len(text))
        return text[:at] + b"%%%02x" % self._random.randrange(256) + text[at + self._random.randint(0, 1) :]

    def _drop(self, text: bytes) -> bytes:
        at = self._random.randint(0, len(text))
        return text[:at] + text[at + self._pick([1, 1, 2, 10]) :]

    def _long(self) -> bytes:
        unit = self._pick(
            [
                b"a",
                b"0",
                b":",
                b".",
                b"-",
                b"_",
                b"@",
                b"%41",
                b"%2f",
                b"a/",
                b"../",
                b"/",
                b"a.",
                b"a-",
                b"__",
                b"{",
                b"[",
                b"*",
            ]
        )
        return unit * (self._pick(LENGTHS) // len(unit))

    def _repeat(self, text: bytes) -> bytes:
        room = max(7800 - len(text), 0)
        at = self._random.randint(0, len(text))
        return text[:at] + self._long()[:room] + text[at:]

    def _component(self, text: bytes) -> bytes:
        """Another component, another number of them, or another order."""
        parts = text.split(b"/")
        at = self._random.randrange(len(parts))
        match self._random.randrange(5):
            case 0:
                parts[at] = self._word()
            case 1:
                parts.insert(at, self._word())
            case 2:
                del parts[at]
            case 3:
                parts.insert(at, parts[at])
            case 4:
                self._random.shuffle(parts)
        return b"/".join(parts) if parts[:1] == [b""] else b"/" + b"/".join(parts)

    def _word(self) -> bytes:
        words = [
            self._pick(TOKENS),
            self._pick(NAMES),
            self._pick(REFERENCES),
            self._pick(KINDS),
            self._pick(self._helpers),
        ]
        return self._pick(
            [*words, self._pick(self._helpers), self._pick(self._names).encode(), self._pick(self._tags).encode()]
        )

    def _name(self, text: bytes) -> bytes:
        match = re.fullmatch(rb"/v2/(.+)(/[a-z]+/[^/]+)", text)
        return b"/v2/" + self._pick([self._pick(NAMES), self._word()]) + match[2] if match else text

    def _reference(self, text: bytes) -> bytes:
        return text.rpartition(b"/")[0] + b"/" + self._pick([self._pick(REFERENCES), self._pick(self._helpers)])

    def _kind(self, text: bytes) -> bytes:
        return re.sub(
            rb"/(?:manifests|blobs|tags|referrers)/(?=[^/]*$)", lambda _: b"/" + self._pick(KINDS) + b"/", text
        )

    def _case(self, text: bytes) -> bytes:
        at = self._random.randint(0, len(text))
        return text[:at] + text[at : at + 3].swapcase() + text[at + 3 :]

    def _ending(self, text: bytes) -> bytes:
        return text + self._pick(
            [
                b"/",
                b"//",
                b"/.",
                b"/..",
                b"%2f",
                b"%20",
                b"#x",
                b";x",
                b"?",
                b"%00",
                b"%0a",
                b".",
                b"/*",
                b"/@all",
                b"@1",
            ]
        )

    def _beginning(self, text: bytes) -> bytes:
        return (
            self._pick(
                [
                    b"/",
                    b"/x/..",
                    b"/.",
                    b"http://registry.example",
                    b"http://x:1",
                    b"HTTP://x",
                    b"/v2",
                    b"/v2/..",
                    b"/%2e",
                    b"x",
                    b"*",
                ]
            )
            + text
        )

    def _helper(self, text: bytes) -> bytes:
        return self._pick(
            [b"/v2/", b"/v2/oci/app/", b"/", text + b"/", b"/v2//", b"/v2/./", b"/v2/x/../"]
        ) + self._pick(self._helpers)

    _mutations: tuple[Callable[[Grammar, bytes], bytes], ...] = (
        *(_insert, _insert, _insert, _encode, _encode, _encode_all, _byte, _drop, _repeat, _component, _component),
        *(_name, _name, _reference, _reference, _kind, _case, _ending, _beginning, _helper, _helper),
    )

    # its header

    def _fields(self, digest: bytes, body: bytes) -> Fields:
        fields = [
            HOST
            if self._random.random() < 0.98
            else (b"Host", self._pick([b"", b"x y", b"a/b", b"[::1]", b"x" * 300, b"evil\x01"]))
        ]
        if body:
            fields.append((b"Content-Length", b"%d" % len(body)))
        while self._random.random() < 0.35:
            fields.append(self._field(digest or EMPTY_DIGEST))
        twice = self._random.random() < 0.05
        return tuple(fields if twice else dict(fields).items())

    def _field(self, digest: bytes) -> tuple[bytes, bytes]:
        tag = self._pick(
            [
                b'"%s"' % digest,
                b'"%s"' % digest,
                b'W/"%s"' % digest,
                digest,
                b"*",
                b'"x"',
                b'"x", "%s"' % digest,
                b"",
                self._long(),
            ]
        )
        match self._random.randrange(9):
            case 0 | 1:
                return b"Range", self._pick(RANGES)
            case 2 | 3:
                return b"If-None-Match", tag
            case 4:
                return b"If-Range", self._pick([tag, self._pick(DATES)])
            case 5:
                return self._pick([b"If-Match", b"If-None-Match"]), tag
            case 6:
                return self._pick([b"If-Modified-Since", b"If-Unmodified-Since"]), self._pick(DATES)
            case 7:
                return b"Accept", self._pick(
                    [b"text/html", b"*/*", b"application/vnd.oci.image.manifest.v1+json", b"", self._long()]
                )
            case _:
                return self._pick(
                    [
                        (b"Accept-Encoding", b"gzip, br, zstd"),
                        (b"X-Original-URL", b"/.scr-export/secret"),
                        (b"X-Forwarded-Prefix", b"/.."),
                        (b"X-HTTP-Method-Override", b"DELETE"),
                        (b"Expect", b"100-continue"),
                        (b"Connection", b"close"),
                        (b"Authorization", b"Basic dXNlcjp3cm9uZw=="),
                        (b"X-" + b"a" * 200, self._long()),
                    ]
                )


def _helpers(contents: Contents) -> list[bytes]:
    """Names that are no part of the registry: the snippets' own, and those of all files that are in the site."""
    text = "".join((contents.site / each).read_text() for each in ("nginx.conf", "Caddyfile"))
    own = set(re.findall(r"/(_[a-z_0-9]*(?:/[a-z_0-9]+)*)|@(scr[a-z_]*)|/([a-z_]{3,})\b", text))
    words = {each for found in own for each in found if each}
    files = {path.relative_to(contents.site) for path in Path(contents.site).rglob("*")}
    names = {path.name for path in files} | {
        str(path).removeprefix("v2/") for path in files if "_pages" not in path.parts
    }
    special = {
        "nginx.conf",
        "Caddyfile",
        "images.txt",
        "index.html",
        ".scr-export",
        ".scr-export/secret",
        "secret",
        "v2",
    }
    pages = {f"_pages/{each}" for each in ("@all", "@1", "@0", "t000@1", "t000@1@t001", "oci/app@1")}
    return [each.encode() for each in sorted(words | names | special | pages)]
