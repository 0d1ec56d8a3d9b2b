"""What the tests of the real servers share: one site with every kind of image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fronts import DIFFERENCES
from tests.support.requests_table import Published, plant, publish
from tests.support.servers import open_directory


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a front does not do as a server does has to fail, so that the list of these differences stays true."""
    for item in items:
        reason = DIFFERENCES.get(getattr(item, "originalname", ""))
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if reason and "bucket" in parameters.values():
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """A temporary directory that the servers may enter, as `tmp_path` is none."""
    with open_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def published() -> Iterator[Published]:
    """A site with every kind of image, and with things that must never be served."""
    with open_directory() as directory:
        published = publish(directory)
        plant(published)
        yield published


@pytest.fixture
def mirror_host(tmp_path: Path) -> Path:
    """Where the site shall arrive; nothing is there yet."""
    return tmp_path / "mirror"
