"""The two commands at the top of the README work on a Debian that has nothing: each is taken from the README's text.

Debian 12 brings Python 3.11, and Debian 13 brings 3.13.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.root_filesystem import RootFilesystem, bare_debian

CHECKOUT = Path(__file__).parents[1]
README = CHECKOUT / "README.md"
# of all tests, in a chroot: what the exporter does, what both servers answer, and what real clients pull
SOME_TESTS = "tests/test_cli.py tests/served/test_requests.py tests/served/test_clients.py"


@pytest.fixture(scope="module", params=[pytest.param("bookworm"), pytest.param("trixie", marks=pytest.mark.only_all)])
def debian(request: pytest.FixtureRequest) -> Iterator[RootFilesystem]:
    """A bare Debian with a checkout in /root, and another one in the home of a user."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a root file system")
    with bare_debian(request.param) as debian:
        debian.copy(CHECKOUT, "/root/scr-export")
        debian.copy(CHECKOUT, "/home/visitor/scr-export")
        assert debian.run("useradd visitor -d /home/visitor -s /bin/bash").returncode == 0
        assert debian.run("chown -R visitor: /home/visitor").returncode == 0
        yield debian


def test_the_first_command_installs_exports_serves_and_pulls_as_root_then_as_a_user(debian: RootFilesystem) -> None:
    """Python and nginx are missing at first: root installs them, and a user gets the command."""
    command = _commands()[0]
    refused = debian.run(f"cd scr-export && {command}", user="visitor")
    assert refused.returncode == 1, refused.stdout
    install = re.search(r"^On Debian, as root:  (apt-get install .*nginx.*python3.*)$", refused.stdout, re.MULTILINE)
    assert install, refused.stdout
    for user in ("root", "visitor"):
        done = debian.run(f"cd scr-export && {command}", user=user)
        assert done.returncode == 0, done.stdout
        assert "\n200 OK\n" in done.stdout
        assert "\nIt works." in done.stdout
        assert ("installs these packages of Debian" in done.stdout) == (user == "root")


@pytest.mark.only_all
def test_each_line_that_installs_works_for_a_user(debian: RootFilesystem) -> None:
    """pipx is Debian's, and uv comes by pipx."""
    install = "apt-get update -q && apt-get install -q -y --no-install-recommends pipx python3-venv"
    for script, user in ((install, "root"), ("pipx install uv", "visitor")):
        done = debian.run(script, user=user)
        assert done.returncode == 0, done.stdout
    for line in _block("To install scr-export"):
        program = "~/.local/scr-export/bin/scr-export" if "venv" in line else "~/.local/bin/scr-export"
        done = debian.run(
            f"export PATH=~/.local/bin:$PATH; cd scr-export && {line} && {program} --version", user="visitor"
        )
        assert done.returncode == 0, done.stdout
        assert re.search(r"^\d+\.\d+\.\d+$", done.stdout, re.MULTILINE), done.stdout
        debian.run("rm -rf ~/.local/bin/scr-export ~/.local/share/uv/tools", user="visitor")


@pytest.mark.only_all
def test_the_second_command_runs_the_tests_as_root(debian: RootFilesystem) -> None:
    """It installs the servers and clients, and runs some of the tests on them: all would take half an hour."""
    done = debian.run(f"cd scr-export && {_commands()[1]} {SOME_TESTS}")
    assert done.returncode == 0, done.stdout[-20_000:]
    assert re.search(r"^=+ \d+ passed", done.stdout, re.MULTILINE), done.stdout
    quick = debian.run(f"cd scr-export && {_commands()[1]} --quick")
    assert quick.returncode == 0, quick.stdout[-20_000:]


def _commands() -> list[str]:
    """The two lines of the README's first block, without what is said beside them."""
    commands = [line.split("  ")[0] for line in _block("In a checkout")]
    assert len(commands) == 2, commands
    return commands


def _block(said_before: str) -> list[str]:
    """The lines of the README's block behind the paragraph that begins like this."""
    block = re.search(rf"\n\n{said_before}(?:.+\n)+\n((?:    .+\n)+)", README.read_text())
    assert block, said_before
    return [line.removeprefix("    ") for line in block[1].splitlines()]
