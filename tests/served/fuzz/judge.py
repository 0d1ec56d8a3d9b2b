"""What is right in the answer to any request at all, however it is written.

A request that is written plainly has one right answer. Any other may be refused, or be read in one of the ways that
HTTP allows; what is served must be what the site has under the path that was read so.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote_to_bytes

from tests.served.fuzz.contents import (
    NAME,
    Api,
    Blob,
    Contents,
    Found,
    Listing,
    Manifest,
    Missing,
    Referrers,
    Text,
)
from tests.served.fuzz.wire import Request
from tests.support import requests_table
from tests.support.http import Answer

SECRET = requests_table.SECRET
WEBSITE = b"a page of the website"
JSON = "application/json"
INDEX = "application/vnd.oci.image.index.v1+json"
STATUS = {
    "BLOB_UNKNOWN": {404},
    "DENIED": {403},
    "DIGEST_INVALID": {400},
    "MANIFEST_INVALID": {400},
    "MANIFEST_UNKNOWN": {404},
    "NAME_INVALID": {400},
    "NAME_UNKNOWN": {404},
    "SIZE_INVALID": {400, 416},
    "TOOMANYREQUESTS": {429},
    "UNAUTHORIZED": {401},
    "UNAVAILABLE": {503},
    "UNSUPPORTED": {400, 404, 405, 412, 416},
}
ONE_OF_EACH = ("Content-Type", "Content-Length", "Cache-Control", "ETag", "Docker-Content-Digest", "Link", "Allow")
NEVER = ("Content-Encoding", "Transfer-Encoding", "Location", "Set-Cookie", "X-Evil")
OF_CONTENT = ("Docker-Content-Digest", "ETag", "Link", "OCI-Filters-Applied", "Content-Range", "Last-Modified")
OF_REGISTRY = (b'"schemaVersion"', b'"tags"', b'"repositories"', b'"manifests"')
_KEYS = ("n", "last", "ns", "artifactType")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._:@+/-]*")
_PLAIN_VALUE = {
    "n": re.compile(r"[0-9A-Za-z.-]{0,200}"),
    "last": re.compile(r"(?:[A-Za-z0-9._-]|/|%2F){0,100}"),
    "ns": re.compile(r"[a-z0-9]+(?:[.-]+[a-z0-9]+)*(?:(?::|%3[Aa])[0-9]+)?"),
    "artifactType": re.compile(
        r"(?:(?:[A-Za-z0-9][A-Za-z0-9._-]{0,50}(?:/|%2[Ff])[A-Za-z0-9][A-Za-z0-9._-]{0,50}(?:%2B[a-z]+)?)?)"
    ),
}
_TYPE = re.compile(r"[A-Za-z0-9][\w.-]{0,63}/[A-Za-z0-9][\w.-]{0,119}(?:\+[\w.-]{1,60})?", re.ASCII)
_CONDITIONS = ("Range", "If-Match", "If-None-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since")
_LINK = re.compile(
    r'<(/v2/[a-z0-9._/-]+(?:_catalog|tags/list)|/v2/_catalog)\?n=([0-9]+)&last=([A-Za-z0-9._~%-]+)>; rel="next"'
)


# how a request may be read


def is_plain(request: Request) -> bool:
    """It is written so that there is one way only to read it."""
    path, query = request.path.decode("latin-1"), request.query.decode("latin-1")
    if not _PLAIN_PATH.fullmatch(path) or posixpath.normpath(path) != (path.rstrip("/") or "/") or "//" in path:
        return False
    if max(map(len, path.split("/"))) > 200 or len(path) > 1000 or request.version != b"HTTP/1.1":
        return False
    pairs = [each.partition("=") for each in query.split("&")] if query else []
    keys = [key.lower() for key, _, _ in pairs if key.lower() in map(str.lower, _KEYS)]
    if len(keys) != len(set(keys)) or any(not re.fullmatch(r"[\w.-]*", key, re.ASCII) for key, _, _ in pairs):
        return False
    return (
        all(
            key in _PLAIN_VALUE and _PLAIN_VALUE[key].fullmatch(value)
            for key, _, value in pairs
            if key.lower() in map(str.lower, _KEYS)
        )
        and re.fullmatch(r"[\w.~:/%=&-]*", query, re.ASCII) is not None
    )


def is_well_formed(request: Request) -> bool:
    """HTTP allows it, within the limits of a server: no server may refuse it before it looks for what is asked."""
    target = re.sub(rb"^(?i:https?)://[a-z0-9.-]+(?::[0-9]+)?(?=/)", b"", request.target)
    if not target.startswith(b"/") or re.search(rb"[\x00-\x20\x7f]", target) or len(target) > 7950:
        return False
    path = target.partition(b"?")[0]
    if re.search(rb"%(?![0-9A-Fa-f]{2})|%00", path) or _climbs(path.partition(b"#")[0]):
        return False
    if not re.fullmatch(rb"[A-Z]+", request.method) or request.method in (b"TRACE", b"CONNECT"):
        return False
    hosts = [value for name, value in request.fields if name.lower() == b"host"]
    if request.version != b"HTTP/1.1" or len(hosts) != 1 or not re.fullmatch(rb"[a-z0-9.-]+(?::[0-9]+)?", hosts[0]):
        return False
    names = [name.lower() for name, _ in request.fields]
    if len(names) != len(set(names)):
        return False
    names = [name.lower() for name, _ in request.fields]
    if len(names) != len(set(names)):
        return False
    return all(len(name + value) < 7900 and not re.search(rb"[\x00-\x1f\x7f]", value) for name, value in request.fields)


def _climbs(path: bytes) -> bool:
    """Some `..` leads above the root."""
    depth = 0
    for each in unquote_to_bytes(path).split(b"/"):
        depth += {b"..": -1, b".": 0, b"": 0}.get(each, 1)
        if depth < 0:
            return True
    return False


def paths(request: Request) -> list[str]:
    """The paths that the target may mean, the plainest reading first."""
    target = re.sub(rb"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*(?=/)", b"", request.target)
    found: dict[str, None] = {}
    path = target.partition(b"?")[0]
    for written in (path, path.partition(b"#")[0]):
        decoded = unquote_to_bytes(written).decode("latin-1")
        merged = re.sub("/+", "/", decoded)
        for each in (decoded, merged, _cleaned(decoded), _cleaned(merged), posixpath.normpath(merged)):
            found[each] = None
    return list(found)


def _cleaned(path: str) -> str:
    """Without `.` and `..`; a slash at the end stays."""
    parts: list[str] = []
    *directories, last = path.split("/")[1:] or [""]
    for each in directories:
        if each == "..":
            parts[-1:] = []
        elif each != ".":
            parts.append(each)
    if last == "..":
        parts[-1:] = []
    return "/" + "/".join([*parts, "" if last in (".", "..") else last])


def is_of_registry(request: Request) -> bool:
    """Each server takes the path for one below /v2."""
    if not is_well_formed(request):
        return False
    target = re.sub(rb"^[a-zA-Z]+://[^/?#]*(?=/)", b"", request.target).partition(b"?")[0]
    decoded = [unquote_to_bytes(each).decode("latin-1") for each in (target, target.partition(b"#")[0])]
    cleaned = [_cleaned(re.sub("/+", "/", each)) for each in decoded]
    return all(each == "/v2" or each.startswith("/v2/") for each in cleaned)


def _values(request: Request, key: str) -> list[str]:
    """The values that a parameter may have, however it was written: none, each, and all of them joined."""
    found: tuple[list[str], list[str]] = ([], [])  # as written, decoded
    others: list[str] = []
    for pair in re.split(r"[&;]", request.query.partition(b"#")[0].decode("latin-1")) + re.split(
        "[&]", request.query.decode("latin-1")
    ):
        written, _, value = pair.partition("=")
        odd = written != key or ";" in pair or re.search("%(?![0-9A-Fa-f]{2})", pair)
        if odd and _decoded(written.partition(";")[0]).lower() == key.lower():
            others.append("")  # not all take another spelling of the key for it, and Go drops what is malformed
        if _decoded(written).lower() == key.lower():
            found[0].append(value)
            found[1].append(_decoded(value))
    joined = [",".join(each) for each in found if len(each) > 1]
    spaced = [each.replace("+", " ") for each in found[0] if "+" in each]
    again = [_decoded(each) for each in spaced]
    if found[0] and b"#" in request.target:
        others.append("")  # nor what is behind a fragment
    return list(dict.fromkeys([*found[1], *found[0], *joined, *spaced, *again, *others]))


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode("latin-1")


def readings(contents: Contents, request: Request) -> list[Found]:
    """All that the request may ask for; one thing if it is plain."""
    if is_plain(request):
        path = request.path.decode()
        hosts = _values(request, "ns")[:1]
        return [contents.find(_below_upstream(contents, path, hosts[0]) if hosts else path)]
    found = []
    for path in paths(request):
        found += [path, *(_below_upstream(contents, path, host) for host in _values(request, "ns"))]
    return [contents.find(each) for each in dict.fromkeys(found)]


def _below_upstream(contents: Contents, path: str, host: str) -> str:
    """The path that `ns` makes of another."""
    upstream = re.sub(r":([0-9]+)\Z", r"_\1", host)
    if not NAME.fullmatch(upstream) or upstream not in contents.upstreams or not re.match(r"/v2/[^_]", path):
        return path
    return path if path.startswith(f"/v2/{upstream}/") else f"/v2/{upstream}/{path[4:]}"


# what is wrong with an answer


class Judge:
    """Finds what is wrong with an answer of one kind of server to a request."""

    def __init__(self, contents: Contents, server: str) -> None:
        self._contents = contents
        self._server = server

    def faults(self, request: Request, answer: Answer) -> list[str]:
        """One line for each fault."""
        return list(dict.fromkeys(self._faults(request, answer)))

    def _faults(self, request: Request, answer: Answer) -> Iterator[str]:
        fields = "\n".join(f"{name}: {value}" for name, value in answer.fields).encode("latin-1")
        if any(each in answer.body or each in fields for each in (SECRET, b"root:x:")):
            yield "a secret is served"
        if self._is_servers_own(request, answer):
            if answer.all("Docker-Content-Digest"):
                yield "an answer of the server itself has a digest"
        elif not is_of_registry(request):
            yield from self._outside(request, answer)
        else:
            yield from _of_one_each(answer)
            yield from getattr(self, f"_{request.site}")(request, answer)

    def _is_servers_own(self, request: Request, answer: Answer) -> bool:
        """The server answers before it looks for any location; this list is meant to be short."""
        refused = answer.status in (400, 414, 431, 494, 501, 505) and not answer.all("Cache-Control")
        if refused and not is_well_formed(request):
            return True
        method = request.method.decode("latin-1")
        if self._server == "nginx":
            return answer.status == 405 and method in ("TRACE", "CONNECT")
        return False

    def _alone(self, request: Request, answer: Answer) -> Iterator[str]:
        yield from self._registry(request, answer)

    def _beside(self, request: Request, answer: Answer) -> Iterator[str]:
        if WEBSITE in answer.body:
            yield "the website answers what is the registry's"
        yield from self._registry(request, answer)

    def _guarded(self, request: Request, answer: Answer) -> Iterator[str]:
        """The password was not sent."""
        yield from _not_registrys(answer)
        if self._server == "caddy" and not is_plain(request) and answer.status in (200, 206, 304, 412, 416):
            return  # a page of the website, which its own rewrite leads to
        if answer.status not in (401, 503):
            yield f"status {answer.status} without the password"
        if answer.status == 401 and len(answer.all("WWW-Authenticate")) != 1:
            yield "401 that asks for nothing"
        if answer.status == 503:
            yield from _error(request, answer, {"UNAVAILABLE"})
        elif self._server == "nginx":
            yield from _error(request, answer, {"UNAUTHORIZED"})

    def _closed(self, request: Request, answer: Answer) -> Iterator[str]:
        """There is no site, and its absence is no fault of the client's."""
        if request.method in (b"GET", b"HEAD"):
            if self._server != "caddy" or any(_cleaned(each) != "/v2" for each in paths(request)):
                yield from _error(request, answer, {"UNAVAILABLE"})
        else:
            yield from _error(request, answer, {"UNSUPPORTED", "UNAVAILABLE"})

    def _outside(self, request: Request, answer: Answer) -> Iterator[str]:
        """What is perhaps not the registry's may still be answered by it, as it would be if it were written plainly."""
        if answer.status >= 500 and self._server == "nginx" and request.site != "closed":
            yield f"status {answer.status}"
        if request.site in ("guarded", "closed"):
            yield from _not_registrys(answer)
        elif list(_not_registrys(answer)):
            yield from self._registry(request, answer)

    def _registry(self, request: Request, answer: Answer) -> Iterator[str]:
        if request.method not in (b"GET", b"HEAD"):
            yield from _error(request, answer, {"UNSUPPORTED"})
            if answer.status != 405 or answer.all("Allow") != ["GET, HEAD"]:
                yield f"status {answer.status} and {answer.all('Allow')} for a method that is no pull's"
            return
        found = readings(self._contents, request)
        if is_plain(request):
            yield from self._as_it_is(found[0], request, answer)
        elif answer.status >= 400:
            yield from self._refusal(request, answer)
        else:
            verdicts = [list(self._as_it_is(each, request, answer)) for each in found]
            if all(verdicts):
                yield from min(verdicts, key=len)

    def _as_it_is(self, found: Found, request: Request, answer: Answer) -> Iterator[str]:
        """The answer is of what was asked for."""
        match found:
            case Missing(codes):
                yield from _error(request, answer, codes | _of_number(request) | _of_length(request))
            case Api() | Listing() | Referrers() | Text() if answer.status == 304:
                yield from _not_modified("", request, answer)
            case Listing() if answer.status != 412:
                yield from _listing(found, request, answer)
            case _:
                yield from self._content(found, request, answer)

    def _content(self, found: Found, request: Request, answer: Answer) -> Iterator[str]:
        if answer.status >= 400:
            yield from self._conditional_refusal(request, answer)
            return
        match found:
            case Api():
                yield from _expect(request, answer, JSON, b"{}", stripped=True)
                if answer.all("Docker-Distribution-API-Version") != ["registry/2.0"]:
                    yield "no version of the API"
            case Text(data):
                yield from _body(request, answer, data)
            case Referrers():
                yield from _referrers(found, request, answer)
            case Manifest():
                yield from _manifest(found, request, answer)
            case Blob():
                yield from _blob(found, request, answer)

    def _conditional_refusal(self, request: Request, answer: Answer) -> Iterator[str]:
        """There is content, and only a header of the request may refuse it."""
        allowed = {412: ("If-Match", "If-Unmodified-Since"), 416: ("Range",)}.get(answer.status, ())
        if not any(request.has(each) for each in allowed):
            yield f"status {answer.status} for what is there"
        yield from self._refusal(request, answer)

    def _refusal(self, request: Request, answer: Answer) -> Iterator[str]:
        """Any error that has the form of one."""
        if answer.status == 503 or (answer.status == 416 and not request.has("Range")):
            yield f"status {answer.status}"
        if answer.status == 416 and self._server == "caddy":
            yield from _error_fields(answer, {416})  # Caddy writes a line of text below the right header
        else:
            yield from _error(request, answer, set(STATUS))


