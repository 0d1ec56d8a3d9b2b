"""IMAGES broken at random: each export ends with a report, keeps what is served, and publishes sound images.

A case follows from its number alone, which is in the name of its test. `SCR_TEST_SEED` is the first number (0) and
`SCR_TEST_CASES` how many there are:

    SCR_TEST_SEED=1234 SCR_TEST_CASES=1 tests/run tests/test_broken_images.py
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import Built, tree, write_artifact, write_image, write_index
from tests.support.forked import Ended, Exporter, run, warm
from tests.support.runner import Report, assert_whole, registry, substance

FIRST, CASES = int(os.environ.get("SCR_TEST_SEED", "0")), int(os.environ.get("SCR_TEST_CASES", "200"))
USER = 65534 if os.geteuid() == 0 else None  # no mode binds root
MANIFEST = "manifest.json"
INDEX = "application/vnd.oci.image.index.v1+json"
HEX = re.compile("[0-9a-f]{64}")
CLASHES = ("tag-clash", "path-clash")

ManifestPaths = dict[str, str]  # path below IMAGES -> where in `v2/` its manifest is to be found


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    """The exporter as a user who cannot read every file."""
    warm()
    with closing(Exporter(USER)) as exporter:
        yield exporter


@pytest.fixture(scope="module")
def shelf() -> Iterator[Path]:
    """A directory in memory that every user may enter."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture(scope="module")
def sound(shelf: Path) -> ManifestPaths:
    """The images in `shelf/sound`, copies of which are then broken."""
    root = shelf / "sound"
    built = {
        "app/v1": write_image(root / "app/v1", layers=1),
        "app/v2": write_image(root / "app/v2", seed=1, layers=1, share_layers_of=0),
        "list/v1": write_index(root / "list/v1", seed=2, layers=1),
        "far/off/docker:1": write_index(root / "far/off/docker:1", seed=3, layers=1, docker=True, platforms=["amd64"]),
        "chart:1": write_artifact(root / "chart:1", seed=4),
    }
    pinned = write_image(root / "pinned", seed=5, layers=1, algorithm="sha512")
    (root / "pinned").rename(root / f"pinned@{pinned.digest}")
    built[f"pinned@{pinned.digest}"] = pinned
    return {path: _manifest_path(path, each) for path, each in built.items()}


def _manifest_path(path: str, built: Built) -> str:
    name = path.partition("@")[0] if "@" in path else path.replace(":", "/").rpartition("/")[0]
    return f"{name}/manifests/{built.manifest_name}"


# what can be broken


