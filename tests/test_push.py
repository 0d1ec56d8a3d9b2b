"""`scr-export push`: a site in a bucket of a real S3 store, whole at every moment."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from scr_export.errors import BucketError, BucketLockedError
from scr_export.publish.bucket import lock as lock_module
from scr_export.publish.bucket.settings import Settings, Target
from scr_export.publish.bucket.store import PART, Store
from tests.support.buckets import INDEX, MANIFEST, PAGE, TAG, Judge
from tests.support.builders import write_artifact, write_image, write_index
from tests.support.forked import TIMEOUT
from tests.support.pushes import environment, push, run_push, start_push
from tests.support.runner import export, wait
from tests.support.runner import start as runner_start
from tests.support.servers import HOST, free_port
from tests.support.stores import (
    S3,
    Bucket,
    Proxy,
    copy_bucket,
    counting,
    make_certificate,
    refuse,
    restore_bucket,
    versitygw,
)
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).parents[1]
OPENPGP = b"\xa3"  # how a signature begins
MINUTES = 301  # seconds after which a lock may be taken over


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with versitygw(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def bucket(store: S3, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """An empty bucket for this test alone."""
    name = f"b{abs(hash(request.node.nodeid)):x}"
    yield store.bucket(name, "team/registry")
    shutil.rmtree(store.directory / name)


@pytest.fixture
def proxy(store: S3) -> Iterator[Proxy]:
    with counting(store) as proxy:
        yield proxy


@pytest.fixture
def full(images: Path, site: Path) -> Path:
    """A site with something of everything."""
    subject = write_image(images / "library/app/v1", layers=3)
    write_image(images / "library/app/v2", seed=2, share_layers_of=0)
    write_image(images / "docker.io/library/x/1", seed=3, algorithm="sha512")
    write_index(images / "multi/1", seed=5, docker=True)
    nest(images / "multi/1")
    write_artifact(images / "library/app/ref", seed=9, subject=subject)
    for number in (1, 2):
        (images / f"library/app/v1/signature-{number}").write_bytes(OPENPGP + bytes([number]))
    export(images, site)
    return site


def nest(directory: Path) -> None:
    """Put an index around the one that is in an image directory, another one around that, and so on."""
    for _ in range(4):
        inner = (directory / "manifest.json").read_bytes()
        digest = hashlib.sha256(inner).hexdigest()
        (directory / f"{digest}.manifest.json").write_bytes(inner)
        media_type = json.loads(inner)["mediaType"]
        listed = [{"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(inner)}]
        outer = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
        (directory / "manifest.json").write_text(json.dumps(outer))


def change(images: Path, site: Path) -> None:
    """Change something of everything: a tag moves, others go, one is new; a repository goes, another comes."""
    shutil.rmtree(images / "library/app/v2")
    shutil.rmtree(images / "docker.io")
    shutil.rmtree(images / "library/app/ref")
    shutil.rmtree(images / "multi/1")
    write_index(images / "multi/1", seed=6)
    subject = write_image(images / "library/app/v3", seed=7)
    write_artifact(images / "library/app/ref2", seed=10, subject=subject)
    write_image(images / "quay.io/new/app/1", seed=8)
    (images / "library/app/v1/signature-1").unlink()
    (images / "library/app/v1/signature-2").rename(images / "library/app/v1/signature-1")
    export(images, site, "--grace", "0")


def age_lock(bucket: Bucket, seconds: float) -> None:
    """Make the lock older by the store's clock, which is the time stamp of a file here."""
    lock = bucket.directory / ".scr-export/lock"
    before = lock.stat().st_mtime - seconds
    os.utime(lock, (before, before))


def age_notes(bucket: Bucket, seconds: float) -> None:
    """Let it be so many seconds ago that content was found unreferenced."""
    notes = json.loads(bucket.get(".scr-export/unreferenced").body)
    notes["since"] = {key: since - seconds for key, since in notes["since"].items()}
    bucket.put(".scr-export/unreferenced", json.dumps(notes).encode())


def test_a_bucket_answers_for_everything_that_the_site_has(full: Path, bucket: Bucket) -> None:
    report = push(full, bucket.url, bucket.store.url)
    Judge(bucket).assert_is(full)
    assert (report["repositories"], report["tags"]) == (3, 5)
    assert report["sent"]["blobs"] == len({path.name for path in full.glob("v2/**/blobs/*")})
    assert report["objects"] == len(bucket.list())
    assert not (bucket.directory / ".scr-export/lock").exists()


def test_objects_have_exactly_the_types_and_the_metadata_that_fronts_need(full: Path, bucket: Bucket) -> None:
    push(full, bucket.url, bucket.store.url)
    tag = bucket.get("v2/multi/manifests/1")
    assert tag.headers["content-type"] == INDEX
    types = {
        bucket.get(key).headers["content-type"].rpartition(".")[0] for key in bucket.list() if MANIFEST.fullmatch(key)
    }
    kinds = (
        "oci.image.index",
        "oci.image.manifest",
        "docker.distribution.manifest",
        "docker.distribution.manifest.list",
    )
    assert types == {f"application/vnd.{kind}" for kind in kinds}
    assert tag.headers["x-amz-meta-digest"].startswith("sha256:")
    assert bucket.get("v2/_images.txt").headers["content-type"] == "text/plain"
    catalog = bucket.get("v2/_catalog/list")
    assert catalog.headers["content-type"] == "application/json"
    page = bucket.get(f"v2/_catalog/_pages@{catalog.headers['x-amz-meta-pages']}/@1")
    assert json.loads(page.body) == {"repositories": ["docker.io/library/x"]}
    assert page.headers["x-amz-meta-next"] == "docker.io%2Flibrary%2Fx"
    [subject] = [key for key in bucket.list() if key.endswith("/@all")]
    assert bucket.get(subject).headers["content-type"] == "application/vnd.oci.image.index.v1+json"
    blob = next(key for key in bucket.list() if key.startswith("blobs/sha512:"))
    assert bucket.get(blob).headers["content-type"] == "application/octet-stream"
    assert bucket.get(blob).headers["x-amz-meta-digest"] == blob.partition("/")[2]
    assert {key for key in bucket.list() if "/_ns/" in key} == {
        f"v2/_ns/{n}" for n in ("docker.io", "library", "multi")
    }