def _of_length(request: Request) -> set[str]:
    """A path that is longer than any of the registry may be refused before it is read."""
    return {"NAME_INVALID"} if len(request.target) > 500 else set()


def _of_number(request: Request) -> set[str]:
    """A malformed number may be reported before an absent repository."""
    is_list = request.path.endswith((b"/tags/list", b"/_catalog"))
    return {"UNSUPPORTED"} if is_list and re.search(r"[^0-9]", "".join(_values(request, "n"))) else set()


def _of_one_each(answer: Answer) -> Iterator[str]:
    for name in ONE_OF_EACH:
        if len(answer.all(name)) > 1:
            yield f"{name} was sent {len(answer.all(name))} times: {answer.all(name)}"
    for name in NEVER:
        if answer.all(name):
            yield f"{name}: {answer.all(name)}"
    if len(answer.all("Content-Type")) != 1 and answer.status not in (304, 401):
        yield f"Content-Type was sent {len(answer.all('Content-Type'))} times"
    if any(re.search(r"\$scr|\{(?:scr|re|http|file|query|path|env)[._}]", value) for _, value in answer.fields):
        yield f"the name of a variable in a header: {answer.fields}"


def _not_registrys(answer: Answer) -> Iterator[str]:
    if answer.all("Docker-Content-Digest") or any(each in answer.body for each in OF_REGISTRY):
        yield f"status {answer.status} and content of the registry"