class Breaker:
    """Breaks IMAGES by chance, one thing at a time. No file is edited in place: the site may have the same file."""

    def __init__(self, images: Path, outside: Path, chance: random.Random) -> None:
        self.images, self.outside, self.chance = images, outside, chance

    def break_something(self) -> str:
        """Do one of the things below. Returns what was done."""
        ways: list[Callable[[], str]] = [self.content, self.manifest, self.place, self.kind, self.more]
        return self.chance.choice(ways)()

    def content(self) -> str:
        """Other bytes in a file."""
        path = self._file()
        data = path.read_bytes()
        where = self.chance.randrange(len(data) + 1)
        junk = self.chance.choice([self.chance.randbytes(3), b"\xff\xfe", b"\0", b" ", b"\n", b'{"a":1,', b"}"])
        flipped = bytes([data[where] ^ 1 << self.chance.randrange(8)]) if where < len(data) else b"?"
        what, new = self.chance.choice(
            [
                ("cut", data[:where]),
                ("grown", data[:where] + junk + data[where:]),
                ("flipped", data[:where] + flipped + data[where + 1 :]),
                ("grown by much", data + bytes(5 * 2**20)),
                ("another file", self._file().read_bytes()),
            ]
        )
        self._write(path, new)
        return f"{self._name(path)}: {what} at {where}"

    def manifest(self) -> str:
        """Other words in a manifest, now and then with all digests put right again."""
        path = self._file(MANIFEST)
        try:
            document = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return "a manifest that was broken before"
        edits = [self._edit(document) for _ in range(self.chance.randint(1, 2))]
        text = json.dumps(document)
        for word, long in {"@deep": "[" * 50_000 + "]" * 50_000, "@digits": "9" * 5000}.items():
            text = text.replace(f'"{word}"', long)
        if self.chance.random() < 0.1:
            at = text.find("{", self.chance.randrange(len(text))) + 1
            text = f'{text[:at]}"digest": "twice", "digest": 1, {text[at:]}'
        raw = text.encode()
        if path.name != MANIFEST and self.chance.random() < 0.7:
            edits.append(self._put_right(path, raw))
        else:
            self._write(path, raw)
        return f"{self._name(path)}: {', '.join(edits)}"

    def _edit(self, document: Any) -> str:
        nodes = [node for node in _nodes(document) if node]
        if not nodes:
            return "nothing left to edit"
        node = self.chance.choice(nodes)
        key = self.chance.choice(list(node) if isinstance(node, dict) else range(len(node)))
        value: Any = self.chance.choice(VALUES)
        match self.chance.randrange(7):
            case 0:
                del node[key]
                return f"without {key!r}"
            case 1:
                value = [node[key]]
            case 2:
                value = copy.deepcopy(self.chance.choice(nodes))
            case 3 if isinstance(node[key], str):
                value = self._misspelt(node[key])
            case 4 if isinstance(node, dict):
                key = self.chance.choice(["manifests", "layers", "config", "urls", "subject", "annotations", "digest"])
            case 5 if isinstance(node, list):
                node *= self.chance.choice([2, 1000])
                return "a list many times over"
        if key == "mediaType" and value == "":
            return "nothing: no type is as good as ''"
        node[key] = value
        return f"{key!r} is {value!r:.80}"

    def _misspelt(self, text: str) -> str:
        at = self.chance.randrange(len(text) + 1)
        other = self.chance.choice(["\0", "/", "../", "\n", "\x1b[2J", "é", "A", "0", ":", "@", " ", ""])
        return self.chance.choice([text[:at] + other + text[at + 1 :], text.upper(), text * 50, f"../{text}", ""])

    def _put_right(self, path: Path, raw: bytes) -> str:
        """Give a child its new name, in its index too."""
        digest, old = hashlib.sha256(raw).hexdigest(), path.name.partition(".")[0]
        path.unlink()
        self._write(path.with_name(f"{digest}.{MANIFEST}"), raw)
        top = path.with_name(MANIFEST)
        if top.is_file() and not top.is_symlink():
            index = top.read_text(errors="surrogateescape").replace(old, digest)
            self._write(top, index.encode(errors="surrogateescape"))
        return "and named anew"

    def place(self) -> str:
        """Something is elsewhere, or nowhere."""
        path, other = self._any(), self._any()
        parent = self.chance.choice([path.parent, *(each for each in (other, other.parent) if _is_directory(each))])
        new = parent / self.chance.choice([*NAMES, path.name, other.name])
        match self.chance.randrange(4):
            case 0:
                _remove(path)
                return f"{self._name(path)}: removed"
            case 1 if path != other and path not in other.parents and other not in path.parents:
                path.rename(self.images / "swap")
                other.rename(path)
                (self.images / "swap").rename(other)
                return f"{self._name(path)}: swapped with {self._name(other)}"
            case 2 if _is_directory(path) and not os.path.lexists(new) and path not in new.parents:
                shutil.copytree(path, new, symlinks=True, ignore=_special)
                return f"{self._name(path)}: also at {self._name(new)}"
        if os.path.lexists(new) or path in new.parents:
            return "no room to move"
        path.rename(new)
        return f"{self._name(path)}: moved to {self._name(new)}"

    def kind(self) -> str:
        """Something is of another kind, or closed."""
        path, target = self._any(), self._any()
        what = self.chance.choice(["link", "link out", "dangling", "loop", "fifo", "socket", "directory", "closed"])
        if what == "closed":
            if path.is_symlink() or USER is None:
                return "nothing closed"
            if path.is_file():
                self._write(path, path.read_bytes())
            path.chmod(0)
        elif what == "link out":
            new = self.outside / str(len(list(self.outside.iterdir())))
            path.rename(new)
            path.symlink_to(new)
        elif what != "link" or target not in (path, *path.parents):
            _remove(path)
            self._make(path, what, target)
        return f"{self._name(path)}: {what}"

    def _make(self, path: Path, what: str, target: Path) -> None:
        targets = {"link": target, "dangling": Path("nowhere"), "loop": Path(path.name)}
        if what in targets:
            path.symlink_to(targets[what])
        elif what == "directory":
            (path / "inner").mkdir(parents=True)
        else:
            os.mknod(path, 0o644 | {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}[what])

    def more(self) -> str:
        """A file that belongs to no image."""
        parent = self.chance.choice([each for each in [self.images, *self._all()] if _is_directory(each)])
        new = parent / self.chance.choice(NAMES)
        if os.path.lexists(new):
            return "no room for more"
        match self.chance.randrange(4):
            case 0:
                self._write(new, self.chance.choice([b"", b"{}", self._file().read_bytes()]))
            case 1:
                new.mkdir()
            case 2:
                (new / "/".join("d" * self.chance.randint(1, 140))).mkdir(parents=True)
            case 3:
                new.mkdir()
                _write_self_reference(new)
        return f"{self._name(new)}: new"

    def _all(self) -> list[Path]:
        return sorted(self.images.rglob("*"))

    def _any(self) -> Path:
        return self.chance.choice(self._all() or [self._file()])

    def _file(self, suffix: str = "") -> Path:
        """A regular file; a new one if none is left."""
        found = [path for path in self._all() if path.name.endswith(suffix) and stat.S_ISREG(path.lstat().st_mode)]
        if not found:
            found = [self.images / f"left{suffix}"]
            self._write(found[0], b"{}")
        return self.chance.choice(found)

    def _write(self, path: Path, data: bytes) -> None:
        if os.path.lexists(path):
            _remove(path)
        path.write_bytes(data)

    def _name(self, path: Path) -> str:
        return ascii(str(path.relative_to(self.images)))


