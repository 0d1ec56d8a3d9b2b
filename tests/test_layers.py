"""Imports run one way between the rooms of the package and between those of the tests; pure rooms touch no file."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import scr_export

PACKAGE = Path(scr_export.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))
SHARED = {"problems", "text", "errors"}
MAY_IMPORT = {
    "oci": set(),
    "fs": {"oci"},
    "images": {"fs", "oci", "problems"},
    "site": {"fs", "oci"},
    "clients": {"oci"},
    "publish": {"site", "fs", "oci", *SHARED},
    "commands": {"clients", "images", "publish", "site", "fs", "oci", "report", "progress", *SHARED},
    "problems": {"text"},
    "text": set(),
    "errors": {"problems", "text"},
}
# Each of these may import what it needs.
TOP = {"__init__", "__main__", "entry", "signals", "cli", "console", "report", "progress", "progress_bar"}
TESTS = Path(__file__).parent
TEST_MODULES = sorted(path.relative_to(TESTS).with_suffix("").as_posix() for path in TESTS.rglob("*.py"))
PURE = [module for module in MODULES if module.partition("/")[0] in ("oci", "site", "clients")]
PURE += [f"publish/bucket/{name}" for name in ("keys", "objects", "compare")]
EFFECTS = {"os", "io", "pathlib", "shutil", "tempfile", "socket", "subprocess", "fcntl", "importlib", "time", "random"}


def room(module: str) -> str:
    return module.partition("/")[0]


def imported(module: str) -> set[str]:
    """The modules of the package that this one imports anywhere in its text, as paths below the package."""
    return imported_below("scr_export", PACKAGE / f"{module}.py")


def imported_below(package: str, path: Path) -> set[str]:
    """What a file imports from a package: modules and names in them, as paths below the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix(f"{package}.").replace(".", "/") for name in found if name.startswith(f"{package}.")}


def test_the_installed_wheel_is_tested_where_the_checkout_is_hidden() -> None:
    assert not os.environ.get("PYTHONSAFEPATH") or PACKAGE.is_relative_to(sys.prefix)


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in MAY_IMPORT])
def test_a_room_imports_only_what_lies_below(module: str) -> None:
    own = room(module)
    assert {room(name) for name in imported(module)} - {own, "__version__"} <= MAY_IMPORT[own]


def test_every_room_is_in_the_table() -> None:
    assert {room(module) for module in MODULES} - TOP == set(MAY_IMPORT)
    assert imported("site/plan") >= {"oci/repository", "fs/file"}  # so that the test above can fail


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ("cli", "__main__", "entry")])
def test_only_the_entry_point_imports_the_command_line(module: str) -> None:
    assert "cli" not in imported(module)
    text = (PACKAGE / f"{module}.py").read_text()
    assert "import typer" not in text
    assert "from typer" not in text


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_nothing_that_touches_files(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    nodes = [node for top in tree.body if not isinstance(top, ast.If) for node in ast.walk(top)]  # but TYPE_CHECKING
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in names} & EFFECTS
    assert "scr_export.fs.safe" not in names
    assert not any(isinstance(node, ast.Name) and node.id == "open" for node in ast.walk(tree))


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in ("images", "commands")])
def test_only_publish_changes_the_disk(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"mkdir", "makedirs", "unlink", "rmdir", "rename", "link", "symlink", "chmod", "write_bytes"}


@pytest.mark.parametrize("module", TEST_MODULES)
def test_a_test_module_is_imported_by_none(module: str) -> None:
    parts = [name.split("/") for name in imported_below("tests", TESTS / f"{module}.py")]
    assert not [name for name in parts if any(part.startswith(("test_", "conftest")) for part in name)]
    assert not [name for name in parts if name[0] == "support" and name[-1].startswith("_")]  # a private name


@pytest.mark.parametrize("module", [module for module in TEST_MODULES if module.startswith("support/")])
def test_support_imports_only_support(module: str) -> None:
    assert {room(name) for name in imported_below("tests", TESTS / f"{module}.py")} <= {"support"}
    assert imported_below("tests", TESTS / "support/runner.py") >= {"support/forked"}  # so that the test can fail


def test_the_public_api_is_documented_and_loads_nothing_before_it_is_used() -> None:
    code = (
        "import sys, scr_export; assert not any('typer' in m or 'commands' in m for m in sys.modules); help(scr_export)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("export(", "verify(", "class ExportOptions", "class Report", "class ImagesError"):
        assert name in shown