def _error(request: Request, answer: Answer, codes: Iterable[str]) -> Iterator[str]:
    statuses = set().union(*(STATUS[each] for each in codes))
    yield from _error_fields(answer, statuses)
    if answer.all("Content-Type") != [JSON]:
        yield f"an error of the type {answer.all('Content-Type')}"
    if request.method == b"HEAD":
        if answer.body:
            yield "a body for HEAD"
        return
    try:
        (error,) = json.loads(answer.body)["errors"]
        code, message = error["code"], error["message"]
    except (ValueError, KeyError, TypeError):
        yield f"no error in JSON: {answer.body[:200]!r}"
        return
    if code not in codes or answer.status not in STATUS[code] or not message:
        yield f"{answer.status} {code} and not one of {sorted(codes)}"


def _error_fields(answer: Answer, statuses: set[int]) -> Iterator[str]:
    if answer.status not in statuses:
        yield f"status {answer.status} and not one of {sorted(statuses)}"
    cache = ", ".join(answer.all("Cache-Control"))
    if "no-cache" not in cache and answer.status in (400, 404, 405, 503):
        yield f"an error that a cache may keep: {cache!r}"
    if "immutable" in cache or "public" in cache:
        yield f"an error that a cache keeps: {cache!r}"
    for name in OF_CONTENT:
        if answer.all(name) and answer.status != 416:
            yield f"an error with {name}: {answer.all(name)}"


