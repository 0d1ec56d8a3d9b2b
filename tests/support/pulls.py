"""Pulls by plain HTTP."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request

from tests.support.forked import TIMEOUT


def get(url: str) -> tuple[int, bytes]:
    """Status and body of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def pull(repository: str, tag: str, *, may_be_absent: bool = False) -> str | None:
    """Ask for a tag once, and then for each blob that its manifest names. Returns what went wrong.

    `repository` is a URL.
    """
    status, raw = get(f"{repository}/manifests/{tag}")
    if status == 404 and may_be_absent:
        return None
    if status != 200:
        return f"{repository}:{tag}: {status}"
    time.sleep(0.002)  # as clients do, leave the site some time to change between the manifest and its blobs
    manifest = json.loads(raw)
    for digest in [each["digest"] for each in [manifest["config"], *manifest["layers"]]]:
        status, data = get(f"{repository}/blobs/{digest}")
        if status != 200 or f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            return f"{repository}:{tag}: {digest}: {status}, {len(data)} bytes"
    return None
