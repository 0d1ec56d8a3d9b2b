"""Text for people: what a terminal may show, counts and sizes."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """Return text that cannot control a terminal: control and undecodable characters become escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the right form: `1 tag`, `2 tags`, `3 repositories`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("ry") else f"{number:,} {noun}s"


def size(count: int) -> str:
    """Return a number of bytes in powers of ten: `999 bytes`, `1.5 MB`."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def clock(seconds: float) -> str:
    """Return a duration as a clock shows it: `0:07`, `12:05`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """Return a duration in words: `0.07 s`, `12 min 5 s`, `1 h 2 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.2f} s"


def table(rows: Sequence[Sequence[str]], widest: int, right: str = "") -> list[str]:
    """Return a line for each row, with aligned columns. A text of more than `widest` characters moves its own row only.

    `right` has an `r` for each column that is aligned to the right.
    """
    widths = [
        max((len(text) for text in column if len(text) <= widest), default=0) for column in zip(*rows, strict=True)
    ]
    sides = right.ljust(len(widths))
    return ["  ".join(_cell(*each) for each in zip(row, widths, sides, strict=True)).rstrip() for row in rows]


def _cell(text: str, width: int, side: str) -> str:
    return text.rjust(width) if side == "r" else text.ljust(width)