def _body(request: Request, answer: Answer, data: bytes) -> Iterator[str]:
    if answer.body != (b"" if request.method == b"HEAD" else data):
        yield f"{len(answer.body)} bytes that are not the {len(data)} asked for: {answer.body[:200]!r}"
    if answer.all("Content-Length") != [str(len(data))]:
        yield f"Content-Length {answer.all('Content-Length')} for {len(data)} bytes"


def _expect(request: Request, answer: Answer, media_type: str, data: bytes, *, stripped: bool = False) -> Iterator[str]:
    if answer.status != 200:
        yield f"status {answer.status} and not 200"
    if answer.all("Content-Type") != [media_type]:
        yield f"Content-Type {answer.all('Content-Type')} and not {media_type}"
    if answer.all("Last-Modified"):
        yield "Last-Modified"
    if stripped and request.method == b"GET" and answer.body.strip() != data:
        yield f"the body {answer.body[:200]!r}"
    if not stripped:
        yield from _body(request, answer, data)


def _not_modified(digest: str, request: Request, answer: Answer) -> Iterator[str]:
    asked = request.field("If-None-Match")
    if not (digest and digest in asked) and "*" not in asked:
        yield f"304 though If-None-Match is {asked[:200]!r}"
    if answer.body:
        yield "304 with a body"
    if digest and answer.all("ETag") != [f'"{digest}"']:
        yield f"304 with ETag {answer.all('ETag')}"


