"""The lists of tags and of repositories, read in all the steps that a client may choose, on both servers."""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.builders import link_image, write_artifact
from tests.support.fronts import SERVED
from tests.support.http import Answer, request
from tests.support.requests_table import HOSTILE_LAST, check_list
from tests.support.runner import export
from tests.support.servers import HOST, Server, open_directory

LONG = "x" * 127
TAGS = {
    "one": ["latest"],
    "team/two": ["1.0", "latest"],
    "thirty": [*(f"v1.{number}" for number in range(24)), "_", "B", "a-b", "a.b", f"{LONG}0", f"{LONG}1"],
    "full": [f"v{number}" for number in range(1000)],
    "many": [f"v{number}" for number in range(2500)],
}
NAMES = [
    *TAGS,
    *(f"team/app/x{number}" for number in range(200)),
    *(f"deep/{'/'.join('abcdefgh')}/{number}" for number in range(40)),
    *("team", "team/app", "team-app", "team/app-x", "a/b", "a.b", "a_b", "a-b"),
    *("c" * 200, "c" * 201, "c" * 250, f"{'c/' * 127}d", f"{'c/' * 127}e", f"n/{'c' * 250}", f"n/{'c' * 249}d"),
]
LINK = re.compile(r'<([^<>?]+)\?n=([0-9]+)&last=([^<>&=?]+)>; rel="next"')
STEPS = [None, *range(12), 29, 30, 31, 99, 100, 999, 1000, 1001, 10000]
LARGE_STEPS = [None, 0, 1, 9, 10, 99, 100, 999, 1000, 2500]
# Written into a query, a longer one is no name of a file any more: only a link leads behind it.
LONGEST_LAST = 139


