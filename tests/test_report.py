"""What an export reports, as text and as JSON, and a dry run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.builders import blob_of, write_image, write_index
from tests.support.runner import export, listing, run


def test_the_report_of_a_success_has_every_key(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    write_index(images / "app/v2", sparse=["arm64"])
    report = export(images, site)
    warning = {"in", "path", "code", "what", "remedy"}
    assert report.keys() == {
        "schema",
        "site",
        "dry_run",
        "repositories",
        "images",
        "tags",
        "size",
        "signed",
        "tag_changes",
        "added",
        "changed",
        "removed",
        "unchanged",
        "files",
        "bytes",
        "why_copied",
        "hashed",
        "unreferenced",
        "seconds",
        "faults",
        "warnings",
    }
    assert (report["schema"], report["site"], report["dry_run"]) == (1, str(site), False)
    assert (report["repositories"], report["images"], report["tags"]) == (1, 2, 2)
    assert report["added"] == {"tags": 2, "manifests": 3, "blobs": 2 * len(built.blobs), "lists": 2, "other": 4}
    assert report["unreferenced"] == {"count": 0, "until": 0}
    assert report["seconds"] > 0
    assert report["faults"] == []
    assert [(each.keys(), each["code"]) for each in report["warnings"]] == [(warning, "sparse")]


def test_the_report_of_a_failure_has_its_faults(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    (images / "app/v1/manifest.json").write_text("[]")
    report = export(images, site, status=1)
    assert report.keys() == {"schema", "site", "error", "faults", "warnings"}
    assert report["error"] == "nothing was published: 1 fault"
    assert [(fault["path"], fault["code"]) for fault in report["faults"]] == [("app/v1", "manifest")]
    assert all(report["faults"][0].values())


def test_the_text_reports_the_same(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    process = run(images, site)
    assert process.returncode == 0
    assert process.stderr == ""
    assert process.stdout.startswith(f"{site}: 1 image in 1 repository, 1 tag\n")
    assert "  added    1 tag, 1 manifest, 3 blobs, 2 lists, 2 snippets, 1 index page, 1 image list\n" in process.stdout
    assert "  nothing changed\n" in run(images, site).stdout


def in_lines(process: subprocess.CompletedProcess[str], word: str) -> list[str]:
    """What a report says behind this word at the start of a line."""
    return [line.removeprefix(f"  {word:9}") for line in process.stdout.splitlines() if line.startswith(f"  {word} ")]


def content(site: Path) -> int:
    """The bytes of every manifest and blob of a site, each digest once."""
    files = {path.name: path.stat().st_size for path in site.glob("v2/**/blobs/*")}
    files |= {path.name: path.stat().st_size for path in site.glob("v2/**/manifests/*/*@*") if not path.is_dir()}
    return sum(files.values())


def test_the_size_of_a_site_is_that_of_all_content_each_digest_once(images: Path, site: Path) -> None:
    one = write_image(images / "app/v1")
    write_image(images / "other/v1", seed=2, share_layers_of=0)
    write_image(images / "other/again")
    write_index(images / "gone/v1", seed=3, sparse=["arm64"])
    write_image(images / "bad/v1", seed=4, foreign_layer=True)
    assert export(images, site, "--dry-run")["size"] == export(images, site)["size"] == content(site)
    whole = content(site)
    (images / "bad/v1/manifest.json").unlink()
    (images / "bad/v1/manifest.json").write_text("[]")
    shutil.rmtree(images / "gone")
    assert export(images, site, "--no-prune", "--keep-going", status=1)["size"] == whole
    report = export(images, site, "--keep-going", status=1)  # what is gone stays for the grace period
    assert whole == content(site) > report["size"] > sum(map(len, one.blobs.values()))
    report = export(images, site, "--keep-going", "--grace", "0", status=1)
    assert report["size"] == content(site)
    assert in_lines(run(images, site, "--keep-going"), "in all")[0].startswith(
        f"{report['size'] / 1000:.1f} kB to pull, each digest once; 0 bytes hashed; 0."
    )


def test_the_first_report_says_how_to_serve_the_site(images: Path, site: Path, tmp_path: Path) -> None:
    write_image(images / "app/v1")
    assert in_lines(run(images, site, "--dry-run"), "next") == []
    line = f"server {{ listen 8080; root {site}; include {site}/nginx.conf; }}"
    first = run(images, site)
    assert in_lines(first, "next") == [f'serve it; nginx: {line}  (more: "Serve" in README.md)']
    assert first.stdout.splitlines()[-1].startswith("  next ")
    assert in_lines(run(images, site), "next") == []
    (tmp_path / "made before").mkdir()
    assert in_lines(run(images, tmp_path / "made before"), "next") == ['serve it; see "Serve" in README.md']


def test_the_text_says_what_was_copied_and_why(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    blob_of(images, "app/v1").chmod(0o600)
    text = run(images, site).stdout
    assert re.search(r"\n  linked   3 files, [0-9.]+ kB\n  copied   1 file, [0-9.]+ kB\n", text)
    assert "\n           not linked: 1 file: not readable by all in IMAGES\n" in text


def test_each_tag_that_changes_is_listed(images: Path, site: Path) -> None:
    stays, moves, goes = (
        write_image(images / "team/app" / tag, seed=n) for n, tag in enumerate(("stays", "to", "old"))
    )
    export(images, site)
    shutil.rmtree(images / "team/app/old")
    shutil.rmtree(images / "team/app/to")
    moved = write_index(images / "team/app/to", seed=7)
    new = write_image(images / "team/app/v2", seed=8)
    lines = [
        "- team/app:old",
        f"~ team/app:to {moves.digest} -> {moved.digest}",
        f"+ team/app:v2 {new.digest}",
    ]
    expected = {
        "added": [{"name": "team/app:v2", "digest": new.digest}],
        "moved": [{"name": "team/app:to", "from": moves.digest, "to": moved.digest}],
        "removed": [{"name": "team/app:old", "digest": goes.digest}],
    }
    dry = run(images, site, "--dry-run").stdout.splitlines()
    assert dry[:3] == lines
    assert stays.digest not in "".join(dry)
    assert "dry run" in dry[3]
    assert export(images, site, "--dry-run")["tag_changes"] == expected
    quiet = run(images, site, "--dry-run", "-q")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    verbose = run(images, site, "-v").stdout.splitlines()
    assert verbose[:3] == lines
    assert len(run(images, site).stdout.splitlines()) == 4
    assert export(images, site)["tag_changes"] == {"added": [], "moved": [], "removed": []}


def test_a_dry_run_creates_no_site(images: Path, site: Path) -> None:
    built = write_image(images / "app/v1")
    report = export(images, site, "--dry-run")
    assert report["dry_run"] is True
    assert report["added"] == {"tags": 1, "manifests": 1, "blobs": len(built.blobs), "lists": 2, "other": 4}
    assert not site.exists()


def test_a_dry_run_reports_what_the_export_does(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    write_image(images / "old/v1", seed=2)
    export(images, site)
    write_image(images / "app/v1", seed=3)
    shutil.rmtree(images / "old")
    before = listing(site)
    dry = export(images, site, "--dry-run", "--grace", "0")
    assert listing(site) == before
    wet = export(images, site, "--grace", "0")
    for key in ("added", "changed", "removed", "unchanged", "tag_changes", "hashed", "images", "repositories", "tags"):
        assert dry[key] == wet[key]
    assert dry["files"] == {"linked": 0, "reflinked": 0, "copied": 0}
    assert wet["files"]["linked"] == 4


def test_a_dry_run_writes_nothing(images: Path, site: Path) -> None:
    write_image(images / "app/v1")
    export(images, site)
    write_image(images / "app/v2", seed=2)
    (images / "bad").symlink_to("app")
    before = listing(site)
    export(images, site, "--dry-run", status=1)
    assert listing(site) == before
    export(images, site / "new", "--dry-run", status=1)
    assert not (site / "new").exists()
