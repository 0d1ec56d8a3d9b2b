"""Random requests, hostile ones among them: every answer is right, and none is expensive.

SCR_TEST_SEED      another seed (default 1)
SCR_TEST_REQUESTS  how many requests a server gets
SCR_TEST_REPLAY    one request, as a failure prints it: only that is sent
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.served.fuzz import cost, farm
from tests.served.fuzz.contents import Contents, publish
from tests.served.fuzz.farm import Asker, Farm
from tests.served.fuzz.grammar import Grammar
from tests.served.fuzz.judge import SECRET, Judge, is_of_registry
from tests.served.fuzz.wire import Request, parse
from tests.support.http import Answer
from tests.support.servers import START, Server, open_directory, start_nginx

SEED = os.environ.get("SCR_TEST_SEED", "1")
REQUESTS = int(os.environ.get("SCR_TEST_REQUESTS", "8000"))
REPLAY = os.environ.get("SCR_TEST_REPLAY", "")
_SEVERE = re.compile(r'\[(?:error|crit|alert|emerg)\]|"level":"(?:error|panic|fatal)"')
# nginx says so of a wrong password, and Caddy of a backslash in a website's own try_files
_OWN = re.compile(r'user "[^"]*":? (?:password mismatch|was not found)|"expanding glob"')
_BATCH = 250  # requests between two looks into the log
_SHOWN = int(os.environ.get("SCR_TEST_FAULTS", "10"))  # failures that are printed


@pytest.fixture(scope="module")
def contents() -> Iterator[Contents]:
    with open_directory() as directory:
        contents = publish(directory)
        farm.plant(contents)
        yield contents


@pytest.fixture(scope="module", params=START)
def servers(request: pytest.FixtureRequest, contents: Contents) -> Iterator[Farm]:
    with farm.run(request.param, contents) as running:
        yield running


def test_every_answer_is_right(servers: Farm, contents: Contents) -> None:
    grammar = Grammar(contents, f"{SEED}")
    requests = [parse(REPLAY)] if REPLAY else [grammar.request() for _ in range(REQUESTS)]
    failures: dict[str, str] = {}  # one failure for each kind of fault
    log = _Log(servers.server)
    with servers.connections() as asker:
        for at in range(0, len(requests), _BATCH):
            for fault, failure in _batch(asker, log, requests[at : at + _BATCH]):
                failures.setdefault(re.sub(r"[0-9a-f]{2,}|[0-9]+", "0", fault[:60]), failure)
            if len(failures) >= _SHOWN:
                break
    assert not failures, "\n".join([f"seed {SEED}:", *failures.values()])


class _Log:
    """What a server has written of level error or above since the last look."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._read = 0

    def new(self) -> list[str]:
        """The lines that have come, but those that are about the server's own."""
        with self._server.log_file.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        self._read += len(text)
        lines = [line for line in text.decode("latin-1").splitlines() if _SEVERE.search(line)]
        return [line for line in lines if not _OWN.search(line)]


def _batch(asker: Asker, log: _Log, requests: list[Request]) -> Iterator[tuple[str, str]]:
    """What is wrong with the answers to some requests, and what they left in the log."""
    for request in requests:
        if faults := asker.faults(request):
            yield faults[0], _failure(request, faults)
    if lines := log.new():
        yield from _logged(asker, log, requests, lines)


def _logged(asker: Asker, log: _Log, requests: list[Request], lines: list[str]) -> Iterator[tuple[str, str]]:
    """Which of the requests left the lines in the log, found by sending each once more."""
    repeated = False
    for request in requests:
        asker.faults(request)
        if again := log.new():
            repeated = True
            if is_of_registry(request) or any("[alert]" in line or "[emerg]" in line for line in again):
                yield "log", _failure(request, [f"in the log: {line[:400]}" for line in again])
    if not repeated:
        yield "log", "\n".join(["in the log, though not again:", *lines[:3]])


def _failure(request: Request, faults: list[str]) -> str:
    replay = f"SCR_TEST_REPLAY={request.shell} tests/run tests/served/test_fuzz.py -k 'right or dear'"
    return "\n  ".join([f"- {str(request)[:300]}", *faults, replay])