class Client:
    """One connection that is kept, and renewed when the server has had enough of it."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection(HOST, port, timeout=10)

    def get(self, path: str) -> Answer:
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        return Answer(response.status, tuple(response.getheaders()), response.read())

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True, slots=True)
class Page:
    """What a list's page says: its entries, and where the next is."""

    entries: list[str]
    next: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A list as a client asks for it: its path, and all that is in it."""

    client: Client
    path: str
    entries: list[str]

    def url(self, n: int | None, last: str = "") -> str:
        """`last` is as it goes over the wire."""
        query = ([] if n is None else [f"n={n}"]) + ([f"last={last}"] if last else [])
        return f"{self.path}?{'&'.join(query)}" if query else self.path

    def read(self, url: str) -> Page:
        """A page, sound in itself."""
        answer = self.client.get(url)
        document = json.loads(answer.body)
        kind = "tags" if self.path.endswith("/tags/list") else "repositories"
        name = {"name": self.path[len("/v2/") : -len("/tags/list")]} if kind == "tags" else {}
        check_list(answer, "GET", name | {kind: document[kind]})
        return Page(document[kind], answer.one("Link"))

    def check(self, n: int | None, position: int, last: str) -> None:
        """The page of `n` behind the entry that is `last` (over the wire): distribution-spec, "Listing Tags"."""
        url = self.url(n, last)
        page, rest = self.read(url), self.entries[position:]
        is_end = len(page.entries) == len(rest)
        assert page.entries == rest[: len(page.entries)], url
        assert n is None or len(page.entries) <= n, url
        if n is None and (not last or len(self.entries) <= 100):
            assert is_end, url
        if n == 0 or is_end:
            assert page.next is None, url
        else:
            assert page.entries, url
            self._check_next(page, n or 1000, url)

    def _check_next(self, page: Page, n: int, url: str) -> None:
        """The link leads to what follows the page's last entry (RFC 8288): by induction, all links lead to all."""
        match = LINK.fullmatch(page.next or "")
        assert match, (url, page.next)
        assert (match[1], int(match[2])) == (self.path, n), (url, page.next)
        followed = self.read(f"{match[1]}?n={match[2]}&last={match[3]}")
        position = self.entries.index(page.entries[-1]) + 1
        assert followed.entries, (url, page.next)
        assert followed.entries == self.entries[position : position + len(followed.entries)], (url, page.next)

    def follow(self, url: str) -> list[Page]:
        """This page and those that it leads to."""
        pages = [self.read(url)]
        while match := LINK.fullmatch(pages[-1].next or ""):
            pages.append(self.read(f"{match[1]}?n={match[2]}&last={match[3]}"))
            assert len(pages) <= len(self.entries)
        assert pages[-1].next is None
        return pages

    def check_rest(self, n: int | None, position: int = 0) -> int:
        """The links from here on lead to exactly the rest; in how many pages."""
        pages = self.follow(self.url(n, self.entries[position - 1] if position else ""))
        assert [entry for page in pages for entry in page.entries] == self.entries[position:]
        assert n is None or max(len(page.entries) for page in pages) <= n
        return len(pages)


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """A site whose lists are of every length; all of it is one image."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:  # thousands of directories are cheap there
        place = Path(directory)
        place.chmod(0o755)
        write_artifact(place / "image")
        for name in NAMES:
            for tag in TAGS.get(name, ["1"]):
                link_image(place / "image", place / "images" / name / tag)
        export(place / "images", place / "site")
        yield place / "site"


@pytest.fixture(scope="module")
def servers(site: Path) -> Iterator[dict[str, Server]]:
    with open_directory() as tmp, ExitStack() as stack:
        yield {name: stack.enter_context(start(site, tmp)) for name, start in SERVED.items()}


@pytest.fixture(params=SERVED)
def client(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Client]:
    client = Client(servers[request.param].port)
    yield client
    client.close()


def tags(client: Client, name: str) -> Listed:
    return Listed(client, f"/v2/{name}/tags/list", sorted(TAGS[name]))


def catalog(client: Client) -> Listed:
    return Listed(client, "/v2/_catalog", sorted(NAMES))


def spellings(name: str) -> set[str]:
    """How clients write a name in a query; a slash may stand there as it is (RFC 3986, 3.4)."""
    return {name, name.replace("/", "%2F")}


@pytest.mark.parametrize("name", ["one", "team/two", "thirty"])
def test_every_page_is_right_from_every_tag(client: Client, name: str) -> None:
    listed = tags(client, name)
    for n in STEPS:
        for position, last in enumerate(["", *listed.entries]):
            listed.check(n, position, last)
    for n in (None, *range(1, 12)):
        assert listed.check_rest(n) <= len(listed.entries)


def sample(count: int) -> list[int]:
    """Positions at both ends, beside the places where larger pages begin, and anywhere."""
    near = {place + step for place in (0, 10, 100, 1000, 2000, count) for step in (-1, 0, 1)}
    return sorted(place for place in near | set(random.Random(1).sample(range(count), 4)) if 0 <= place <= count)


@pytest.mark.parametrize("name", ["full", "many"])
def test_pages_of_a_long_list_are_right(client: Client, name: str) -> None:
    listed = tags(client, name)
    for n in LARGE_STEPS:
        for position in sample(len(listed.entries)):
            listed.check(n, position, listed.entries[position - 1] if position else "")


@pytest.mark.parametrize(("n", "pages"), [(None, 1), (10_000, 3), (1000, 3), (999, 25), (100, 25)])
def test_a_long_list_is_read_in_large_steps(client: Client, n: int | None, pages: int) -> None:
    assert tags(client, "many").check_rest(n) == pages


@pytest.mark.parametrize(("n", "position"), [(1, 2480), (10, 2399), (1000, 999), (None, 1)])
def test_a_long_list_is_read_from_anywhere(client: Client, n: int | None, position: int) -> None:
    tags(client, "many").check_rest(n, position)


def test_every_page_is_right_from_every_repository(client: Client) -> None:
    listed = catalog(client)
    for position, last in enumerate(["", *listed.entries]):
        for n in (None, 1, 10, 1000):
            for written in spellings(last):
                if len(written) <= LONGEST_LAST:
                    listed.check(n, position, written)


@pytest.mark.parametrize("n", [None, 1, 2, 10, 50, 100, 1000])
def test_the_catalog_is_read_to_its_end(client: Client, n: int | None) -> None:
    catalog(client).check_rest(n)


@pytest.mark.parametrize(
    ("n", "count", "next_n"),
    [
        *(("0", 0, ""), ("00", 0, ""), ("1", 1, "1"), ("01", 1, "1"), (f"{'0' * 400}7", 1, "7"), ("10", 10, "10")),
        *(("19", 10, "19"), ("1000", 30, ""), ("0000030", 10, "30"), (str(10**30), 30, ""), ("9" * 1000, 30, "")),
        *(("", 30, ""), (str(2**31), 30, ""), (str(2**32 + 1), 30, ""), (str(2**64), 30, ""), (str(2**64 + 1), 30, "")),
    ],
)
@pytest.mark.parametrize("last", ["", "&last="])
def test_n_is_read_as_a_number(client: Client, n: str, count: int, next_n: str, last: str) -> None:
    listed = tags(client, "thirty")
    page = listed.read(f"{listed.path}?n={n}{last}")
    assert page.entries == listed.entries[:count]
    match = LINK.fullmatch(page.next or "")
    assert (match[2] if match else "") == next_n


def outcome(answer: Answer) -> tuple[int, list[list[str]], object]:
    """The parts of an answer that a client can distinguish."""
    fields = ("Content-Type", "Link", "Cache-Control", "Allow", "ETag", "Last-Modified", "Accept-Ranges")
    return answer.status, [answer.all(name) for name in fields], json.loads(answer.body)


QUERIES = [
    *(
        "",
        "?",
        "?n=",
        "?last=",
        "?n=&last=",
        "?last=&n=",
        "?n",
        "?last",
        "?x=1",
        "?n=1&x=%zz",
        "?&n=1",
        "?n=1&",
        "??n=1",
    ),
    *("?last=v1.0&n=2", "?n=2&last=v1.0&x=y", "?n=02&last=v1.0", "?nn=1", "?xn=1", "?lastt=v1.0", "?n=1&xlast=v1.0"),
    *(
        "?last=v1",
        "?last=V1.0",
        "?last=v1.0&n=-1",
        "?n=10&last=zzz",
        "?n=0&last=v1.0",
        "?n=0&last=none",
        "?n=x&last=none",
    ),
    *(
        "?last=_",
        "?last=B",
        f"?last={LONG}0",
        f"?n=1&last={LONG}0",
        f"?last={LONG}1",
        f"?n=1&last={LONG}",
        f"?last={LONG}00",
    ),
    *(f"?{n}last={last}" for last in HOSTILE_LAST for n in ("", "n=1&")),
]


@pytest.mark.parametrize("query", QUERIES, ids=ascii)
def test_all_servers_answer_alike(servers: dict[str, Server], query: str) -> None:
    for path in ("/v2/thirty/tags/list", "/v2/_catalog", "/v2/none/tags/list"):
        first, *others = (
            outcome(request(each.port, "GET", (path + query).encode("latin-1"))) for each in servers.values()
        )
        assert others == [first] * (len(SERVED) - 1)
        assert first[0] in (200, 400, 404)
