"""An image that an export is busy with for hours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.support.builders import write_image


def image_without_end(images: Path) -> Path:
    """Write an image whose one layer takes hours to hash and no space on the disk. Returns the layer's file."""
    write_image(images / "slow/v1")
    path = images / "slow/v1/manifest.json"
    document = json.loads(path.read_bytes())
    digest = hashlib.sha256(b"not this").hexdigest()
    document["layers"] = [{"mediaType": "application/octet-stream", "digest": f"sha256:{digest}", "size": 2**43}]
    path.write_text(json.dumps(document))
    layer = images / "slow/v1" / digest
    with layer.open("wb") as file:
        file.truncate(2**43)
    return layer