QUADRATIC = {
    "zeros before digits": r'if ($arg_n ~ "^0*([0-9]+)\z") { return 400; }',
    "anything to a colon, and anything": r'if ($uri ~ "/manifests/[^/@]*:[^/]*\z") { return 400; }',
    "blanks at the end": r'if ($http_range ~ "[, ]+\z") { return 400; }',
}


def test_no_request_is_expensive(servers: Farm, contents: Contents) -> None:
    """None costs ten times the CPU of an ordinary one with the same status, though made for each regex of a snippet."""
    snippet = contents.site / ("nginx.conf" if servers.server.name == "nginx" else "Caddyfile")
    requests = [parse(REPLAY)] if REPLAY else cost.hostile(servers.server.name, snippet.read_text())
    dear = islice(cost.dear(servers, requests), _SHOWN)
    failures = [f"{seconds * 1000:.1f} ms of CPU: {_failure(each, [])}" for each, seconds in dear]
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("line", QUADRATIC.values(), ids=QUADRATIC)
def test_a_slow_regex_is_found(contents: Contents, open_tmp: Path, line: str) -> None:
    with start_nginx(contents.site, open_tmp, server=f"location / {{ {line} return 404; }}") as server:
        servers = Farm(server, {"alone": server.port}, Judge(contents, "nginx"))
        dear = next(cost.dear(servers, cost.hostile("nginx", line)), None)
    assert dear


def test_each_regex_of_a_snippet_is_parsed() -> None:
    nginx = r"""
        # location ~ "comment" { }
        location ~ "^/v2/(?<scr_a>[a-z]{2})/\z" { if ($uri !~ ^/x(?:/|\z)) { rewrite ^/y/(.*) /z/$1 last; } }
        if ($arg_n ~* '[^0-9]') { } location ^~ /plain { } location = /same { }
        map $a $b { "~^m\d" 1; '~*^"n"' 2; ~^o+ 3; "p" 4; }
        if ($http_a ~ "(?x)^ a
            b \z") { }"""
    caddy = """
        @a path_regexp ^/one/[^/]+$
        @b path_regexp name ^/two$
        @c not path_regexp (?s)^/three
        @d expression `!{query.n}.matches('^four$') && {path}.matches('five')`
        @e header_regexp x If-Match ^six$
        map {query.n} {scr_n} {
            ~^seven$ ${1}
            default 1
        }"""
    found = [re.sub(r"\s+", "", each) for each in cost.regexes("nginx", nginx)]
    assert found == [
        r"^/v2/(?<scr_a>[a-z]{2})/\z",
        r"^/x(?:/|\z)",
        "^/y/(.*)",
        "[^0-9]",
        r"(?x)^ab\z",
        r"^m\d",
        '^"n"',
        "^o+",
    ]
    found = cost.regexes("caddy", caddy)
    assert sorted(found) == sorted(["^/one/[^/]+$", "^/two$", "(?s)^/three", "^four$", "five", "^six$", "^seven$"])


def test_a_request_is_printed_as_it_can_be_replayed(contents: Contents) -> None:
    grammar = Grammar(contents, "replay")
    for request in (grammar.request() for _ in range(1000)):
        assert parse(str(request)) == request
        assert shlex.split(request.shell) == [str(request)]


def _with(answer: Answer, **fields: str | None) -> Answer:
    """The answer with other header fields, or without them."""
    names = {name.replace("_", "-").lower(): value for name, value in fields.items()}
    kept = [(name, value) for name, value in answer.fields if name.lower() not in names]
    return replace(answer, fields=(*kept, *((name, value) for name, value in names.items() if value is not None)))


def _twice(answer: Answer, name: str) -> Answer:
    return replace(answer, fields=(*answer.fields, (name, answer.all(name)[0])))


