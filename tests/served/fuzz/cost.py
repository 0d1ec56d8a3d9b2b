"""How much CPU a request costs, and requests that are made to cost much.

A regex that takes quadratic time does so on a long run of what one of its repetitions takes. Each regex of a snippet is
taken apart here. For each of its repetitions there are subjects that lead there, repeat for 8 kB, and fail at the end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any
from urllib.parse import quote_from_bytes

from tests.served.fuzz.farm import Asker, Farm
from tests.served.fuzz.wire import BrokenAnswer, Request

FLOOR = {"nginx": 0.002, "caddy": 0.005}  # seconds of CPU for 8 kB; what costs less is never dear
RATIO = 10
LENGTH = 7700  # bytes of a hostile part; servers refuse a line of 8 kB
ENDINGS = ("", "!", "/", "\n", "x")
_SAFE = "/:@+~*,;!$'()"
_DIGEST = "sha256:" + "0" * 64
_QUERY = (
    *(
        ("n", "/v2/_catalog"),
        ("last", "/v2/_catalog"),
        ("n", "/v2/oci/app/tags/list"),
        ("ns", "/v2/library/app/tags/list"),
    ),
    ("artifactType", f"/v2/oci/app/referrers/{_DIGEST}"),
)
_HEADERS = (b"If-None-Match", b"If-Range", b"Range")


# the regexes of a snippet


def regexes(name: str, text: str) -> list[str]:
    """Each regex of a snippet for nginx or Caddy, in the order of their first occurrence."""
    code = re.sub(r"(?m)^\s*#.*$", "", text)
    return list(dict.fromkeys(_of_nginx(code) if name == "nginx" else _of_caddy(code)))


def _of_nginx(code: str) -> Iterator[str]:
    word = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|[^\s"\']\S*'
    for match in re.finditer(rf"(?:location\s+~\*?|(?<!\^)!?~\*?|\brewrite)\s+({word})", code):
        quoted = match[1][0] in "\"'"
        yield match[1][1:-1] if quoted else _balanced(match[1].rstrip(";"))
    # keys of a map
    for match in re.finditer(r"""(["'])~\*?((?:\\.|(?!\1)[^\\])+)\1|\s~\*?(\^\S+)""", code):
        yield match[2] or match[3]


def _balanced(word: str) -> str:
    """A word of `if (…)` without the bracket that closes it."""
    while word.count(")") > word.count("("):
        word = word[:-1]
    return word


def _of_caddy(code: str) -> Iterator[str]:
    for match in re.finditer(r"(?m)\bpath_regexp((?:[ \t]+[^\s{]\S*)+)[ \t]*$|\.matches\('((?:[^'\\]|\\.)*)'\)", code):
        yield match[2] if match[2] is not None else match[1].split()[-1]
    for match in re.finditer(r"(?m)^\s*~(\S+)\s", code):
        yield match[1]
    for match in re.finditer(r"(?m)\b(?:header|vars)_regexp\s.*?(\S+)[ \t]*$", code):
        yield match[1]


# subjects that are made from one


@dataclass(frozen=True, slots=True)
class Subject:
    """A text in which a unit is repeated until all is as long as a request may be."""

    before: str
    unit: str
    behind: str

    def written(self, prefix: bytes, safe: str) -> bytes:
        """All of it behind a prefix, with every character escaped that is not safe; `*` as safe escapes none."""
        before, unit, behind = (_escaped(each, safe) for each in (self.before, self.unit, self.behind))
        return prefix + before + unit * ((LENGTH - len(prefix + before + behind)) // len(unit)) + behind


def _escaped(text: str, safe: str) -> bytes:
    raw = text.encode("latin-1", "replace")
    return raw if safe == "*" else quote_from_bytes(raw, safe=safe).encode()


def subjects(regex: str) -> Iterator[Subject]:
    """Subjects of one regex: each of its repetitions is repeated, and the end is varied."""
    python = re.sub(r"\(\?<(?![=!])", "(?P<", regex).replace(r"\z", r"\Z")
    tree = _parser.parse(python)
    for before, units, behind in _repetitions(list(tree), ""):
        # characters that a regex does not mention are all the same to it
        for unit in (each for each in units if len(each) > 1 or each in regex or each in "aZ0"):
            for end in dict.fromkeys((behind, *ENDINGS, *(behind + each for each in ENDINGS))):
                yield Subject(before, unit, end)


def _repetitions(nodes: list[Any], before: str) -> Iterator[tuple[str, list[str], str]]:
    """What leads to a repetition, what it repeats, and what may follow, for each one at any depth."""
    for at, (kind, argument) in enumerate(nodes):
        behind = _shortest(nodes[at + 1 :])
        if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
            _, most, body = argument
            if most is _constants.MAXREPEAT or most > 8:
                yield before, _units(list(body)), behind
            yield from ((lead, unit, rest + behind) for lead, unit, rest in _repetitions(list(body), before))
        else:
            for inner in _inner(kind, argument):
                yield from ((lead, unit, rest + behind) for lead, unit, rest in _repetitions(inner, before))
        before += _shortest([(kind, argument)])


def _inner(kind: Any, argument: Any) -> Iterable[list[Any]]:
    if kind is _constants.SUBPATTERN:
        return [list(argument[-1])]
    if kind is _constants.BRANCH:
        return [list(each) for each in argument[1]]
    if kind in (_constants.ASSERT, _constants.ASSERT_NOT):
        return [list(argument[1])]
    return [list(argument)] if kind is _constants.ATOMIC_GROUP else []


def _shortest(nodes: Iterable[Any]) -> str:
    """A short text that the nodes match."""
    parts: list[str] = [_shortest_of(kind, argument) for kind, argument in nodes]
    return "".join(parts)


def _shortest_of(kind: Any, argument: Any) -> str:
    if kind is _constants.LITERAL:
        return str(chr(argument))
    if kind in (_constants.IN, _constants.ANY, _constants.NOT_LITERAL):
        return _characters(kind, argument)[0]
    if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
        return _shortest(argument[2]) * int(argument[0])
    if kind in (_constants.ASSERT, _constants.ASSERT_NOT, _constants.AT, _constants.GROUPREF):
        return ""
    inner = list(_inner(kind, argument))
    return min((_shortest(each) for each in inner), key=len) if inner else ""


def _units(body: list[Any]) -> list[str]:
    """What a repetition may repeat: each kind of character of its class, or a text for each of its branches."""
    if len(body) == 1 and body[0][0] in (_constants.IN, _constants.ANY, _constants.NOT_LITERAL, _constants.LITERAL):
        kind, argument = body[0]
        return [chr(argument)] if kind is _constants.LITERAL else _characters(kind, argument)
    found = {_shortest(body)}
    for at, (kind, argument) in enumerate(body):
        for inner in _inner(kind, argument):
            found.add(_shortest(body[:at]) + _shortest(inner) + _shortest(body[at + 1 :]))
    return sorted(found - {""}) or ["a"]


def _characters(kind: Any, argument: Any) -> list[str]:
    """One character of each sort that a class takes."""
    sorts = "a", "0", "Z", "-", ".", "_", "/", ":", "@", "%", "+", "~", ",", '"', " ", "\n", "\xe9"
    if kind is _constants.ANY:
        taken = [each for each in sorts if each != "\n"]
    elif kind is _constants.NOT_LITERAL:
        taken = [each for each in sorts if ord(each) != argument]
    else:
        taken = [each for each in sorts if _takes(argument, each)]
        taken += [chr(value) for op, value in argument if op is _constants.LITERAL and chr(value) not in taken]
        taken += [chr(value[0]) for op, value in argument if op is _constants.RANGE and not taken]
    return taken or ["a"]


def _takes(items: list[Any], character: str) -> bool:
    negated = items[0][0] is _constants.NEGATE
    categories = {
        _constants.CATEGORY_DIGIT: character.isdigit(),
        _constants.CATEGORY_WORD: character.isascii() and (character.isalnum() or character == "_"),
        _constants.CATEGORY_SPACE: character.isspace(),
        _constants.CATEGORY_NOT_DIGIT: not character.isdigit(),
        _constants.CATEGORY_NOT_WORD: not (character.isalnum() or character == "_"),
        _constants.CATEGORY_NOT_SPACE: not character.isspace(),
    }
    for op, value in items:
        hit = (
            (op is _constants.LITERAL and chr(value) == character)
            or (op is _constants.RANGE and value[0] <= ord(character) <= value[1])
            or (op is _constants.CATEGORY and categories[value])
        )
        if hit:
            return not negated
    return negated


# where a subject may stand in a request


def hostile(name: str, text: str) -> list[Request]:
    """Requests that bring the subjects of every regex of a snippet to wherever a regex may look."""
    found: dict[Request, None] = {}
    for regex in regexes(name, text):
        for subject in subjects(regex):
            found |= dict.fromkeys(_requests(subject))
    return list(found)


def _requests(subject: Subject) -> Iterator[Request]:
    starts = [b"/v2/", b"/v2/oci/app/manifests/"]
    if subject.before.startswith("/"):
        starts = [b"", b"/v2/a"] if subject.before.startswith("/v2/") else [b"/v2/oci/app", b"/v2/"]
    for start in starts:
        path = subject.written(start, _SAFE)
        yield _get(path)
        yield _get(path + b"?ns=docker.io")
    for key, where in _QUERY:
        yield _get(subject.written(f"{where}?{key}=".encode(), _SAFE))
    if not re.search(r"[\x00-\x1f]", subject.before + subject.unit + subject.behind):
        for field in _HEADERS:
            yield _get(f"/v2/oci/app/blobs/{_DIGEST}".encode(), ((field, subject.written(b"", "*")),))


def _get(target: bytes, fields: tuple[tuple[bytes, bytes], ...] = ()) -> Request:
    return Request("alone", b"GET", target, ((b"Host", b"registry.example"), *fields))


def ordinary() -> list[Request]:
    """Plain requests of each status, as long as the hostile ones in a part that nothing looks at."""
    padding = ((b"X-Padding", b"a" * LENGTH),)
    paths = [
        *("/v2/", "/v2/oci/app/manifests/1", "/v2/oci/app/tags/list?n=1"),
        *(
            "/v2/nothing/manifests/1",
            "/v2/oci/app/manifests/none",
            f"/v2/oci/app/blobs/{_DIGEST}",
            "/v2/_catalog?last=x",
        ),
        *("/v2/Oci/manifests/1", "/v2/oci/app/blobs/x", "/v2/oci/app/tags/list?n=x", "/v2/nothing"),
    ]
    return [_get(path.encode(), padding) for path in paths]


# what they cost


def processes(pid: int) -> list[int]:
    """The process, or if it is nginx's master, its workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in children] or [pid]


def cpu_seconds(pids: Iterable[int]) -> float:
    """The CPU time that processes have used; `clock_getcpuclockid` makes their clocks' numbers so."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def cost(asker: Asker, pids: list[int], request: Request, times: int = 1) -> tuple[int, float]:
    """Status and CPU seconds of a request: the least of so many tries, since noise only adds. Status 0: no answer."""
    least, status = float("inf"), 0
    for _ in range(times):
        before = cpu_seconds(pids)
        try:
            status = asker.ask(request).status
        except BrokenAnswer:
            status = 0
        least = min(least, cpu_seconds(pids) - before)
    return status, least


def dear(servers: Farm, requests: Iterable[Request]) -> Iterator[tuple[Request, float]]:
    """The requests that are dear, one of each path or parameter."""
    floor = FLOOR[servers.server.name]
    pids = processes(servers.server.process.pid)
    found: set[bytes] = set()
    with servers.connections() as asker:
        limits: dict[int, float] = {}
        for request in ordinary():
            status, seconds = cost(asker, pids, request, 20)
            limits[status] = max(limits.get(status, floor), RATIO * seconds)
        for request in requests:
            kind = request.target[:30]
            if kind not in found and cost(asker, pids, request)[1] > floor:
                status, seconds = cost(asker, pids, request, 9)
                if seconds > limits.get(status, floor):
                    found.add(kind)
                    yield request, seconds
