"""Every way to install that the papers name: a wheel, a wheelhouse, one file; and completion in a shell."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.builders import write_image
from tests.support.root_filesystem import bare_debian
from tests.support.runner import ENVIRONMENT

CHECKOUT = Path(__file__).parents[1]
MADE = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache")


def run(command: list[str | Path], **environment: str) -> str:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("venv")
    venv.create(directory, with_pip=True)
    return directory / "bin/pip"


def test_a_wheel_has_the_same_bytes_whenever_and_wherever_it_is_built(pip: Path, tmp_path: Path) -> None:
    sums = set()
    for name, time in (("one", 1_000_000_000), ("two", 1_700_000_000)):
        checkout = tmp_path / name
        shutil.copytree(CHECKOUT, checkout, ignore=MADE, symlinks=True)
        for path in checkout.rglob("*"):
            os.utime(path, (time, time), follow_symlinks=False)
        run([pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / f"{name}.d", checkout])
        (wheel,) = (tmp_path / f"{name}.d").iterdir()
        sums.add((wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest()))
    assert len(sums) == 1


def test_a_wheelhouse_installs_without_an_index(pip: Path, tmp_path: Path) -> None:
    run([pip, "wheel", "--quiet", "--wheel-dir", tmp_path / "wheelhouse", CHECKOUT])
    venv.create(tmp_path / "venv", with_pip=True)
    there = tmp_path / "venv/bin"
    run([there / "pip", "install", "--quiet", "--no-index", "--find-links", tmp_path / "wheelhouse", "scr-export"])
    assert run([there / "scr-export", "--version"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a root file system")
def test_one_file_exports_on_a_debian_that_has_python_and_no_network(tmp_path: Path) -> None:
    with bare_debian("bookworm") as debian:
        assert debian.run("apt-get update -q && apt-get install -q -y --no-install-recommends python3").returncode == 0
        run([CHECKOUT / "examples/pyz", debian.directory / "usr/local/bin/scr-export"])
        write_image(debian.directory / "images/app/v1")
        without_network = "unshare --net scr-export"
        script = f"{without_network} /images /site && {without_network} verify /site && {without_network} pack /site /b"
        done = debian.run(f"{script} && {without_network} clients --url http://mirror:8080 /site /clients")
        assert done.returncode == 0, done.stdout
        assert "1 image in 1 repository" in done.stdout
        assert "all sound" in done.stdout


COMPLETED = [
    ("ver", "verify"),
    ("verify site --js", "--json"),
    ("images site --keep", "--keep-going"),
    ("images --verify s", "size"),
]


@pytest.mark.parametrize(("typed", "completed"), COMPLETED)
@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_a_shell_completes_commands_and_options(shell: str, typed: str, completed: str) -> None:
    asked = {"_SCR_EXPORT_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    asked["_TYPER_COMPLETE_ARGS"] = f"scr-export {typed}"
    asked |= {"COMP_WORDS": "\n".join(["scr-export", *typed.split()]), "COMP_CWORD": str(len(typed.split()))}
    assert completed in program(**asked).replace('"', " ").split()


def test_bash_takes_the_completion_that_the_program_prints(tmp_path: Path) -> None:
    (tmp_path / "scr-export").write_text(f'#!/bin/sh\nexec {sys.executable} -m scr_export "$@"\n')
    (tmp_path / "scr-export").chmod(0o755)
    script = program(_SCR_EXPORT_COMPLETE="source_bash")
    for typed, completed in COMPLETED:
        words = f"COMP_WORDS=(scr-export {typed}) COMP_CWORD={len(typed.split())}"
        done = subprocess.run(
            ["bash", "-c", f'{script}\n{words}\n_scr_export_completion scr-export\necho "${{COMPREPLY[@]}}"'],
            env=ENVIRONMENT | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.split() == [completed], done.stderr


def program(**environment: str) -> str:
    command = [sys.executable, "-m", "scr_export"]
    return subprocess.run(command, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=60).stdout