MANIFEST, BLOB, LIST, REFERRERS = "/v2/oci/app/manifests/1", "<blob>", "/v2/many/tags/tags/list?n=10", "<referrers>"
TAMPERED: list[tuple[str, Callable[[Answer], Answer]]] = [
    (MANIFEST, lambda answer: replace(answer, body=answer.body + b" ")),
    (MANIFEST, lambda answer: replace(answer, status=500)),
    (MANIFEST, lambda answer: replace(answer, status=404)),
    (MANIFEST, lambda answer: replace(answer, status=304, body=b"")),
    (MANIFEST, lambda answer: _with(answer, Docker_Content_Digest=None)),
    (MANIFEST, lambda answer: _with(answer, Docker_Content_Digest="sha256:" + "0" * 64)),
    (MANIFEST, lambda answer: _with(answer, Content_Type="application/json")),
    (MANIFEST, lambda answer: _with(answer, Cache_Control="public, immutable")),
    (MANIFEST, lambda answer: _with(answer, Content_Encoding="gzip")),
    (MANIFEST, lambda answer: _with(answer, ETag='"x"')),
    (MANIFEST, lambda answer: _twice(answer, "Content-Type")),
    (BLOB, lambda answer: replace(answer, body=answer.body[:-1])),
    (BLOB, lambda answer: replace(answer, status=206)),
    (BLOB, lambda answer: _with(answer, Last_Modified="Thu, 01 Jan 1970 00:00:00 GMT")),
    (LIST, lambda answer: replace(answer, body=answer.body.replace(b"t003", b"t004"))),
    (LIST, lambda answer: replace(answer, body=answer.body.replace(b"many", b"none"))),
    (LIST, lambda answer: _with(answer, Link=None)),
    (LIST, lambda answer: _with(answer, Link='</v2/x/tags/list?n=10&last=t009>; rel="next"')),
    (LIST, lambda answer: replace(answer, body=b"<html>")),
    (REFERRERS, lambda answer: replace(answer, body=answer.body.replace(b"digest", b"none"))),
    (REFERRERS, lambda answer: _with(answer, OCI_Filters_Applied="artifactType")),
    ("/v2/oci/app/manifests/none", lambda answer: replace(answer, status=400)),
    ("/v2/oci/app/manifests/none", lambda answer: replace(answer, body=b"<html>Not Found</html>")),
    ("/v2/oci/app/manifests/none", lambda answer: replace(answer, body=answer.body.replace(b"MANIFEST", b"BLOB"))),
    ("/v2/oci/app/manifests/none", lambda answer: replace(answer, body=answer.body.replace(b"manifest", SECRET))),
    ("/v2/oci/app/manifests/none", lambda answer: _with(answer, Cache_Control=None)),
    ("/v2/oci/app/manifests/none", lambda answer: _with(answer, Content_Type="text/html")),
    ("/v2/oci%2fapp/manifests/none", lambda answer: replace(answer, status=200)),
    ("/v2/oci/app/manifests/%2e%2e", lambda answer: replace(answer, status=502)),
]


@pytest.mark.parametrize(("path", "tamper"), TAMPERED)
def test_the_judge_finds_each_fault(
    servers: Farm, contents: Contents, path: str, tamper: Callable[[Answer], Answer]
) -> None:
    words = {BLOB: f"/v2/oci/app/blobs/{min(contents.blobs['oci/app'])}"}
    words[REFERRERS] = f"/v2/oci/app/referrers/{contents.tags['oci/app']['1'].digest}"
    request = Request("alone", b"GET", words.get(path, path).encode())
    with servers.connections() as asker:
        answer = asker.ask(request)
    assert servers.judge.faults(request, answer) == []
    assert tamper(answer) != answer
    assert servers.judge.faults(request, tamper(answer))


@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", MANIFEST, "/v2/oci/app/manifests/none", "/v2/Oci/tags/list"])
def test_the_judge_finds_an_answer_that_bypasses_a_password(servers: Farm, path: str) -> None:
    opened = Request("alone", b"GET", path.encode())
    with servers.connections() as asker:
        answer = asker.ask(opened)
    assert servers.judge.faults(replace(opened, site="guarded"), answer)
    assert servers.judge.faults(replace(opened, site="closed"), answer)
