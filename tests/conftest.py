from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An empty directory for images."""
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Where a site shall be; nothing is there yet."""
    return tmp_path / "site"
