from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import forked


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An empty directory for images."""
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The path of a site. Nothing exists there yet."""
    return tmp_path / "site"


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory, so on another file system than `tmp_path`. Every user may enter it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture(scope="session")
def warm_exporter() -> None:
    """What the exporter imports when it is first used is loaded, so that no forked process has to load it."""
    forked.warm()