VALUES: list[Any] = [
    *(None, True, False, [], {}, "", "x", 0, 1, 2, -1, 1.5, 2**31, 2**63, 2**64, float("nan"), float("inf"), 1e300),
    *("@deep", "@digits", "\0", "\ud800", "../../outside", "/etc/passwd", "\x1b]0;owned\7", [None], {"": {}}, [[[]]]),
    *(f"sha256:{'0' * 64}", f"sha256:{'../' * 21}a", f"md5:{'0' * 32}", f"sha512:{'f' * 64}", "sha256:", "sha256"),
    *("application/../../x", "application/vnd.oci.image.manifest.v1+json", INDEX, "application/json", ["http://x/"]),
]
NAMES = [
    *(
        "version",
        MANIFEST,
        "0" * 64,
        f"{'0' * 64}.{MANIFEST}",
        "dir-put-blob1",
        "signature-1",
        "lost+found",
        "v1",
        "v2",
    ),
    *(
        "new\nline",
        "\x1b[2J",
        "\x7f",
        "a\rerror: forged",
        "a" * 255,
        "é" * 127,
        "...",
        "-",
        "--json",
        "@",
        ":",
        "a:b:c",
    ),
    *(" ", "*", "%2e%2e", "..\\..", "Upper", "_", "manifests", "blobs", "tags", "list", "localhost:5000", "a@sha256:0"),
    *map(os.fsdecode, (b"\xff\xfe", b"\xff" * 255, b"\xc2\x9b31m", b"\xe2\x80\xaetxt.exe")),
]


def _nodes(node: Any) -> Iterator[Any]:
    """Every object and list of a document."""
    if isinstance(node, dict | list):
        yield node
        for inner in node.values() if isinstance(node, dict) else node:
            yield from _nodes(inner)


