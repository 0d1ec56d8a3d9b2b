"""Run `scr-export push` as a process of its own, with credentials that it finds in its environment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support import runner, stores
from tests.support.runner import Report, wait


def environment(**more: str) -> dict[str, str]:
    """The environment of a push: credentials of the store, nothing else of AWS."""
    return stores.ENVIRONMENT | {"PYTHONPATH": runner.ENVIRONMENT["PYTHONPATH"], "LC_ALL": "C.UTF-8"} | more


def start_push(
    site: Path, url: str, endpoint: str, *options: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a push."""
    where = ["--endpoint", endpoint] if endpoint else []
    return runner.start("push", *where, *options, site, url, environment=environment() if env is None else env)


def run_push(
    site: Path, url: str, endpoint: str, *options: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a push to its end, which is no traceback. No secret may be in what it prints."""
    ended = wait(start_push(site, url, endpoint, *options, env=env))
    assert stores.SECRET_KEY not in ended.stdout + ended.stderr
    return ended


def push(site: Path, url: str, endpoint: str, *options: str, status: int = 0) -> Report:
    """Run a push that ends with this status; its JSON report."""
    ended = run_push(site, url, endpoint, "--json", *options)
    assert ended.returncode == status, ended.stderr
    document: Report = json.loads(ended.stdout)
    return document
