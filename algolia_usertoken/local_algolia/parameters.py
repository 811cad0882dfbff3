"""The parameters of a search: both forms of a body, the types of their values, and how they are written in a URL."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote_plus

from .errors import ApiError
from .index import WORD, to_json

MAX_HITS_PER_PAGE = 1000
_needs_no_quotes = re.compile("[A-Za-z0-9_.~-]*").fullmatch
# Algolia reads no more of a query than this.
_LONGEST_QUERY = 512
# The settings that a search reads. https://www.algolia.com/doc/api-reference/settings-api-parameters
_ALSO_SETTINGS = (
    "attributesToHighlight",
    "attributesToRetrieve",
    "attributesToSnippet",
    "highlightPostTag",
    "highlightPreTag",
    "hitsPerPage",
    "maxValuesPerFacet",
    "responseFields",
    "snippetEllipsisText",
    "sortFacetValuesBy",
    "unretrievableAttributes",
)


def merged_params(body: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of one search, from both forms of a body.

    A `params` string is parsed, and its values stay strings; the other fields of the body win over it.
    """
    params = body.get("params")
    if params is None:
        return dict(body)
    if not isinstance(params, str):
        raise ApiError(400, "params: expected a string")
    merged: dict[str, Any] = dict(parse_qsl(params.removeprefix("?"), keep_blank_values=True))
    merged.update((name, value) for name, value in body.items() if name != "params")
    return merged


def with_settings(params: Mapping[str, Any], settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a search, with the settings of its index for those that the search does not have."""
    added = {name: settings[name] for name in _ALSO_SETTINGS if name in settings and params.get(name) is None}
    return {**params, **added} if added else params


def is_true(value: Any) -> bool:
    """Whether a parameter is on: `true` or 1, or, as some clients send from a query string, `"true"` or `"1"`."""
    return value is True or value == 1 or (isinstance(value, str) and value.lower() in ("true", "1"))


def text_of(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ApiError(400, f"{name}: expected a string")
    return value


def integer_of(params: Mapping[str, Any], name: str, default: int, least: int, most: int | None = None) -> int:
    value = params.get(name)
    if value is None:
        return default
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ApiError(400, f"{name}: expected an integer, at least {least}")
    return number if most is None else min(number, most)


def names_of(params: Mapping[str, Any], name: str) -> list[str] | None:
    # A list of names is a JSON array, the text of one (in a `params` string), or names with commas between them.
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise ApiError(400, f"{name}: expected an array of strings") from None
        else:
            value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ApiError(400, f"{name}: expected an array of strings")
    return value


def words_of(query: str) -> tuple[str, ...]:
    return tuple(WORD.findall(query[:_LONGEST_QUERY].lower()))


def as_url(params: Mapping[str, Any]) -> str:
    return "&".join(
        f"{_quoted(name)}={_quoted(_as_text(value))}" for name, value in params.items() if name != "indexName"
    )


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):  # filters of both the key and the caller
        return " AND ".join(f"({text})" for text in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else to_json(value)


def _quoted(text: str) -> str:
    return text if _needs_no_quotes(text) else quote_plus(text, errors="replace")
