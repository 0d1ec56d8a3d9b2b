"""Imports run downward only: oci knows nobody, images knows oci, site knows both, and cli is the top."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

import scr_export

PACKAGE = Path(scr_export.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))
OF_ROOM = {
    "oci": {"oci"},
    "images": {"images", "oci", "errors"},
    "site": {"site", "images", "oci", "errors"},
    "errors": set(),
}


def test_where_the_checkout_is_hidden_the_installed_wheel_is_tested() -> None:
    assert not os.environ.get("PYTHONSAFEPATH") or PACKAGE.is_relative_to(sys.prefix)


def imported(module: str) -> set[str]:
    """The modules of the package that this one imports anywhere in its text, as paths below the package."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("scr_export.").replace(".", "/") for name in found if name.startswith("scr_export.")}


@pytest.mark.parametrize("module", [module for module in MODULES if module.partition("/")[0] in OF_ROOM])
def test_a_room_imports_only_what_lies_below(module: str) -> None:
    rooms = {name.partition("/")[0] for name in imported(module)}
    assert rooms <= OF_ROOM[module.partition("/")[0]] | {"__version__"}


def test_rooms_are_seen() -> None:
    assert {module.partition("/")[0] for module in MODULES} > OF_ROOM.keys()
    assert imported("site/plan") >= {"errors", "oci/name", "images/skopeo_dir"}  # so that the test above can fail


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ("cli", "__main__")])
def test_only_the_top_imports_the_command_line(module: str) -> None:
    assert "cli" not in imported(module)
    text = (PACKAGE / f"{module}.py").read_text()
    assert "import typer" not in text
    assert "from typer" not in text


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("oci/")] + ["site/plan"])
def test_pure_modules_import_nothing_that_touches_files(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not names & {"os", "io", "pathlib", "shutil", "tempfile", "socket", "subprocess", "fcntl"}
    assert not any(isinstance(node, ast.Name) and node.id == "open" for node in ast.walk(tree))