def test_a_bucket_without_a_prefix_has_the_same_keys(full: Path, store: S3) -> None:
    whole = store.bucket("without-a-prefix")
    push(full, "s3://without-a-prefix/", store.url)
    Judge(whole).assert_is(full)


def test_an_unchanged_site_sends_nothing(full: Path, bucket: Bucket, proxy: Proxy) -> None:
    push(full, bucket.url, bucket.store.url)
    proxy.only_writing = False
    report = push(full, bucket.url, proxy.url)
    assert report["unchanged"] == report["objects"]
    assert [method for method, _ in proxy.seen if method not in ("GET", "HEAD")] == ["PUT", "POST"]  # the lock
    assert len(proxy.seen) < 10


def test_only_differences_are_sent(images: Path, full: Path, bucket: Bucket, proxy: Proxy) -> None:
    push(full, bucket.url, bucket.store.url)
    write_image(images / "library/app/v1", seed=2, share_layers_of=0)  # the tag moves to an image that is there
    export(images, full)
    report = push(full, bucket.url, proxy.url)
    assert report["tag_changes"]["added"] == report["tag_changes"]["removed"] == []
    assert [line.partition(" ")[0] for line in report["tag_changes"]["moved"]] == ["library/app:v1"]
    sent = [path.rpartition("registry/")[2] for path in proxy.writes if path.startswith(f"/{bucket.name}/")]
    assert "v2/library/app/manifests/v1" in sent
    assert not [key for key in sent if key.startswith("blobs/") or "/manifests/sha" in key or "tags/list" in key]
    Judge(bucket).assert_is(full, and_nothing_else=False)


def test_no_name_is_broken_between_any_two_requests(images: Path, full: Path, bucket: Bucket, proxy: Proxy) -> None:
    """The bucket is read as a whole after each request that changes something, in three pushes."""
    judge = Judge(bucket)

    def look(number: int, method: str, path: str) -> None:
        judge.forget(path)
        judge.assert_whole()

    proxy.after = look
    push(full, bucket.url, proxy.url)
    judge.assert_is(full)
    change(images, full)
    report = push(full, bucket.url, proxy.url)
    judge.assert_is(full, and_nothing_else=False)
    assert report["unreferenced"]["count"] > 10
    age_notes(bucket, 900)
    push(full, bucket.url, proxy.url)
    judge.assert_is(full)
    assert len(proxy.seen) > 150


def test_a_killed_push_leaves_no_broken_name_and_the_next_one_goes_on(
    images: Path, full: Path, bucket: Bucket, proxy: Proxy, tmp_path: Path
) -> None:
    push(full, bucket.url, bucket.store.url)
    change(images, full)
    push(full, bucket.url, bucket.store.url)  # some content is unreferenced, and due in the next push
    age_notes(bucket, 900)
    shutil.rmtree(images / "quay.io")
    write_image(images / "library/app/v3", seed=11)
    write_image(images / "library/app/v4", seed=3, algorithm="sha512")  # its content was unreferenced
    export(images, full, "--grace", "0")
    copy_bucket(bucket, tmp_path / "kept")
    push(full, bucket.url, proxy.url)
    number = len(proxy.seen)
    assert number > 30
    for last in range(1, number, 4):
        restore_bucket(bucket, tmp_path / "kept")
        _kill_after(last, full, bucket, proxy)
        Judge(bucket).assert_whole()
        if (bucket.directory / ".scr-export/lock").exists():
            age_lock(bucket, MINUTES)
        push(full, bucket.url, bucket.store.url)
        Judge(bucket).assert_is(full, and_nothing_else=False)


def _kill_after(last: int, site: Path, bucket: Bucket, proxy: Proxy) -> None:
    """Kill a push before or after its request of this number reaches the store, in turns."""
    proxy.seen.clear()

    def kill(number: int, method: str, path: str) -> None:
        if number == last:
            process.kill()
            process.wait()
        if number >= last:  # what other threads had sent already comes too, or does not
            refuse(503)

    proxy.before, proxy.after = (kill, None) if last % 2 else (None, kill)
    process = start_push(site, bucket.url, proxy.url)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    proxy.before = proxy.after = None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_push_says_so_and_releases_its_lock(
    full: Path, bucket: Bucket, proxy: Proxy, number: signal.Signals, status: int
) -> None:
    process = None

    def interrupt(count: int, method: str, path: str) -> None:
        if count == 20 and process:
            process.send_signal(number)

    proxy.before = interrupt
    process = start_push(full, bucket.url, proxy.url)
    ended = wait(process)
    assert ended.returncode == status
    assert ended.stderr.count("\n") == 1
    assert "every tag in the bucket can still be pulled" in ended.stderr
    assert not (bucket.directory / ".scr-export/lock").exists()
    Judge(bucket).assert_whole()
    push(full, bucket.url, bucket.store.url)
    Judge(bucket).assert_is(full)