def _write_self_reference(directory: Path) -> None:
    """An index that lists a file with its own bytes, under a digest that they cannot have."""
    entry = {"mediaType": INDEX, "digest": f"sha256:{'a' * 64}", "size": 7}
    raw = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry, entry]})
    for name in (MANIFEST, f"{'a' * 64}.{MANIFEST}"):
        (directory / name).write_text(raw)


def _is_directory(path: Path) -> bool:
    return not path.is_symlink() and path.is_dir()


def _special(directory: str, names: list[str]) -> list[str]:
    kinds = {name: stat.S_IFMT(os.lstat(os.path.join(directory, name)).st_mode) for name in names}
    return [name for name, kind in kinds.items() if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)]


def _remove(path: Path) -> None:
    if _is_directory(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# what must hold nevertheless


class Case:
    """A copy of the sound images, now and then a site that was made of them, and then 1 to 4 things broken."""

    def __init__(self, directory: Path, sound: ManifestPaths, exporter: Exporter, chance: random.Random) -> None:
        self.directory, self.manifest_paths, self.exporter = directory, sound, exporter
        self.images, self.site, self.outside = (directory / name for name in ("images", "site", "outside"))
        shutil.copytree(directory.parent / "sound", self.images)
        self.outside.mkdir()
        states = {path: _state(directory.parent / "sound", path) for path in sound}
        self._give()
        if chance.random() < 0.5:
            assert self.export().status == 0
        breaker = Breaker(self.images, self.outside, chance)
        self.broken = [breaker.break_something() for _ in range(chance.randint(1, 4))]
        self.intact = [path for path in sound if _state(self.images, path) == states[path]]
        self._give()

    def export(self, *options: str) -> Ended:
        """Run it. All that it prints is printable."""
        ended = self.exporter.run(*options, "--json", "--jobs", "1", str(self.images), str(self.site))
        assert ended.status in (0, 1), ended
        assert "Traceback" not in ended.stderr
        assert "internal error" not in ended.stderr
        assert all(line.isprintable() for line in ended.stderr.splitlines()), ended.stderr
        return ended

    def tags(self) -> dict[str, str]:
        """Where each tag of the site leads."""
        links = [path for path in self.site.glob("v2/**/manifests/*") if path.is_symlink()]
        return {str(path.relative_to(self.site / "v2")): os.readlink(path) for path in links}

    def links_outside(self) -> int:
        """How many names the files have that were moved out of IMAGES."""
        return sum(path.lstat().st_nlink for path in self.outside.rglob("*"))

    def _give(self) -> None:
        for path in [self.directory, *self.directory.rglob("*")]:
            os.chown(path, USER or -1, USER or -1, follow_symlinks=False)


def _is_found(images: Path, path: str) -> bool:
    """Whether a directory is there, and none of its ancestors is an image."""
    ancestors = [images / each for each in list(Path(path).parents)[:-1]]
    return all(map(_is_directory, [*ancestors, images / path])) and not any(
        (each / MANIFEST).exists() for each in ancestors
    )


def _state(images: Path, path: str) -> object:
    """All files of an image, and the modes of its directory and of the ancestors; None if it is not found."""
    if not _is_found(images, path) or (images / MANIFEST).exists():
        return None
    modes = [(images / each).stat().st_mode for each in [Path(path), *Path(path).parents][:-1]]
    inner = (images / path).iterdir()
    return modes, {each.name: (each.lstat().st_mode, each.is_file() and each.read_bytes()) for each in inner}


@pytest.fixture
def case(request: pytest.FixtureRequest, shelf: Path, sound: ManifestPaths, exporter: Exporter) -> Iterator[Case]:
    directory = shelf / str(request.param)
    directory.mkdir()
    yield Case(directory, sound, exporter, random.Random(request.param))
    shutil.rmtree(directory)


@pytest.mark.parametrize("case", range(FIRST, FIRST + CASES), indirect=True)
def test_an_export_of_broken_images_reports_them_and_publishes_the_rest(case: Case) -> None:
    print(*case.broken, sep="\n")  # seen when the test fails
    before, old, tags = substance(case.images), registry(case.site), case.tags()
    outside, links = substance(case.outside), case.links_outside()
    first = case.export()
    if first.status == 1:
        assert registry(case.site) == old
        assert (case.site / "v2").exists() == bool(old)
    second = case.export("--keep-going")
    assert second.status == first.status
    report = json.loads(second.stdout)
    assert bool(report["faults"]) == bool(second.status)
    if (case.site / "v2").exists():
        assert_whole(case.site)
        verified = case.exporter.run("verify", "--jobs", "1", str(case.site))
        assert verified.status == 0, verified
    check_published(case, report, tags)
    assert substance(case.images) == before
    assert substance(case.outside) == outside
    assert case.links_outside() <= links
    assert {path.name for path in case.directory.iterdir()} <= {"images", "outside", "site"}


def check_published(case: Case, report: Report, old: dict[str, str]) -> None:
    """Images that are not broken are published. The others are reported, and their tags stay as they were served."""
    faults = {fault["path"]: fault["code"] for fault in report["faults"]}
    now = case.tags()
    for path, place in case.manifest_paths.items():
        manifests, _, manifest_name = place.rpartition("/")
        tag = f"{manifests}/{path.replace(':', '/').rpartition('/')[2]}"
        if path in case.intact and faults.get(path) not in CLASHES:
            assert (case.site / "v2" / place / manifest_name).is_file()
            assert "@" in path or now[tag] == manifest_name
        elif path in faults:
            assert now.get(tag) == old.get(tag)
        elif _is_found(case.images, path) and any(HEX.match(each.name) for each in (case.images / path).iterdir()):
            assert "@" in path or tag in now or not faults.keys().isdisjoint(["", *map(str, Path(path).parents)])


# what changes while it is read


def replace(path: Path) -> None:
    """Other bytes, as skopeo writes them: in a new file."""
    path.rename(path.with_name("dir-put-blob"))
    path.write_bytes(b"{}")


CHANGES: dict[str, Callable[[Path], None]] = {
    "replaced": replace,
    "removed": Path.unlink,
    "the image removed": lambda path: shutil.rmtree(path.parent),
}


@pytest.mark.parametrize(
    ("change", "what", "copied"),
    [
        ("replaced", "layer", False),
        ("replaced", "layer", True),
        ("replaced", "manifest", False),
        ("removed", "child", False),
        ("the image removed", "layer", False),
    ],
)
def test_images_may_change_at_any_time_while_they_are_read(
    shelf: Path, tmp_path: Path, change: str, what: str, copied: bool
) -> None:
    warm()
    before, images = shelf / "before", (tmp_path if copied else shelf) / "images"
    index = json.loads(write_index(before / "app/v1", layers=1, platforms=["amd64"]).raw)
    child = before / "app/v1" / f"{index['manifests'][0]['digest'][7:]}.{MANIFEST}"
    layer = json.loads(child.read_bytes())["layers"][0]["digest"][7:]
    path = images / "app/v1" / {"layer": layer, "child": child.name, "manifest": MANIFEST}[what]
    write_image(before / "stays/v1", seed=1, layers=1)

    def disturb(number: int) -> None:
        if number == victim:
            CHANGES[change](path)

    victim, changed = 0, True
    while changed:
        victim += 1
        for directory in (images, shelf / "site"):
            shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(before, images)
        ended = run("--keep-going", "--jobs", "1", str(images), str(shelf / "site"), before_read=disturb)
        changed = tree(images) != tree(before)
        assert ended.status in (0, 1), ended
        assert "internal error" not in ended.stderr
        if (shelf / "site/v2/_catalog").exists():
            assert_whole(shelf / "site")
    assert victim > 20
    shutil.rmtree(before)
