"""Pulls while exports run, and after exports that were killed: every tag that is answered can be pulled whole.

`SCR_TEST_SOAK` is how many seconds the soak takes on each server (8). Before a release, let it be 60:

    SCR_TEST_SOAK=60 tests/run tests/served/test_while_exporting.py
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pytest

from scr_export.publish.directory import tree as site_tree
from tests.support import forked
from tests.support.builders import tree, write_artifact, write_image, write_index
from tests.support.scenarios import Scenario, Stage, tag_targets
from tests.support.servers import HOST, START, open_directory

SOAK = float(os.environ.get("SCR_TEST_SOAK", "8"))  # seconds
ALGORITHMS = ("sha256", "sha384", "sha512")
UNKNOWN = ("MANIFEST_UNKNOWN", "NAME_UNKNOWN")


class Lost(AssertionError):
    """The site answered a tag or list whose content is not whole."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request."""

    asked: str
    status: int
    fields: Mapping[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"{self.asked}: {self.status} {dict(self.fields)} {self.body[:300]!r}"

    def is_unknown(self) -> bool:
        """Whether a manifest or a list is not there, or no site yet, in the words of the distribution spec."""
        code = json.loads(self.body)["errors"][0]["code"] if self.status in (404, 503) else ""
        return (self.status == 404 and code in UNKNOWN) or self.is_no_site()

    def is_no_site(self) -> bool:
        """Whether the server has no site: a first export publishes the list of repositories last."""
        return self.status == 503 and b"no readable site below the root" in self.body


class Client:
    """Pulls over one connection that stays open. `trail` has the requests since `begin`."""

    def __init__(self, port: int, linger: Callable[[], None] = lambda: None) -> None:
        self.trail: list[str] = []
        self._has: set[tuple[str, str]] = set()  # digests of repositories, not to be asked for twice
        self._connection = http.client.HTTPConnection(HOST, port, timeout=10)
        self._linger = linger  # between a manifest and what it names

    def begin(self) -> None:
        """Begin a new pull: forget what was pulled before."""
        self.trail.clear()
        self._has.clear()

    def close(self) -> None:
        """End it."""
        self._connection.close()

    def ask(self, method: str, path: str) -> Answer:
        """Send one request."""
        sent = time.monotonic()
        self._connection.request(method, path)
        with self._connection.getresponse() as response:
            fields = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(f"{method} {path}", response.status, fields, response.read())
        self.trail.append(f"{sent:.4f} to {time.monotonic():.4f} {answer.asked}: {answer.status}")
        return answer

    def pull(self, name: str, tag: str) -> str | None:
        """Pull a tag with all its content. Returns its manifest name, None if the tag is absent."""
        answer = self.ask("GET", f"/v2/{name}/manifests/{tag}")
        return None if answer.is_unknown() else self._follow(name, answer)

    def pull_as_docker(self, name: str, tag: str) -> str | None:
        """The same, but the tag is only resolved, and its manifest is asked for by digest."""
        answer = self.ask("HEAD", f"/v2/{name}/manifests/{tag}")
        if answer.status == 404:
            return None
        return self.pull_digest(name, answer.fields.get("docker-content-digest", str(answer)))

    def pull_digest(self, name: str, digest: str) -> str | None:
        """Pull a manifest that must exist, by digest. Returns its name, None if this client has it."""
        self._linger()
        if self._is_had(name, digest):
            return None
        answer = self.ask("GET", f"/v2/{name}/manifests/{digest}")
        manifest_name = self._follow(name, answer)
        _check(manifest_name.endswith(f"@{digest}"), "another manifest", answer)
        return manifest_name

    def pull_blob(self, name: str, digest: str, size: int) -> None:
        """Get a blob that must be there, unless this client has it."""
        if not self._is_had(name, digest):
            answer = self.ask("GET", f"/v2/{name}/blobs/{digest}")
            _check(answer.status == 200 and _digest(digest, answer.body) == digest, "no such blob", answer)
            _check(len(answer.body) == size, f"not {size} bytes", answer)

    def listed(self, path: str, key: str) -> list[str] | None:
        """What a list says; None if it is not there."""
        answer = self.ask("GET", path)
        if answer.is_unknown():
            return None
        _check(answer.status == 200, "no list", answer)
        names: list[str] = json.loads(answer.body)[key]
        return names

    def _follow(self, name: str, answer: Answer) -> str:
        _check(answer.status == 200, "no manifest", answer)
        digest, media_type = answer.fields.get("docker-content-digest", ""), answer.fields.get("content-type", "")
        _check(_digest(digest, answer.body) == digest, "not the digest of these bytes", answer)
        manifest: dict[str, Any] = json.loads(answer.body)
        _check(manifest["mediaType"] == media_type, "not the type of this manifest", answer)
        for child in manifest.get("manifests", ()):
            self.pull_digest(name, child["digest"])
        self._linger()
        for blob in [manifest[key] for key in ("config",) if key in manifest] + manifest.get("layers", []):
            self.pull_blob(name, blob["digest"], blob["size"])
        return f"{media_type.removeprefix('application/')}@{digest}"

    def _is_had(self, name: str, digest: str) -> bool:
        had = (name, digest) in self._has
        self._has.add((name, digest))
        return had


def _digest(like: str, data: bytes) -> str:
    """The digest of these bytes, by the algorithm of another digest."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}" if algorithm in ALGORITHMS else ""


def _check(holds: bool, what: str, answer: Answer) -> None:
    if not holds:
        raise Lost(f"{what}: {answer}")


# after exports that were killed


def many_kinds(images: Path) -> None:
    write_image(images / "app/moves", layers=1)
    write_image(images / "app/stays", seed=1, layers=1)
    write_image(images / "app/becomes", seed=2, layers=1, share_layers_of=1)
    write_image(images / "app/goes", seed=3, layers=1, docker=True)
    write_index(images / "list/moves", seed=4, layers=1)
    write_index(images / "list/becomes", seed=5, layers=1, docker=True, platforms=["amd64"])
    write_by_digest(images, seed=6)
    write_image(images / "gone/deep/v1", seed=7, layers=1, algorithm="sha512")


def many_changes(images: Path) -> None:
    write_image(images / "app/moves", seed=8, layers=1, share_layers_of=0)
    write_index(images / "app/becomes", seed=9, layers=1)
    write_index(images / "list/moves", seed=10, layers=1)
    write_image(images / "list/becomes", seed=11, layers=1)
    write_artifact(images / "new/deep/v1", seed=12)
    write_by_digest(images, seed=13)
    shutil.rmtree(images / "app/goes")
    shutil.rmtree(images / "gone")


def write_by_digest(images: Path, seed: int) -> None:
    """An index that no tag names."""
    built = write_index(images / "index", seed=seed, layers=1)
    (images / "index").rename(images / f"list@{built.digest}")


SCENARIOS = {
    "first": Scenario(None, many_kinds),
    "re-export": Scenario(many_kinds, many_changes),
    "re-export of copies, with grace": Scenario(many_kinds, many_changes, ()),
}


@pytest.fixture
def stage(request: pytest.FixtureRequest, images: Path, memory: Path, warm_exporter: None) -> Stage:
    if "copies" not in request.param:
        images = memory / "images"
        images.mkdir()
    return Stage(SCENARIOS[request.param], images, memory)


@pytest.mark.parametrize("stage", SCENARIOS, indirect=True)
def test_every_answer_after_a_kill_is_whole(stage: Stage, open_tmp: Path) -> None:
    def die(number: int) -> None:
        if number == victim:
            os.kill(os.getpid(), signal.SIGKILL)

    victim, status = 0, -signal.SIGKILL
    with contextlib.ExitStack() as running:
        servers = [running.enter_context(START[name](stage.site, open_tmp)) for name in START]
        clients = [running.enter_context(closing(Client(server.port))) for server in servers]
        while status:
            victim += 1
            stage.reset()
            status, messages = stage.export(die)
            assert (status, messages) in [(0, ""), (-signal.SIGKILL, "")]
            for client in clients:
                client.begin()
                try:
                    read_whole(client, stage)
                except AssertionError as error:
                    details = [f"killed before change {victim}: {error}", *client.trail, tree(stage.site)]
                    pytest.fail("\n".join(details), pytrace=False)
    assert victim > 30


def read_whole(client: Client, stage: Stage) -> None:
    """Every tag that is or was, every manifest and blob that is there, and all lists, each as it is on the disk."""
    registry = stage.site / "v2"
    linked = tag_targets(stage.site)
    for name, tag in sorted(stage.before.keys() | stage.after.keys()):
        manifest_name = client.pull(name, tag)
        assert manifest_name == linked.get((name, tag))
        assert manifest_name in (stage.before.get((name, tag)), stage.after.get((name, tag)))
    for path in registry.glob("**/manifests/*/*@*"):
        if not path.parent.is_symlink():
            manifest_name = client.pull_digest(_repository(registry, path.parent), path.name.partition("@")[2])
            assert manifest_name in (path.name, None)
    for path in registry.glob("**/blobs/*:*"):
        client.pull_blob(_repository(registry, path), path.name, path.stat().st_size)
    for name in client.listed("/v2/_catalog", "repositories") or ():
        assert client.listed(f"/v2/{name}/tags/list", "tags") is not None
    for name in sorted({name for name, _ in stage.before.keys() | stage.after.keys()}):
        assert {(name, tag) for tag in client.listed(f"/v2/{name}/tags/list", "tags") or ()} <= linked.keys()


def _repository(registry: Path, path: Path) -> str:
    return str(path.parents[1].relative_to(registry))


# while exports run, and are killed

STAY = [("app", "moves"), ("app", "becomes"), ("app", "v1"), ("team/deep/app", "v1"), ("team/deep/app", "moves")]
COME = [
    ("app", "comes"),
    ("app", "goes"),
    ("team/deep/app", "comes"),
    ("team", "comes"),
    ("other", "v1"),
    ("far/r", "x"),
]
GRACE = 6  # seconds, of some of the exports; a pull takes less
LINGER = (0, 0, 0, 0.1, 1)  # seconds between a manifest and what it names


@dataclass(slots=True)
class World:
    """IMAGES and SITE on one disk, and finished images to fill IMAGES with."""

    directory: Path
    random: random.Random
    pool: list[Path] = field(default_factory=list)

    @property
    def images(self) -> Path:
        return self.directory / "images"

    @property
    def site(self) -> Path:
        return self.directory / "site"

    @property
    def journal(self) -> Path:
        return self.directory / "journal"

    def fill(self) -> None:
        """Make the pool, and give a first image to each tag that is always there."""
        writers: list[Callable[[Path, int], object]] = [
            lambda path, seed: write_image(path, seed=seed),
            lambda path, seed: write_image(path, seed=seed, layers=3, share_layers_of=0),
            lambda path, seed: write_image(path, seed=seed, layers=1, layer_size=2**20),
            lambda path, seed: write_image(path, seed=seed, docker=True),
            lambda path, seed: write_index(path, seed=seed),
            lambda path, seed: write_index(path, seed=seed, docker=True, platforms=["amd64"]),
            lambda path, seed: write_artifact(path, seed=seed),
        ]
        for seed, write in enumerate([*writers, *writers[:2], writers[4]]):
            self.pool.append(self.directory / f"pool/{seed}")
            write(self.pool[-1], seed)
        for name, tag in STAY:
            self.place(name, tag)

    def place(self, name: str, tag: str) -> str:
        """Copy one of the images to a tag, as new files. Returns what was done."""
        chosen, directory = self.random.choice(self.pool), self.images / name / tag
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(chosen, directory)
        return f"{name}:{tag} = {self.digest(name, tag)}"

    def remove(self, name: str, tag: str) -> str:
        """Take a tag away, and with the last tag its directories: an empty one is a fault."""
        shutil.rmtree(self.images / name / tag)
        with contextlib.suppress(OSError):  # other tags are in it
            for directory in (self.images / name, *(self.images / name).parents):
                directory.rmdir()
        return f"{name}:{tag} removed"

    def digest(self, name: str, tag: str) -> str:
        """The digest of the manifest that a tag has in IMAGES."""
        return _digest("sha256:", (self.images / name / tag / "manifest.json").read_bytes())

    def change(self) -> str:
        """Let some tags move, come and go."""
        actions = [self.place(*each) for each in self.random.sample(STAY, self.random.randint(0, 2))]
        for name, tag in self.random.sample(COME, self.random.randint(0, 3)):
            is_there = (self.images / name / tag).exists()
            actions.append(self.remove(name, tag) if is_there and self.random.random() < 0.7 else self.place(name, tag))
        return ", ".join(actions)


def export_until(deadline: float, world: World) -> None:
    """Change IMAGES and export, again and again, at times slowly; let some exports die. All goes to the journal."""
    with world.journal.open("w", buffering=1) as journal:
        while time.monotonic() < deadline:
            changed = world.change()
            options = world.random.choice([(), (), ("--grace", str(GRACE)), ("--no-prune",)])
            victim = world.random.choice([0, 0, world.random.randint(1, 60)])
            pause = world.random.choice([0, 0, 0.001, 0.004])
            journal.write(f"{time.monotonic():.4f} export {' '.join(options)}: {changed}\n")
            ended = _export(world, *options, hook=_disturber(journal, victim, pause))
            journal.write(f"{time.monotonic():.4f} ended with {ended.status} {ended.stderr}\n")
            assert ended.status in (0, -signal.SIGKILL), ended.stderr


def _export(world: World, *options: str, hook: forked.Hook | None = None) -> forked.Ended:
    return forked.run(*options, "--jobs", "1", str(world.images), str(world.site), before_change=hook)


def _disturber(journal: TextIO, victim: int, pause: float) -> forked.Hook:
    def disturb(number: int) -> None:
        frame = sys._getframe(2)
        if frame.f_code.co_filename == site_tree.__file__:
            names = " ".join(str(frame.f_locals[key]) for key in ("temporary", "name", "new") if key in frame.f_locals)
            journal.write(f"{time.monotonic():.4f}   {number} {frame.f_code.co_name} {names}\n")
        if number == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(pause)

    return disturb


def pull_until(deadline: float, world: World, port: int, seed: int) -> Counter[str]:
    """Pull tags and read lists. Returns what was seen, and how often. Raises Lost with the journal."""
    chance, seen = random.Random(seed), Counter[str]()
    patient = False
    with closing(Client(port, lambda: time.sleep(chance.choice(LINGER)) if patient else None)) as client:
        while time.monotonic() < deadline:
            client.begin()
            name, tag = chance.choice(STAY + COME)
            patient = chance.random() < 0.1
            try:
                manifest_name = _pull(client, name, tag, by_digest=chance.random() < 0.5)
                _read_lists(client, name)
            except (Lost, OSError, http.client.HTTPException, ValueError) as error:
                there = tree(world.site / "v2" / name)
                journal = world.journal.read_text().splitlines()[-300:]
                raise Lost("\n".join([repr(error), *client.trail, there, *journal])) from None
            seen[f"{name}:{tag} {manifest_name}"] += 1
    return seen


def _pull(client: Client, name: str, tag: str, *, by_digest: bool) -> str | None:
    manifest_name = client.pull_as_docker(name, tag) if by_digest else client.pull(name, tag)
    if manifest_name is None and (name, tag) in STAY:
        raise Lost("a tag that is always there is not")
    return manifest_name


def _read_lists(client: Client, name: str) -> None:
    for path, key, staying in [
        ("/v2/_catalog", "repositories", {each for each, _ in STAY}),
        (f"/v2/{name}/tags/list", "tags", {tag for each, tag in STAY if each == name}),
    ]:
        listed = set(client.listed(path, key) or ())
        if not staying <= listed:
            raise Lost(f"{path} lacks {staying - listed}")


@pytest.mark.parametrize("server", START)
def test_pulls_do_not_fail_while_exports_run_and_die(server: str) -> None:
    with open_directory() as directory, open_directory() as tmp:
        world = World(directory, random.Random(server))
        world.fill()
        forked.warm()
        assert _export(world).status == 0
        deadline = time.monotonic() + SOAK
        # A process, since one that has threads should not fork.
        exporter = multiprocessing.get_context("fork").Process(target=export_until, args=(deadline, world))
        exporter.start()
        with START[server](world.site, tmp) as running, ThreadPoolExecutor() as pool:
            pulls = [pool.submit(pull_until, deadline, world, running.port, seed) for seed in range(4)]
            failures = [str(pull.exception()) for pull in pulls if pull.exception()]
            exporter.join()
            if failures:
                pytest.fail("\n\n".join(failures[:2]), pytrace=False)
            seen = sum((pull.result() for pull in pulls), Counter[str]())
            assert exporter.exitcode == 0
            with closing(Client(running.port)) as client:
                _check_the_end(world, client)
        _check_that_much_happened(world, seen)


def _check_the_end(world: World, client: Client) -> None:
    """An export without an interruption makes SITE equal to IMAGES."""
    assert _export(world).status == 0
    for name, tag in STAY + COME:
        manifest_name = client.pull(name, tag)
        there = (world.images / name / tag).exists()
        assert (manifest_name or "@").partition("@")[2] == (world.digest(name, tag) if there else "")
    assert forked.run("verify", str(world.site)).status == 0


def _check_that_much_happened(world: World, seen: Counter[str]) -> None:
    journal = world.journal.read_text()
    exports, killed = journal.count(" export "), journal.count(" ended with -9")
    print(f"{exports} exports, {killed} killed, {seen.total()} pulls")
    assert exports > 2
    assert killed or exports < 20
    assert len([each for each in seen if each.split()[0] in {f"{name}:{tag}" for name, tag in STAY}]) > len(STAY)