@pytest.mark.parametrize("stage", ["GET", "PUT"])
def test_a_push_that_waits_for_a_dead_store_can_be_interrupted(
    full: Path, bucket: Bucket, proxy: Proxy, stage: str
) -> None:
    """The store takes the request and never answers: the listing, or blobs that many threads send."""
    over, hangs = threading.Event(), threading.Event()

    def hang(number: int, method: str, path: str) -> None:
        if method == stage and ("list-type" in path or "/blobs/sha" in path):
            hangs.set()
            over.wait(TIMEOUT)
            refuse(503)

    proxy.only_writing = False
    proxy.before = hang
    process = start_push(full, bucket.url, proxy.url)
    wait_until(hangs.is_set, process)
    process.send_signal(signal.SIGINT)
    try:
        ended = wait(process)
    finally:
        over.set()
    assert ended.returncode == 130
    assert ended.stderr.count("\n") == 1
    assert "push interrupted" in ended.stderr


def test_a_second_push_at_once_ends_with_status_3(full: Path, bucket: Bucket, proxy: Proxy) -> None:
    ended = []

    def second(number: int, method: str, path: str) -> None:
        if number == 10:
            ended.append(run_push(full, bucket.url, bucket.store.url))

    proxy.before = second
    push(full, bucket.url, proxy.url)
    assert ended[0].returncode == 3
    assert ended[0].stdout == ""
    assert "held by process" in ended[0].stderr
    assert ended[0].stderr.count("\n") == 1
    Judge(bucket).assert_is(full)


def test_the_lock_of_a_killed_push_is_taken_over_after_five_minutes(full: Path, bucket: Bucket, proxy: Proxy) -> None:
    _kill_after(20, full, bucket, proxy)
    age_lock(bucket, MINUTES - 30)
    refused = run_push(full, bucket.url, bucket.store.url)
    assert refused.returncode == 3
    assert "can be taken over in" in refused.stderr
    age_lock(bucket, 30)
    push(full, bucket.url, bucket.store.url)
    Judge(bucket).assert_is(full)
    assert not (bucket.directory / ".scr-export/lock").exists()


def test_a_push_whose_lock_was_taken_over_names_nothing(full: Path, bucket: Bucket, proxy: Proxy) -> None:
    """It was stopped for more than five minutes while it sent blobs; meanwhile another push came and went."""
    before = []

    def take_over(number: int, method: str, path: str) -> None:
        if number == 10:
            age_lock(bucket, MINUTES)
            push(full, bucket.url, bucket.store.url)
            before.append(bucket.list())

    proxy.before = take_over
    ended = run_push(full, bucket.url, proxy.url)
    assert ended.returncode == 3
    assert "another run took the lock" in ended.stderr
    written = [path for path in proxy.writes[10:] if "/blobs/sha" not in path]
    assert written == []
    Judge(bucket).assert_is(full)


def test_a_lock_is_had_though_the_answer_that_says_so_was_lost(full: Path, bucket: Bucket, proxy: Proxy) -> None:
    """The library repeats the request, and finds that there is a lock: this run's."""
    proxy.after = lambda number, method, path: refuse(503) if number == 1 else None
    push(full, bucket.url, proxy.url)
    assert [path.rpartition("/")[2] for path in proxy.writes[:2]] == ["lock", "lock"]
    Judge(bucket).assert_is(full)
    assert not (bucket.directory / ".scr-export/lock").exists()


def opened(bucket: Bucket, endpoint: str) -> Store:
    """The bucket as a push has it."""
    return Store(Target.parse(bucket.url), Settings.find(endpoint, environment()))


