"""JSON objects as clients written in Go read them, which all that pull are (encoding/json, "Unmarshal")."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def read(raw: bytes) -> dict[str, Any]:
    """The object that these bytes are; ValueError says, in words that continue a file's name, why they are none."""
    try:
        # Bytes that are no UTF-8 are read as U+FFFD.
        document = _DECODER.decode(raw.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")
    return document


def folded(item: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """The object with the names of fields as they should be spelt: their case does not matter, and the last one counts.

    `fields` has each name by what it is in `str.casefold`.
    """
    result: dict[str, Any] = {}
    for key, value in item.items():
        field = fields.get(key.casefold(), key)
        result[field] = _merged(result.get(field), value)
    return result


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    result = {}
    for key, value in pairs:
        result[key] = _merged(result.pop(key, None), value)
    return result


def _merged(first: Any, second: Any) -> Any:
    # A second object is read into the first one; anything else replaces what was there.
    if isinstance(first, dict) and isinstance(second, dict):
        return first | {key: _merged(first.get(key), value) for key, value in second.items()}
    return second


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _integer(text: str) -> float:
    # Python refuses more than 4,300 digits; clients do so only in fields that they know, where infinity is refused too.
    return int(text) if len(text) < 100 else math.inf


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer)
