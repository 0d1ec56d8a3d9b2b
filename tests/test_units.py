"""The units of `examples/systemd` are right, and let an export link."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.builders import write_image
from tests.support.runner import ENVIRONMENT

UNITS = sorted((Path(__file__).parents[1] / "examples/systemd").iterdir())
# What ProtectSystem=strict and one entry of ReadWritePaths= are to the kernel.
_MOUNTS = 'mount --make-rprivate / && mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'


def test_systemd_finds_no_fault_in_a_unit(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text()
        (tmp_path / unit.name).write_text(text.replace("/usr/local/bin/scr-export", "/bin/true"))
    command: list[str | Path] = ["systemd-analyze", "verify", *sorted(tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_service_is_hardened(tmp_path: Path) -> None:
    for unit in (each for each in UNITS if each.suffix == ".service"):
        command: list[str | Path] = ["systemd-analyze", "security", "--offline=true", "--threshold=15", unit]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout


def test_every_timer_has_its_service() -> None:
    names = {unit.name for unit in UNITS}
    assert {name.replace(".timer", ".service") for name in names if name.endswith(".timer")} <= names


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_an_export_links_where_one_entry_lies_above_both_trees(tmp_path: Path) -> None:
    (service,) = (unit.read_text() for unit in UNITS if unit.name == "scr-export.service")
    images, site = re.findall(r"^ExecStart=\S+ (\S+) (\S+)$", service, re.MULTILINE)[0]
    (entry,) = re.findall(r"^ReadWritePaths=(.*)$", service, re.MULTILINE)
    assert {os.path.dirname(images), os.path.dirname(site)} == {entry}
    there = tmp_path / "registry"
    write_image(there / "images/app/v1")
    export: list[str | Path] = [sys.executable, "-m", "scr_export", there / "images", there / "site"]
    command: list[str | Path] = ["unshare", "--mount", "sh", "-euc", _MOUNTS, there, *export]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "  linked  " in done.stdout
    assert "copied" not in done.stdout
