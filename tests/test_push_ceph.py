"""`scr-export push` into a real Ceph: what versitygw promises of S3, the gateway of an object store must do too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scr_export.errors import BucketLockedError
from scr_export.publish.bucket import lock
from scr_export.publish.bucket.settings import Settings, Target
from scr_export.publish.bucket.store import PART, Store
from tests.support.buckets import Judge
from tests.support.builders import write_artifact, write_image, write_index
from tests.support.ceph import ceph
from tests.support.pushes import environment, push, run_push, start_push
from tests.support.runner import export
from tests.support.stores import S3, Bucket, Proxy, counting, refuse
from tests.support.waiting import wait_until

pytestmark = pytest.mark.only_all


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with ceph(tmp_path_factory.mktemp("ceph")) as store:
        yield store


@pytest.fixture
def bucket(store: S3, request: pytest.FixtureRequest) -> Bucket:
    return store.bucket(f"b{abs(hash(request.node.nodeid)):x}", "team")


@pytest.fixture
def full(images: Path, site: Path) -> Path:
    subject = write_image(images / "library/app/v1", layers=3)
    write_image(images / "library/app/v2", seed=2, algorithm="sha512")
    write_index(images / "multi/1", seed=5, docker=True)
    write_artifact(images / "library/app/ref", seed=9, subject=subject)
    (images / "library/app/v1/signature-1").write_bytes(b"\xa3.")
    write_image(images / "big/1", layers=1, layer_size=2 * PART, compression="none")
    export(images, site)
    return site


def change(images: Path, site: Path) -> None:
    shutil.rmtree(images / "multi")
    shutil.rmtree(images / "library/app/v2")
    write_image(images / "library/app/v1", seed=7)
    write_image(images / "quay.io/new/1", seed=8)
    export(images, site, "--grace", "0")


def test_no_name_is_broken_between_any_two_requests_and_all_is_read_back(
    images: Path, full: Path, bucket: Bucket
) -> None:
    judge = Judge(bucket)

    def look(number: int, method: str, path: str) -> None:
        judge.forget(path)
        judge.assert_whole()

    with counting(bucket.store) as proxy:
        proxy.after = look
        push(full, bucket.url, proxy.url)
        judge.assert_is(full)
        assert [key for key, each in bucket.list().items() if "-3" in each.etag]  # it went in parts
        change(images, full)
        push(full, bucket.url, proxy.url)
        judge.assert_is(full, and_nothing_else=False)
        push(full, bucket.url, proxy.url, "--grace", "0")
        judge.assert_is(full)
        proxy.seen.clear()
        assert push(full, bucket.url, proxy.url, "--verify")["faults"] == []
        assert [method for method, _ in proxy.seen] == ["PUT", "POST"]  # the lock


def test_a_killed_push_is_gone_on_with_when_its_lock_is_gone(full: Path, bucket: Bucket) -> None:
    with counting(bucket.store) as proxy:
        for last in (5, 25, 45):
            _kill_after(last, full, bucket, proxy)
            Judge(bucket).assert_whole()
            assert run_push(full, bucket.url, bucket.store.url).returncode == 3
            bucket.delete(".scr-export/lock")
    push(full, bucket.url, bucket.store.url)
    Judge(bucket).assert_is(full)


def _kill_after(last: int, site: Path, bucket: Bucket, proxy: Proxy) -> None:
    def kill(number: int, method: str, path: str) -> None:
        if number == last:
            process.kill()
        if number >= last:
            refuse(503)

    proxy.seen.clear()
    proxy.before = kill
    process = start_push(site, bucket.url, proxy.url)
    process.communicate()
    proxy.before = None


def test_a_second_push_at_once_ends_with_status_3(full: Path, bucket: Bucket) -> None:
    ended = []

    def second(number: int, method: str, path: str) -> None:
        if number == 10:
            ended.append(run_push(full, bucket.url, bucket.store.url))

    with counting(bucket.store) as proxy:
        proxy.before = second
        push(full, bucket.url, proxy.url)
    assert ended[0].returncode == 3
    assert "held by process" in ended[0].stderr


def test_damage_in_the_bucket_is_found_and_mended(full: Path, bucket: Bucket) -> None:
    push(full, bucket.url, bucket.store.url)
    key = next(key for key, each in bucket.list().items() if key.startswith("blobs/") and each.size > 10)
    bucket.put(key, b"x" * bucket.list()[key].size)
    report = push(full, bucket.url, bucket.store.url, "--verify", status=1)
    assert [fault["path"] for fault in report["faults"]] == [key]
    Judge(bucket).assert_is(full)


def test_what_is_wrong_with_the_store_is_one_line(full: Path, bucket: Bucket) -> None:
    cases = (
        (run_push(full, "s3://nowhere", bucket.store.url), "there is no bucket nowhere"),
        (run_push(full, bucket.url, bucket.store.url, env=environment(AWS_ACCESS_KEY_ID="who")), "refuses the cred"),
        (run_push(full, bucket.url, bucket.store.url, env=environment(AWS_SECRET_ACCESS_KEY="no")), "refuses the cred"),
    )
    for ended, expected in cases:
        assert ended.returncode == 1
        assert expected in ended.stderr
        assert ended.stderr.count("\n") == 1


@pytest.fixture
def target(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The bucket as a push has it, with times that a test can wait for."""
    monkeypatch.setattr(lock, "TIMES", lock.LockTimes(renewal=0.05, retry=0.05, take_over=1))
    settings = Settings.find(bucket.store.url, environment())
    return Store(Target.parse(bucket.url), settings)


def renewal(bucket: Bucket) -> int:
    return int(json.loads(bucket.get(".scr-export/lock").body)["renewal"])


def test_a_holder_renews_its_lock(bucket: Bucket, target: Store) -> None:
    with lock.hold_lock(target) as lease:
        first = renewal(bucket)
        wait_until(lambda: renewal(bucket) > first + 2)
        lease.confirm()
    assert bucket.get(".scr-export/lock").status == 404


def test_an_old_lock_is_taken_over_by_one_run_of_two(bucket: Bucket, target: Store) -> None:
    bucket.put(".scr-export/lock", b'{"holder": "a killed run"}')
    with pytest.raises(BucketLockedError, match="held by a killed run"), lock.hold_lock(target):
        pass

    def is_taken_over() -> bool:
        try:
            with lock.hold_lock(target) as lease:
                with pytest.raises(BucketLockedError, match="held by process"), lock.hold_lock(target):
                    pass
                lease.confirm()
                return True
        except BucketLockedError:  # not yet
            return False

    wait_until(is_taken_over)
