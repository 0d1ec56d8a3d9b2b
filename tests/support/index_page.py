"""The sums in the index page: of its style and script, for its Content-Security-Policy, and of all lines for the first.

python3 -m tests.support.index_page     write them after a change of the page
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "scr_export/site/page/index.html"


def sealed(text: str) -> str:
    """The page with the sums that its text must have."""
    for element in ("script", "style"):
        (content,) = re.findall(rf"<{element}\b[^>]*>(.*?)</{element}>", text, re.DOTALL)
        sum_ = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        text = re.sub(rf"{element}-src 'sha256-[^']*'", f"{element}-src 'sha256-{sum_}'", text, count=1)
    first, _, rest = text.partition("\n")
    first = re.sub("[0-9a-f]{64}", hashlib.sha256(rest.encode()).hexdigest(), first)
    return f"{first}\n{rest}"


if __name__ == "__main__":
    SOURCE.write_text(sealed(SOURCE.read_text()))