def _cache(answer: Answer, *, stays: bool) -> Iterator[str]:
    (cache,) = answer.all("Cache-Control") or [""]
    if ("immutable" in cache) is not stays or ("no-cache" in cache) is stays:
        yield f"Cache-Control: {cache!r}"


def _manifest(found: Manifest, request: Request, answer: Answer) -> Iterator[str]:
    if answer.status == 304:
        yield from _not_modified(found.digest, request, answer)
    else:
        yield from _expect(request, answer, found.media_type, found.raw)
        yield from _identity(found.digest, answer)
    yield from _cache(answer, stays=not found.by_tag)


def _identity(digest: str, answer: Answer) -> Iterator[str]:
    if answer.all("Docker-Content-Digest") != [digest] or answer.all("ETag") != [f'"{digest}"']:
        yield f"digest {answer.all('Docker-Content-Digest')}, ETag {answer.all('ETag')}, and not {digest}"


def _blob(found: Blob, request: Request, answer: Answer) -> Iterator[str]:
    if answer.status == 304:
        yield from _not_modified(found.digest, request, answer)
    elif answer.status == 206:
        yield from _identity(found.digest, answer)
        yield from _ranges(found, request, answer)
    else:
        yield from _expect(request, answer, "application/octet-stream", found.data)
        yield from _identity(found.digest, answer)
        if not request.has("Range"):
            yield from _cache(answer, stays=True)


def _ranges(found: Blob, request: Request, answer: Answer) -> Iterator[str]:
    if not request.has("Range"):
        yield "206 without Range"
    (media_type,) = answer.all("Content-Type") or [""]
    separator = re.fullmatch(r"multipart/byteranges; *boundary=(\S+)", media_type)
    if request.method == b"HEAD":
        return
    if not separator:
        yield from _part(found, media_type, answer.all("Content-Range"), answer.body)
        return
    first, *parts = (b"\r\n" + answer.body).split(f"\r\n--{separator[1]}".encode())
    if first.strip() or not parts or parts.pop().strip() != b"--":
        yield "no multipart body"
    for part in parts:
        head, _, data = part.partition(b"\r\n\r\n")
        fields = dict(line.partition(": ")[::2] for line in head.decode("latin-1").strip().split("\r\n"))
        yield from _part(found, fields.get("Content-Type", ""), [fields.get("Content-Range", "")], data)


