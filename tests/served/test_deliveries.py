"""The recipes of examples/README.md for deliveries work as they stand there, on disks that are in memory."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builders import write_image
from tests.support.bundles import contents, differences, pack
from tests.support.clients import COSIGN, go_program
from tests.support.root_filesystem import bare_debian
from tests.support.runner import ENVIRONMENT, export
from tests.support.servers import START, open_directory

RECIPES = (Path(__file__).parents[2] / "examples/README.md").read_text()
DISKS = "mount -t tmpfs none /srv && mount -t tmpfs none /media && mkdir /media/disk"
RECEIVED = "cd /srv/registry/.scr-export && receive/receive incoming /srv/registry && rm -r incoming && cd /"


def recipe(heading: str) -> list[str]:
    """The blocks of commands below a heading."""
    section = RECIPES.partition(f"### {heading}\n")[2].partition("\n#")[0]
    blocks = re.findall(r"(?<=\n\n)(?:    .+\n)+", section)
    assert blocks, heading
    return [textwrap.dedent(block) for block in blocks]


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[str]:
    """A directory with `scr-export`, as a PATH has it, and a home for gpg."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount disks")
    program = tmp_path / "bin/scr-export"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m scr_export "$@"\n')
    program.chmod(0o755)
    with open_directory() as home:  # gpg's sockets need a short path
        yield f"export PATH={program.parent}:$PATH GNUPGHOME={home}\nchmod 700 {home}"


def script(programs: str, *blocks: str) -> str:
    """Run blocks with empty disks in a mount namespace of their own."""
    lines = "\n".join(["set -eu -o pipefail", programs, DISKS, *blocks])
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", lines],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def images_and_site(images: Path, *tags: str) -> str:
    """The line that exports these images to /srv/site."""
    for number, tag in enumerate(tags):
        write_image(images / tag, seed=number + len(tags) * 10)
    return f"cp -r {images}/. /srv/images && scr-export -q --grace 0 /srv/images /srv/site && cd /"


def equal() -> str:
    """A line that fails where the two sites differ in names or bytes, but for content that only one has."""
    return f"cmp /srv/site/images.txt /srv/registry/images.txt && {recipe('Prove what is there')[0]}"


def test_deliveries_by_the_recipes(images: Path, tmp_path: Path, programs: str) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    make = [images_and_site(before, "app/1", "app/2"), images_and_site(after, "app/2", "app/3", "new/1")]
    out, there = recipe("The first delivery")
    list_it, pack_it, receive_it = recipe("Later deliveries")
    told = script(
        programs,
        "mkdir /srv/images",
        *(make[0], out, there, equal()),
        *(make[1], list_it, pack_it, receive_it, equal()),
        "sha256sum /srv/registry/images.txt",
        *recipe("Go back"),
        "sha256sum /srv/registry/images.txt",
        *recipe("Prove what is there"),
    )
    assert "+ new:1 sha256:" in told
    sums = re.findall(r"^(\w{64})  /srv/registry/images.txt$", told, re.MULTILINE)
    assert len(set(sums)) == 2
    assert told.count("is sound") == 3


def test_a_diode_and_a_fat_disk_by_the_recipes(images: Path, tmp_path: Path, programs: str) -> None:
    make = [
        images_and_site(tmp_path / str(number), *tags) for number, tags in enumerate([("app/1",), ("app/2",), ("b/1",)])
    ]
    out, there = recipe("The first delivery")
    (diode,) = recipe("No way back")
    split, join = recipe("FAT disks")
    into = "mkdir /srv/registry/.scr-export/incoming && cd /srv/registry/.scr-export"
    script(
        programs,
        "mkdir /srv/images",
        *(make[0], out, there, "cp /media/disk/first.tar /media/disk/delta.tar"),
        *(
            make[1],
            diode,
            into,
            "gzip -dc /media/disk/diode.tar.gz | tar -xp --no-same-owner -C incoming",
            RECEIVED,
            equal(),
        ),
        *(make[2], split.replace("1G", "20K"), "ls /media/disk/site.tar.005", join, RECEIVED, equal()),
    )


def test_signatures_by_the_recipes(images: Path, programs: str) -> None:
    cosign = go_program(COSIGN)
    make = images_and_site(images, "app/1")
    key, each, by_cosign, of_images = recipe("Sign a delivery")
    bad = "! gpg --verify /media/disk/delta.tar.asc /media/disk/delta.tar && ! bash -c "
    told = script(
        f"{programs}\nln -s {cosign} ${{PATH%%:*}}/cosign",
        "mkdir /srv/images",
        make,
        "scr-export pack /srv/site /media/disk/delta.tar",
        *(key, each, by_cosign, "echo >>/media/disk/delta.tar", bad + shlex.quote(by_cosign.splitlines()[2])),
        *(
            of_images,
            *recipe("The first delivery"),
            "gpg --verify /srv/registry/images.txt.asc /srv/registry/images.txt",
        ),
    )
    assert told.count("Good signature") == 2
    assert "Verified OK" in told


@pytest.mark.parametrize("server_name", START)
def test_each_site_tells_which_delivery_it_has(images: Path, site: Path, tmp_path: Path, server_name: str) -> None:
    write_image(images / "app/1")
    export(images, site)
    (line,) = recipe("Which delivery a site has")
    with START[server_name](site, tmp_path / "server") as server:
        (tmp_path / "sites").write_text(f"{server.address}\n")
        told = subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    noted = subprocess.run(["sha256sum", site / "images.txt"], check=True, capture_output=True, text=True).stdout
    assert told == f"{noted[:12]} {server.address}\n"


def test_a_bare_debian_receives_without_python_or_rsync(images: Path, site: Path, tmp_path: Path) -> None:
    """What debootstrap makes, without what a receiver must do without."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a root file system")
    write_image(images / "app/1", algorithm="sha512")
    write_image(images / "app/2", seed=2)
    export(images, site)
    first = pack(site, tmp_path / "first.tar")
    with bare_debian("bookworm") as debian:
        disk = debian.directory / "media/disk"
        disk.mkdir(parents=True)
        first.rename(disk / "first.tar")
        sums = subprocess.run(["sha256sum", "first.tar"], cwd=disk, check=True, capture_output=True, text=True).stdout
        (disk / "first.tar.sha256").write_text(sums)
        told = debian.run("for each in python3 rsync curl perl awk cmp; do rm -f $(command -v $each); done")
        told = debian.run(recipe("The first delivery")[1])
        assert told.returncode == 0, told.stdout
        host = debian.directory / "srv/registry"
        assert differences(site, host) == {}
        told = debian.run(recipe("Prove what is there")[0])
        assert told.returncode == 0, told.stdout
        told = debian.run(recipe("Later deliveries")[0])
        assert told.returncode == 0, told.stdout
        write_image(images / "app/3", seed=3)
        before = contents(site)
        export(images, site)
        delta = pack(site, tmp_path / "delta.tar", (disk / "have").read_text())
        delta.rename(disk / "delta.tar")
        told = debian.run(f"set -e\n{recipe('Later deliveries')[2]}")
        assert told.returncode == 0, told.stdout
        assert differences(site, host, before=before) == {}
