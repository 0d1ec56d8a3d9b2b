"""The lists of referrers that an export writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.builders import write_artifact, write_image, write_index, write_referrers_tag, write_signature
from tests.support.runner import OF_ANY_RUN, assert_whole, export, fresh, listing, referrers, registry, start, wait


def test_referrers_of_a_manifest_are_listed(images: Path, site: Path) -> None:
    subject = write_index(images / "app/v1")
    child = next(digest for digest in subject.manifests if digest != subject.digest)
    first, second = (write_signature(images / f"app/sig{seed}", subject, seed) for seed in (5, 6))
    chart = write_artifact(images / "app/chart", seed=7, subject=subject)
    signed = write_signature(images / "app/sigsig", first, 8)
    write_signature(images / "elsewhere/sig", subject, 9)  # what is in another repository is no matter of this
    report = export(images, site)
    assert report["added"]["lists"] == 3 + 3 + 2 + 2  # with the types of each subject
    assert referrers(site, "app", subject.digest) == {first.digest, second.digest, chart.digest}
    assert referrers(site, "app", subject.digest, "application@x.sig@") == {first.digest, second.digest}
    assert referrers(site, "app", first.digest) == {signed.digest}
    assert referrers(site, "app", child) == set()
    assert_whole(site)
    before = listing(site, without=OF_ANY_RUN)
    assert not any(export(images, site)["changed"].values())
    assert listing(site, without=OF_ANY_RUN) == before


def test_an_index_under_a_referrers_tag_is_merged(images: Path, site: Path) -> None:
    subject = write_image(images / "app/v1")
    first = write_signature(images / "app/sig", subject, 5)
    old = write_artifact(images / "old", seed=6)  # it does not say itself to what it refers
    tag = subject.digest.replace(":", "-")
    write_referrers_tag(images / "app" / tag, referrers=[old])
    shutil.rmtree(images / "old")
    export(images, site)
    assert referrers(site, "app", subject.digest) == {first.digest, old.digest}
    shutil.rmtree(images / "app" / tag)
    export(images, site)
    assert referrers(site, "app", subject.digest) == {first.digest}


def test_a_removed_referrer_is_no_longer_listed(images: Path, site: Path, tmp_path: Path) -> None:
    subject = write_image(images / "app/v1")
    write_signature(images / "app/sig", subject, 5)
    sbom = write_artifact(images / "app/sbom", seed=6, subject=subject)
    export(images, site)
    shutil.rmtree(images / "app/sig")
    report = export(images, site)
    assert report["unreferenced"]["count"]  # its content stays for the grace period
    assert report["removed"]["lists"] == 1  # the one of its type
    assert report["changed"]["lists"] == 2
    assert referrers(site, "app", subject.digest) == {sbom.digest}
    assert referrers(site, "app", subject.digest, "application@x.sig@") == set()
    shutil.rmtree(images / "app/sbom")
    export(images, site)
    assert not (site / "v2/app/referrers").exists()
    export(images, site, "--grace", "0")
    assert registry(site) == fresh(images, tmp_path)


def test_no_prune_retains_referrers(images: Path, site: Path) -> None:
    subject = write_image(images / "app/v1")
    old = write_signature(images / "app/sig", subject, 5)
    tag = subject.digest.replace(":", "-")
    write_referrers_tag(images / "app" / tag, referrers=[write_artifact(images / "x", seed=6)])
    shutil.rmtree(images / "x")
    export(images, site)
    before = referrers(site, "app", subject.digest)
    shutil.rmtree(images / "app")
    new = write_signature(images / "app/sig2", subject, 7)
    export(images, site, "--no-prune", "--grace", "0")
    assert referrers(site, "app", subject.digest) == before | {new.digest}
    assert old.digest in before
    export(images, site, "--grace", "0")
    assert referrers(site, "app", subject.digest) == {new.digest}


@pytest.mark.parametrize("others", [True, False])
def test_no_prune_does_not_list_a_removed_referrer_again(images: Path, site: Path, others: bool) -> None:
    subject = write_image(images / "app/v1")
    kept = {write_signature(images / "app/sig", subject, 5).digest} if others else set()
    write_signature(images / "app/revoked", subject, 6)
    export(images, site)
    shutil.rmtree(images / "app/revoked")
    assert export(images, site)["unreferenced"]["count"] > 0
    write_image(images / "app/v2", seed=8)
    for _ in range(2):
        export(images, site, "--no-prune")
        assert referrers(site, "app", subject.digest) == kept
        assert wait(start("verify", site)).returncode == 0
    assert export(images, site, "--grace", "0")["removed"]["manifests"] == 1


def test_a_referrer_in_another_image_directory_is_listed(images: Path, site: Path) -> None:
    subject = write_image(images / "app/v1")
    sbom = write_artifact(images / "app/sbom", seed=6, annotations={"a": "b"})
    write_referrers_tag(images / "app" / subject.digest.replace(":", "-"), referrers=[sbom])
    (images / "app" / subject.digest.replace(":", "-") / f"{sbom.digest[7:]}.manifest.json").unlink()
    assert export(images, site)["warnings"] == []
    assert referrers(site, "app", subject.digest) == {sbom.digest}
    assert wait(start("verify", site)).returncode == 0
    assert not any(export(images, site, "--no-prune")["changed"].values())


@pytest.mark.parametrize("bad", ["sig", "v1"])
def test_a_bad_image_keeps_its_referrers(images: Path, site: Path, bad: str) -> None:
    subject = write_image(images / "app/v1")
    kept = write_signature(images / "app/sig", subject, 5)
    write_signature(images / "app/gone", subject, 6)
    export(images, site)
    (images / "app" / bad / "manifest.json").unlink()  # so that the site keeps its own
    shutil.rmtree(images / "app/gone")
    new = write_signature(images / "app/new", subject, 7)
    for _ in range(2):
        export(images, site, "--keep-going", "--grace", "0", status=1)
        assert referrers(site, "app", subject.digest) == {kept.digest, new.digest}
        assert_whole(site)