def _part(found: Blob, media_type: str, ranges: list[str], data: bytes) -> Iterator[str]:
    if media_type != "application/octet-stream":
        yield f"a part of the type {media_type!r}"
    match = re.fullmatch(rf"bytes (\d+)-(\d+)/{len(found.data)}", " ".join(ranges))
    if not data and (not found.data or (match and int(match[1]) == len(found.data) == int(match[2]) + 1)):
        return  # Go's answers for a blob without bytes, and to `bytes=-0`
    if not match or found.data[int(match[1]) : int(match[2]) + 1] != data or not data:
        yield f"{len(data)} bytes for the range {ranges}"


def _referrers(found: Referrers, request: Request, answer: Answer) -> Iterator[str]:
    types = [each for each in map(_as_type, _values(request, "artifactType")) if _TYPE.fullmatch(each)]
    filtered = answer.all("OCI-Filters-Applied")
    if is_plain(request) and bool(types) is not bool(filtered):
        yield f"filters {filtered} where the types {types} were asked for"
    wanted = [found.descriptors]
    if filtered:
        wanted = [[each for each in found.descriptors if each["artifactType"] == kind] for kind in types]
    yield from _expect(request, answer, INDEX, answer.body.strip(), stripped=True)
    yield from _cache(answer, stays=False)
    if request.method == b"GET":
        try:
            document = json.loads(answer.body)
        except ValueError:
            document = None
        if document not in [{"schemaVersion": 2, "mediaType": INDEX, "manifests": each} for each in wanted]:
            yield f"referrers {document}, filtered {filtered}, types {types}: {answer.body[:100]!r}"


def _as_type(text: str) -> str:
    return text.replace(" ", "+")


def _listing(found: Listing, request: Request, answer: Answer) -> Iterator[str]:
    """A whole list or a page of it (distribution-spec, "Listing Tags")."""
    sizes, starts = _values(request, "n") or [""], _values(request, "last") or [""]
    if answer.status >= 400:
        yield from _no_page(found, sizes, starts, request, answer)
        return
    yield from _cache(answer, stays=False)
    document = {"name": found.name} if found.name else {}
    pages = []
    for size, start in itertools.product(sizes, starts):
        page = _page(found, size, start)
        if page is not None:
            pages.append(page)
    if request.method == b"HEAD":
        yield from _expect(request, answer, JSON, b"", stripped=True)
        return
    yield from _expect(request, answer, JSON, answer.body)
    try:
        got = json.loads(answer.body)
        entries = got.pop(found.key)
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"no list: {answer.body[:200]!r}"
        return
    if got != document:
        yield f"the list of {got} where {document} was asked for"
    elif not any(_is_page(found, page, entries, answer) for page in pages):
        yield f"no page of n={sizes} last={starts}: {entries} with {answer.all('Link')}"


def _no_page(found: Listing, sizes: list[str], starts: list[str], request: Request, answer: Answer) -> Iterator[str]:
    if is_plain(request) and _page(found, sizes[0], starts[0]) is not None:
        yield f"status {answer.status} for a page that is there"
    is_number = re.fullmatch("[0-9]*", sizes[0])
    yield from _error(request, answer, {"UNSUPPORTED"})
    if is_plain(request) and answer.status != (404 if is_number else 400):
        yield f"status {answer.status}"


def _page(found: Listing, size: str, start: str) -> tuple[int, int, bool] | None:
    """Where the page begins, how many entries it has at most, and whether it may be all at once."""
    if not re.fullmatch("[0-9]*", size):
        return None
    number = int(size[-4000:] or 1000)
    if start and start not in found.entries:
        return (len(found.entries), 0, False) if number == 0 else None
    return (found.entries.index(start) + 1 if start else 0), number, not size and not start


def _is_page(found: Listing, page: tuple[int, int, bool], entries: list[str], answer: Answer) -> bool:
    begin, number, whole = page
    if whole:
        return entries == found.entries and not answer.all("Link")
    if number == 0:
        return entries == [] and not answer.all("Link")
    end = begin + len(entries)
    if entries != found.entries[begin:end] or len(entries) > number or (not entries and begin < len(found.entries)):
        return False
    if end == len(found.entries):
        return not answer.all("Link")
    link = _LINK.fullmatch(" ".join(answer.all("Link")))
    return bool(
        link
        and link[1] == found.path
        and int(link[2][-4000:]) == number
        and (link[3] == quote(entries[-1], safe="") or link[3].startswith("~"))
    )


def hashes(answer: Answer) -> bool:
    """The body is what its digest header says."""
    (digest,) = answer.all("Docker-Content-Digest")
    algorithm, _, encoded = digest.partition(":")
    return hashlib.new(algorithm, answer.body).hexdigest() == encoded
