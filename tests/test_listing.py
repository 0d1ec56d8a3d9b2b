from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from scr_export.oci.listing import Listing, Page, pages
from scr_export.oci.name import RepositoryName

LENGTHS = [0, 1, 2, 9, 10, 11, 30, 99, 100, 101, 999, 1000, 1001, 2500, 10_000]
Pages = dict[str, dict[int, Page]]


def entries(count: int) -> list[str]:
    return [f"v{number:05}" for number in range(count)]


def by_start(listed: Sequence[str]) -> Pages:
    found: Pages = {}
    for page in pages(listed):
        assert page.size not in found.setdefault(page.after, {}), page
        found[page.after][page.size] = page
    return found


def largest(found: Pages, n: int, last: str) -> Page:
    """What a server answers: the largest page behind `last` that is not above `n`."""
    return found[last][max(size for size in found[last] if size <= n)]


@pytest.mark.parametrize("count", LENGTHS)
def test_a_page_has_the_next_entries_and_whether_more_follow(count: int) -> None:
    listed = entries(count)
    positions = {entry: position for position, entry in enumerate(listed, 1)} | {"": 0}
    for page in pages(listed):
        position = positions[page.after]
        assert list(page.entries) == listed[position : position + page.size]
        assert page.next == (page.entries[-1] if position + page.size < count else None)
        assert page.entries or position == count


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 12, 99, 100, 101, 999, 1000, 1001, 5000])
@pytest.mark.parametrize("count", [count for count in LENGTHS if count <= 2500])
def test_following_the_links_reads_the_rest_of_the_list(count: int, n: int) -> None:
    """From every entry on, in steps of at most `n`: by induction, since each page leads to a place behind itself."""
    listed = entries(count)
    found = by_start(listed)
    read: dict[str, int] = {}  # how many entries all the pages from there on have
    for position in range(count, -1, -1):
        last = listed[position - 1] if position else ""
        page = largest(found, n, last)
        assert len(page.entries) <= n
        assert (len(page.entries) < min(n, count - position)) <= (page.next is not None)
        assert page.next is None or page.next > last
        read[last] = len(page.entries) + (read[page.next] if page.next else 0)
        assert read[last] == count - position


@pytest.mark.parametrize("count", LENGTHS)
@pytest.mark.parametrize("n", [1, 10, 100, 1000])
def test_every_page_from_the_start_is_full(count: int, n: int) -> None:
    found = by_start(entries(count))
    page, steps = largest(found, n, ""), 1
    while page.next:
        assert len(page.entries) == n
        assert page.next > page.after
        page, steps = largest(found, n, page.next), steps + 1
    assert steps == max(1, -(-count // n))


@pytest.mark.parametrize("count", [count for count in LENGTHS if count <= 100])
def test_the_rest_of_up_to_a_hundred_entries_is_one_page(count: int) -> None:
    listed = entries(count)
    found = by_start(listed)
    for position in range(count + 1):
        page = largest(found, 1000, listed[position - 1] if position else "")
        assert (list(page.entries), page.next) == (listed[position:], None)


@pytest.mark.parametrize("count", [2500, 10_000, 20_000])
def test_the_size_of_all_pages_grows_in_proportion_to_the_list(count: int) -> None:
    """In pages and in entries. Whole remainders behind every entry would be half a square."""
    all_pages = list(pages(entries(count)))
    assert len(all_pages) <= 1.2 * count
    assert sum(len(page.entries) for page in all_pages) <= 4 * count + 4


@pytest.mark.parametrize("count", [100, 101, 1000, 1001])
def test_the_pages_of_a_list_are_of_limited_size(count: int) -> None:
    all_pages = list(pages(entries(count)))
    assert len(all_pages) <= 3 * count
    assert sum(len(page.entries) for page in all_pages) <= 55 * count


def test_a_body_is_json_with_one_key_for_its_entries() -> None:
    tags = Listing(RepositoryName("team/app"), ("a", "b"))
    assert tags.body() == b'{"name":"team/app","tags":["a","b"]}\n'
    assert tags.body(["b"]) == b'{"name":"team/app","tags":["b"]}\n'
    assert tags.body([]) == b'{"name":"team/app","tags":[]}\n'
    catalog = Listing(None, ("a", "team/app"))
    assert json.loads(catalog.body()) == {"repositories": ["a", "team/app"]}
    assert json.loads(Listing(None, ()).body()) == {"repositories": []}