def test_a_holder_renews_its_lock_and_a_second_push_sees_it(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock itself, with a renewal each 50 ms in place of each minute."""
    monkeypatch.setattr(lock_module, "TIMES", lock_module.LockTimes(renewal=0.05))
    held = opened(bucket, bucket.store.url)
    path = bucket.directory / ".scr-export/lock"
    with lock_module.hold_lock(held) as lease:
        texts: set[bytes] = set()

        def is_renewed() -> bool:
            texts.add(path.read_bytes())
            return len(texts) > 3

        wait_until(is_renewed)
        assert len({json.loads(text)["run"] for text in texts if text}) == 1
        lease.confirm()
        with pytest.raises(BucketLockedError, match="held by process"), lock_module.hold_lock(held):
            pass
        path.unlink()
        with pytest.raises(BucketLockedError, match="took the lock"):
            lease.confirm()
    assert not path.exists()


def test_a_holder_goes_on_when_the_answer_to_a_renewal_was_lost(
    bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "TIMES", lock_module.LockTimes(renewal=0.05, retry=0.05))
    proxy.after = lambda number, method, path: refuse(503) if number in (3, 6) else None
    with lock_module.hold_lock(opened(bucket, proxy.url)) as lease:
        wait_until(lambda: len(proxy.seen) > 12)
        lease.confirm()
    assert not (bucket.directory / ".scr-export/lock").exists()


def test_a_holder_that_cannot_renew_its_lock_gives_up(
    bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 0.3 s in place of four minutes."""
    monkeypatch.setattr(lock_module, "TIMES", lock_module.LockTimes(renewal=0.05, retry=0.05, give_up=0.3))
    proxy.before = lambda number, method, path: refuse(503) if number > 1 else None
    with lock_module.hold_lock(opened(bucket, proxy.url)) as lease:
        lease.confirm()
        problems: list[str] = []

        def is_given_up() -> bool:
            try:
                lease.confirm()
            except BucketError as error:
                problems.append(str(error))
            return bool(problems)

        wait_until(is_given_up)
        assert "could not be renewed" in problems[0]


# --- damage ---


def damage(path: Path) -> None:
    """Change a byte of a file, and nothing else."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damaged_content_of_the_site_stops_a_push_before_anything_is_named(full: Path, bucket: Bucket) -> None:
    blob = next(path for path in sorted(full.glob("v2/multi/blobs/*")) if path.stat().st_size > 10)
    damage(blob)
    ended = run_push(full, bucket.url, bucket.store.url)
    assert ended.returncode == 1
    assert f"{blob}: is damaged: its bytes have the digest" in ended.stderr
    assert "nothing was published: 1 fault" in ended.stderr
    assert [key for key in bucket.list() if not key.startswith("blobs/")] == []
    assert f"blobs/{blob.name}" not in bucket.list()
    assert not (bucket.directory / ".scr-export/lock").exists()


def test_a_large_blob_goes_in_parts_and_is_not_there_if_it_is_damaged(images: Path, site: Path, bucket: Bucket) -> None:
    write_image(images / "big/1", layers=1, layer_size=2 * PART + 4321, compression="none")
    write_image(images / "edge/1", seed=1, layers=1, layer_size=PART - 10240, compression="none")
    export(images, site)
    [large] = [path for path in site.glob("v2/big/blobs/*") if path.stat().st_size > PART]
    [whole] = [path for path in site.glob("v2/edge/blobs/*") if path.stat().st_size > PART // 2]
    assert whole.stat().st_size <= PART
    damage(large)
    report = push(site, bucket.url, bucket.store.url, status=1)
    assert [fault["code"] for fault in report["faults"]] == ["digest"]
    assert f"blobs/{large.name}" not in bucket.list()
    damage(large)
    push(site, bucket.url, bucket.store.url)
    Judge(bucket).assert_is(site)
    assert bucket.list()[f"blobs/{large.name}"].etag.endswith("-3")
    assert "-" not in bucket.list()[f"blobs/{whole.name}"].etag
    answer = bucket.get(f"blobs/{large.name}")
    assert answer.headers["x-amz-meta-digest"] == large.name
    assert answer.headers["content-type"] == "application/octet-stream"
    assert push(site, bucket.url, bucket.store.url)["sent"]["blobs"] == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def close(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("pattern", "spoil", "code"),
    [
        ("v2/multi/blobs/*", Path.unlink, "missing"),
        ("v2/multi/blobs/*", cut, "size"),
        ("v2/library/app/manifests/*/*@sha*", cut, "manifest"),
        ("v2/library/app/manifests/*/*@sha*", Path.unlink, "manifest"),
        ("v2/_sigstore/*/*/signature-1", close, "unreadable"),
    ],
)
def test_a_site_that_shows_damage_is_not_pushed(
    full: Path, bucket: Bucket, pattern: str, spoil: Callable[[Path], None], code: str
) -> None:
    spoil(next(path for path in sorted(full.glob(pattern))))
    report = push(full, bucket.url, bucket.store.url, status=1)
    assert {fault["code"] for fault in report["faults"]} == {code}
    assert bucket.list() == {}
    assert not (bucket.directory / ".scr-export/lock").exists()


def test_a_tag_that_leads_nowhere_is_a_fault(full: Path, bucket: Bucket) -> None:
    (full / "v2/multi/manifests/1").unlink()
    (full / "v2/multi/manifests/1").symlink_to(f"vnd.oci.image.index.v1+json@sha256:{'0' * 64}")
    report = push(full, bucket.url, bucket.store.url, status=1)
    assert [fault["code"] for fault in report["faults"]] == ["tag"]


@pytest.mark.parametrize(
    "key", ["v2/library/app/manifests/v1", "v2/library/app/tags/list", "v2/library/app/manifests/sha256:", "blobs/"]
)
def test_verify_finds_damaged_objects_and_sends_them_again(full: Path, bucket: Bucket, key: str) -> None:
    push(full, bucket.url, bucket.store.url)
    name = next(each for each, listed in sorted(bucket.list().items()) if each.startswith(key) and listed.size > 10)
    damage(bucket.directory / name)
    assert push(full, bucket.url, bucket.store.url)["sent"] == dict.fromkeys(
        ("tags", "manifests", "blobs", "lists", "other"), 0
    )
    looked = push(full, bucket.url, bucket.store.url, "--verify", "--dry-run", status=1)
    report = push(full, bucket.url, bucket.store.url, "--verify", status=1)
    for each in (looked, report):
        assert [(fault["in"], fault["path"], fault["code"]) for fault in each["faults"]] == [
            ("BUCKET", name, "damaged")
        ]
    assert sum(report["sent"].values()) == 1
    assert report["checked"] == report["objects"]
    Judge(bucket).assert_is(full)
    assert push(full, bucket.url, bucket.store.url, "--verify")["faults"] == []


def test_verify_finds_metadata_that_was_changed(full: Path, bucket: Bucket) -> None:
    push(full, bucket.url, bucket.store.url)
    bucket.put("v2/_ns/multi", b"")
    page = next(key for key in bucket.list() if PAGE.fullmatch(key) and "x-amz-meta-next" in bucket.get(key).headers)
    bucket.put(page, bucket.get(page).body)
    ended = run_push(full, bucket.url, bucket.store.url, "--verify")
    assert ended.returncode == 1
    assert f"error: {bucket.url}/{page}: has other metadata" in ended.stderr
    assert "v2/_ns/multi" in ended.stderr
    Judge(bucket).assert_is(full)


def test_an_object_that_goes_while_it_is_checked_is_sent_again(full: Path, bucket: Bucket, proxy: Proxy) -> None:
    push(full, bucket.url, bucket.store.url)
    names = ("blobs/sha512:", "v2/library/app/manifests/v1")
    gone = [next(key for key in bucket.list() if key.startswith(name)) for name in names]
    os.setxattr(bucket.directory / gone[1], "user.etag", b"0" * 32)  # so that it is asked for
    wanted = {quote(f"/{bucket.name}/{bucket.prefix}{key}", safe="/"): key for key in gone}

    def remove(number: int, method: str, path: str) -> None:
        if key := wanted.pop(quote(unquote(path), safe="/"), None):
            bucket.delete(key)

    proxy.only_writing = False
    proxy.before = remove
    report = push(full, bucket.url, proxy.url, "--verify", status=1)
    assert [fault["path"] for fault in report["faults"]] == gone[:1]  # the tag was found missing before
    assert "is gone" in report["faults"][0]["what"]
    Judge(bucket).assert_is(full)


def test_content_that_is_cut_short_in_the_bucket_is_sent_again_by_any_push(full: Path, bucket: Bucket) -> None:
    push(full, bucket.url, bucket.store.url)
    name = next(key for key, each in bucket.list().items() if key.startswith("blobs/") and each.size > 10)
    os.truncate(bucket.directory / name, 5)
    assert push(full, bucket.url, bucket.store.url)["sent"]["blobs"] == 1
    Judge(bucket).assert_is(full)


# --- what the listing does not tell ---


def test_a_tag_moves_between_digests_of_two_algorithms_of_the_same_bytes(site: Path, bucket: Bucket) -> None:
    """No image directory makes such a site; another program, or a later version, may."""
    images = site.parent / "both"
    built = write_image(images / "app/1")
    export(images, site)
    push(site, bucket.url, bucket.store.url)
    by_sha512 = f"{built.media_type.removeprefix('application/')}@sha512:{hashlib.sha512(built.raw).hexdigest()}"
    manifests = site / "v2/app/manifests"
    (manifests / by_sha512).mkdir()
    (manifests / by_sha512 / by_sha512).write_bytes(built.raw)
    for target in (by_sha512, built.manifest_name):
        (manifests / "1").unlink()
        (manifests / "1").symlink_to(target)
        push(site, bucket.url, bucket.store.url)
        assert bucket.get("v2/app/manifests/1").headers["x-amz-meta-digest"] == target.partition("@")[2]


def test_a_store_whose_etags_are_no_md5_is_asked_for_metadata(full: Path, bucket: Bucket, proxy: Proxy) -> None:
    """As with encryption by a key service."""
    push(full, bucket.url, bucket.store.url)
    for key in bucket.list():
        os.setxattr(bucket.directory / key, "user.etag", hashlib.sha1(key.encode()).hexdigest()[:32].encode())
    report = push(full, bucket.url, proxy.url)
    assert report["unchanged"] == report["objects"]
    assert [method for method, _ in proxy.seen] == ["PUT", "POST"]
    with counting(bucket.store) as asked:
        asked.only_writing = False
        push(full, bucket.url, asked.url)
    lists = [key for key in bucket.list() if key.endswith("/list") or "/referrers/" in key]
    others = 2 + 1  # signatures, images.txt
    assert [method for method, _ in asked.seen].count("HEAD") == report["tags"] + len(lists) + others


# --- removal ---


def test_content_that_is_needed_again_loses_its_note(images: Path, full: Path, bucket: Bucket) -> None:
    """A blob is dropped, needed, and dropped again: the grace period begins anew."""
    push(full, bucket.url, bucket.store.url)
    away = images.parent / "away"
    for place in (away, images / "docker.io", away):
        source = images / "docker.io" if place == away else away
        source.rename(place)
        export(images, full, "--grace", "0")
        push(full, bucket.url, bucket.store.url)
        noted = json.loads(bucket.get(".scr-export/unreferenced").body)["since"]
        blobs = [key for key in bucket.list() if key.startswith("blobs/sha512:")]
        assert len(blobs) == 3
        assert len(noted.keys() & set(blobs)) == (3 if place == away else 0)
        age_notes(bucket, 450)  # twice this is enough
    push(full, bucket.url, bucket.store.url)
    assert set(blobs) <= bucket.list().keys()
    age_notes(bucket, 450)
    push(full, bucket.url, bucket.store.url)
    assert not set(blobs) & bucket.list().keys()
    Judge(bucket).assert_whole()


def test_a_note_is_gone_before_content_is_needed_again(images: Path, full: Path, bucket: Bucket, proxy: Proxy) -> None:
    """The push that needed it again was killed; what that push named is dropped again before the next one ends."""
    push(full, bucket.url, bucket.store.url)
    (images / "docker.io").rename(images.parent / "away")
    export(images, full, "--grace", "0")
    push(full, bucket.url, bucket.store.url)
    age_notes(bucket, 900)
    (images.parent / "away").rename(images / "docker.io")
    export(images, full, "--grace", "0")

    def kill(number: int, method: str, path: str) -> None:
        if path.endswith("/docker.io/library/x/manifests/1"):
            process.kill()
            process.wait()

    proxy.after = kill
    process = start_push(full, bucket.url, proxy.url)
    process.communicate()
    Judge(bucket).assert_whole()
    before = bucket.list().keys()
    assert "v2/docker.io/library/x/manifests/1" in before
    (images / "docker.io").rename(images.parent / "away")
    export(images, full, "--grace", "0")
    age_lock(bucket, MINUTES)
    push(full, bucket.url, bucket.store.url)
    assert {key for key in before if key.startswith("blobs/")} <= bucket.list().keys()


def test_an_index_goes_before_what_it_lists(images: Path, full: Path, bucket: Bucket, proxy: Proxy) -> None:
    push(full, bucket.url, bucket.store.url)
    shutil.rmtree(images / "multi")
    export(images, full, "--grace", "0")
    push(full, bucket.url, bucket.store.url)
    manifests = {key for key in bucket.list() if MANIFEST.fullmatch(key) and key.startswith("v2/multi/")}
    assert len(manifests) == 7
    left = []
    proxy.after = lambda number, method, path: left.append(manifests & bucket.list().keys())
    push(full, bucket.url, proxy.url, "--grace", "0")
    assert sorted({len(each) for each in left}) == [0, 2, 7]  # five indexes, and what they list
    Judge(bucket).assert_is(full)


@pytest.mark.parametrize("names", [("a/x", "a/manifests/x/1"), ("a/manifests/x/1", "a/x")])
def test_a_repository_comes_where_a_tag_was_and_the_other_way_round(
    images: Path, site: Path, bucket: Bucket, names: tuple[str, str]
) -> None:
    """versitygw keeps objects as files, so a key cannot be another one's directory."""
    write_image(images / "a/y")
    for name in names:
        shutil.rmtree(images / "a/x", ignore_errors=True)
        shutil.rmtree(images / "a/manifests", ignore_errors=True)
        write_image(images / name, seed=1)
        export(images, site, "--grace", "0")
        push(site, bucket.url, bucket.store.url)
        Judge(bucket).assert_is(site, and_nothing_else=False)


def test_a_bucket_of_all_other_images_becomes_that_of_a_site(
    images: Path, full: Path, bucket: Bucket, tmp_path: Path
) -> None:
    push(full, bucket.url, bucket.store.url)
    write_image(images.parent / "other/app/1", seed=77)
    other = tmp_path / "other-site"
    export(images.parent / "other", other)
    push(other, bucket.url, bucket.store.url)
    assert [key for key in bucket.list() if TAG.fullmatch(key)] == ["v2/app/manifests/1"]
    push(other, bucket.url, bucket.store.url, "--grace", "0")
    Judge(bucket).assert_is(other)


# --- the site meanwhile, and other sites ---


def test_an_export_during_a_push_changes_nothing_that_is_sent(
    images: Path, full: Path, bucket: Bucket, proxy: Proxy, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    subprocess.run(["cp", "-a", full, before], check=True)

    def export_meanwhile(number: int, method: str, path: str) -> None:
        if number == 5:
            change(images, full)

    proxy.before = export_meanwhile
    push(full, bucket.url, proxy.url)
    Judge(bucket).assert_is(before)
    assert list((full / ".scr-export/push").iterdir()) == []
    push(full, bucket.url, bucket.store.url)
    Judge(bucket).assert_is(full, and_nothing_else=False)


def test_a_mirror_of_a_site_is_pushed_as_the_site_is(full: Path, bucket: Bucket, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    subprocess.run(["rsync", "-a", "--exclude=/.scr-export", f"{full}/", mirror], check=True)
    push(mirror, bucket.url, bucket.store.url)
    Judge(bucket).assert_is(full)
    assert not (mirror / ".scr-export").exists()


def test_content_in_its_grace_period_in_the_site_is_not_sent(images: Path, full: Path, bucket: Bucket) -> None:
    change(images, full)
    shutil.rmtree(images / "quay.io")
    export(images, full)
    assert list(full.glob("v2/quay.io/new/app/blobs/*"))
    push(full, bucket.url, bucket.store.url)
    assert not [key for key in bucket.list() if "quay.io" in key]
    Judge(bucket).assert_whole()


def test_an_images_txt_of_the_operators_own_is_left_out(full: Path, bucket: Bucket) -> None:
    (full / "images.txt").write_text("mine\n")
    ended = run_push(full, bucket.url, bucket.store.url)
    assert ended.returncode == 0
    assert "scr-export did not write it" in ended.stderr
    assert "v2/_images.txt" not in bucket.list()


def test_of_a_thousand_images_ten_that_changed_are_sent(images: Path, site: Path, bucket: Bucket, proxy: Proxy) -> None:
    for number in range(1000):
        write_image(images / f"r{number % 10}/app/{number // 10}", seed=number, layers=1, share_layers_of=0)
    export(images, site)
    push(site, bucket.url, bucket.store.url)
    for number in range(10):
        write_image(images / f"r{number}/app/0", seed=5000 + number, layers=1, share_layers_of=0)
    export(images, site)
    report = push(site, bucket.url, proxy.url)
    assert [line.partition(" ")[0] for line in report["tag_changes"]["moved"]] == [f"r{n}/app:0" for n in range(10)]
    assert report["sent"] == {"tags": 10, "manifests": 10, "blobs": 10, "lists": 1, "other": 10}
    sent = [path for path in proxy.writes if "/.scr-export/" not in path and "?delete" not in path]
    assert len(sent) == 41  # with the marker of each new blob, and images.txt
    Judge(bucket).assert_whole()


# --- what the operator is told ---


def test_a_dry_run_names_every_tag_and_writes_nothing(images: Path, full: Path, bucket: Bucket, proxy: Proxy) -> None:
    ended = run_push(full, bucket.url, proxy.url, "--dry-run")
    assert ended.returncode == 0
    assert "+ library/app:v1 sha256:" in ended.stdout
    assert "dry run: nothing is written" in ended.stdout
    assert proxy.seen == []
    assert bucket.list() == {}
    push(full, bucket.url, bucket.store.url)
    change(images, full)
    before = {path: path.stat().st_mtime_ns for path in bucket.directory.rglob("*")}
    lines = run_push(full, bucket.url, proxy.url, "--dry-run").stdout.splitlines()
    assert {"- docker.io/library/x:1", "- library/app:ref", "- library/app:v2"} <= set(lines)
    assert [line.partition(" sha")[0] for line in lines if line[0] == "~"] == ["~ multi:1"]
    assert {path: path.stat().st_mtime_ns for path in bucket.directory.rglob("*")} == before
    assert not (full / ".scr-export/push").exists() or not list((full / ".scr-export/push").iterdir())


def test_a_push_says_what_it_did(full: Path, bucket: Bucket) -> None:
    ended = run_push(full, bucket.url, bucket.store.url)
    assert ended.stderr == ""
    first, sent, *_ = ended.stdout.splitlines()
    assert first == f"{full} to {bucket.url}: 3 repositories, 5 tags, {len(bucket.list())} objects"
    assert sent.startswith("  sent     5 tags, ")
    assert "nothing changed" in run_push(full, bucket.url, bucket.store.url).stdout
    assert run_push(full, bucket.url, bucket.store.url, "-q").stdout == ""


def one_line(ended: subprocess.CompletedProcess[str], status: int) -> str:
    assert ended.returncode == status, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("scr-export: ")
    return ended.stderr


def test_a_missing_site_is_one_line_before_the_store_is_asked(store: S3, tmp_path: Path) -> None:
    ended = run_push(tmp_path / "nowhere", "s3://images", "http://127.0.0.1:9")
    assert "nowhere: No such file or directory" in one_line(ended, 1)
    assert "has no v2/: not a site" in one_line(run_push(tmp_path, "s3://images", store.url), 1)


def test_a_missing_bucket_is_one_line(full: Path, store: S3) -> None:
    assert "there is no bucket nowhere at http" in one_line(run_push(full, "s3://nowhere", store.url), 1)


@pytest.mark.parametrize(("name", "value"), [("AWS_ACCESS_KEY_ID", "who"), ("AWS_SECRET_ACCESS_KEY", "wrong")])
def test_wrong_credentials_are_one_line(full: Path, bucket: Bucket, name: str, value: str) -> None:
    ended = run_push(full, bucket.url, bucket.store.url, env=environment(**{name: value}))
    assert "refuses the credentials" in one_line(ended, 1)
    assert value not in ended.stderr or name == "AWS_ACCESS_KEY_ID"


def test_missing_credentials_are_one_line(full: Path, bucket: Bucket, tmp_path: Path) -> None:
    env = environment(HOME=str(tmp_path))
    del env["AWS_ACCESS_KEY_ID"]
    assert "there are no credentials" in one_line(run_push(full, bucket.url, bucket.store.url, env=env), 2)


def test_credentials_of_a_profile_are_used(full: Path, bucket: Bucket, tmp_path: Path) -> None:
    env = environment(HOME=str(tmp_path), AWS_PROFILE="lab")
    key, secret = env.pop("AWS_ACCESS_KEY_ID"), env.pop("AWS_SECRET_ACCESS_KEY")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(f"[lab]\naws_access_key_id={key}\naws_secret_access_key={secret}\n")
    (tmp_path / ".aws/config").write_text(f"[profile lab]\nendpoint_url = {bucket.store.url}\n")
    assert run_push(full, bucket.url, "", env=env).returncode == 0
    Judge(bucket).assert_is(full)


def test_a_user_who_may_only_read_is_told_what_a_push_needs(full: Path, bucket: Bucket) -> None:
    bucket.store.add_reader(bucket, "guest", "guestsecret1")
    env = environment(AWS_ACCESS_KEY_ID="guest", AWS_SECRET_ACCESS_KEY="guestsecret1")
    ended = run_push(full, bucket.url, bucket.store.url, env=env)
    assert "permission denied; a push needs s3:ListBucket" in one_line(ended, 1)
    assert run_push(full, bucket.url, bucket.store.url, "--dry-run", env=env).returncode == 0


def test_the_four_permissions_that_the_papers_name_are_enough(images: Path, full: Path, bucket: Bucket) -> None:
    papers = (CHECKOUT / "examples/README.md").read_text()
    four = ("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
    assert all(f"`{each}`" in papers for each in four)
    bucket.store.add_reader(bucket, "pusher", "pushersecret1")
    bucket.allow(*four, user="pusher")
    env = environment(AWS_ACCESS_KEY_ID="pusher", AWS_SECRET_ACCESS_KEY="pushersecret1")
    write_image(images / "big/1", layers=1, layer_size=2 * PART, compression="none")
    export(images, full)
    assert run_push(full, bucket.url, bucket.store.url, env=env).returncode == 0
    change(images, full)
    for _ in range(2):
        assert run_push(full, bucket.url, bucket.store.url, "--grace", "0", env=env).returncode == 0
    Judge(bucket).assert_is(full)


def test_a_store_that_is_away_is_one_line(full: Path) -> None:
    ended = run_push(full, "s3://images", f"http://{HOST}:{free_port()}")
    assert "does not answer: Connection refused" in one_line(ended, 1)
    ended = run_push(full, "s3://images", "http://store.invalid:9000")
    assert "does not resolve" in one_line(ended, 1)


def test_a_store_without_tls_is_told_from_one_that_is_away(full: Path, store: S3) -> None:
    ended = run_push(full, "s3://images", store.url.replace("http:", "https:"))
    assert "does not speak TLS; is it http://?" in one_line(ended, 1)


def test_a_server_that_is_no_store_is_told_so(full: Path, bucket: Bucket, proxy: Proxy) -> None:
    proxy.only_writing = False
    proxy.before = lambda number, method, path: refuse(405)
    ended = run_push(full, bucket.url, proxy.url)
    assert "answers 405 Method Not Allowed; is it an S3 store?" in one_line(ended, 1)


def test_the_certificate_of_an_authority_of_ones_own_is_accepted_when_it_is_named(full: Path, tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    with versitygw(tmp_path, made) as store:
        bucket = store.bucket("images")
        ended = run_push(full, bucket.url, store.url)
        assert "(UnknownIssuer): let AWS_CA_BUNDLE name a file" in one_line(ended, 1)
        env = environment(AWS_CA_BUNDLE=str(made[0]))
        assert run_push(full, bucket.url, store.url, env=env).returncode == 0
        Judge(bucket).assert_is(full)
    ended = run_push(full, "s3://images", store.url, env=environment(AWS_CA_BUNDLE="/nowhere.pem"))
    assert "AWS_CA_BUNDLE: cannot read /nowhere.pem" in one_line(ended, 2)


def test_a_missing_extra_is_one_line_that_says_what_installs_it(full: Path, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/obstore.py").write_text("raise ModuleNotFoundError('obstore')\n")
    env = environment()
    env["PYTHONPATH"] = f"{tmp_path}/hidden:{env['PYTHONPATH']}"
    del env["AWS_ACCESS_KEY_ID"]
    ended = run_push(full, "s3://images", "http://store", env=env)
    [extra] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["s3"]
    assert f"pipx inject scr-export '{extra}'" in one_line(ended, 2)
    assert run_export_without(env, full) == 0


def run_export_without(env: dict[str, str], site: Path) -> int:
    """Nothing but a push needs the extra."""
    return wait(runner_start("verify", site, environment=env)).returncode


def test_a_bucket_of_others_is_left_alone(full: Path, bucket: Bucket) -> None:
    bucket.put("v2/repositories/app/_layers/link", b"x")
    assert "not written by scr-export" in one_line(run_push(full, bucket.url, bucket.store.url), 1)
    assert list(bucket.list()) == ["v2/repositories/app/_layers/link"]


def test_a_bucket_of_another_version_is_left_alone(full: Path, bucket: Bucket) -> None:
    push(full, bucket.url, bucket.store.url)
    bucket.put(".scr-export/format", b"2\n")
    assert "was written by another version" in one_line(run_push(full, bucket.url, bucket.store.url), 1)


def test_objects_of_others_in_a_bucket_are_named_and_stay(full: Path, bucket: Bucket) -> None:
    push(full, bucket.url, bucket.store.url)
    bucket.put("v2/mine", b"x")
    bucket.put("elsewhere/mine", b"x")
    ended = run_push(full, bucket.url, bucket.store.url)
    assert ended.returncode == 0
    assert f"warning: {bucket.url}/v2/mine: is not from scr-export" in ended.stderr
    assert {"v2/mine", "elsewhere/mine"} <= bucket.list().keys()


@pytest.mark.parametrize(
    "arguments", [["images"], ["s3://"], ["s3://images", "--grace", "nan"], ["s3://images", "--jobs", "0"]]
)
def test_wrong_usage_ends_with_status_2(full: Path, arguments: list[str]) -> None:
    ended = wait(runner_start("push", full, *arguments, environment=environment()))
    assert ended.returncode == 2


def test_a_store_that_is_away_for_a_moment_is_waited_for(full: Path, bucket: Bucket, proxy: Proxy) -> None:
    def fail_at_times(number: int, method: str, path: str) -> None:
        if 20 <= number < 30 or 60 <= number < 65:
            refused.append(number)
            refuse(503)

    refused: list[int] = []
    proxy.before = fail_at_times
    push(full, bucket.url, proxy.url)
    Judge(bucket).assert_is(full)
    assert len(refused) == 15


def test_one_request_at_a_time_is_enough(full: Path, bucket: Bucket) -> None:
    push(full, bucket.url, bucket.store.url, "--jobs", "1")
    Judge(bucket).assert_is(full)
