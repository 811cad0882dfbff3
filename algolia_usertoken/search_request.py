"""Which requests are searches, and where the user token stands in their parameters.

The paths and bodies are those of Algolia's REST APIs for search, recommend and composition,
https://www.algolia.com/doc/rest-api/search. Every other request is no search: a `userToken` in its body (a stored
record, the consequence of a rule) is somebody's data. Nothing here does I/O or changes what it is given.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote

if TYPE_CHECKING:
    from algoliasearch.http.request_options import RequestOptions

PARAMETER = "userToken"

# The name of a group is the kind of search.
_posted = re.compile(
    r"""/+1/(?:
        indexes/\*/(?: (?P<queries>queries) | (?P<recommendations>recommendations) )
      | indexes/[^/?]+/(?: (?P<query>query) | (?P<browse>browse) | facets/[^/?]+/(?P<facet_values>query) )
      | compositions/[^/?]+/(?: (?P<run>run) | facets/[^/?]+/(?P<run_facet_values>query) )
    )(?:\?.*)?""",
    re.VERBOSE,
).fullmatch
_got = re.compile(r"/+1/indexes/[^/?*]+(?:(?P<get_query>)|/(?P<get_browse>browse))(?:\?.*)?").fullmatch


def search_kind(verb: str, path: str) -> str | None:
    """What kind of search a request is (`query`, `queries`, `browse`, …), or None if it is none."""
    match = _posted(path) if verb == "POST" else _got(path) if verb == "GET" else None
    return match.lastgroup if match else None


class SearchParameters:
    """The user tokens in the parameters of a search.

    `tokens` has one entry per query of a multi-query: the token as the caller set it, or None.
    """

    def __init__(self, kind: str, options: RequestOptions, path: str = "") -> None:
        self._body = _object(options.data)
        self._places = [] if self._body is None else _places(kind, self._body)
        self.tokens: list[Any] = [_token_at(holder, key) for holder, key in self._places]
        in_url = unquote(str(options.query_parameters.get(PARAMETER) or "")) or _token_in(path.partition("?")[2])
        if in_url is not None:  # it speaks for every query that has none of its own
            self.tokens = [token for token in self.tokens if token is not None] + [in_url]
        # Facet-value searches have no field for a token, see https://www.algolia.com/doc/rest-api/search.
        self.writable = bool(self._places) and in_url is None and not kind.endswith("facet_values")

    @property
    def written(self) -> bool:
        """Whether each query has a token in its parameters, and a field for it."""
        return self.writable and self.complete

    @property
    def complete(self) -> bool:
        """Whether each query has a token."""
        return bool(self.tokens) and None not in self.tokens

    @property
    def named(self) -> bool:
        """Whether any query has a token."""
        return any(token is not None for token in self.tokens)

    @property
    def single(self) -> Any:
        """The token that all queries have, or None."""
        return self.tokens[0] if self.tokens and all(token == self.tokens[0] for token in self.tokens) else None

    def write(self, token: str) -> str:
        """Put `token` where a query has none, and return the body as algoliasearch would serialise it."""
        for i, (holder, key) in enumerate(self._places):
            if self.tokens[i] is None and _write_token(holder, key, token):
                self.tokens[i] = token
        return json.dumps(self._body)


def _object(data: Any) -> dict[str, Any] | None:
    try:
        body = json.loads(data) if data else {}
    except (ValueError, RecursionError):  # not ours to judge: Algolia will
        return None
    return body if isinstance(body, dict) else None


def _places(kind: str, body: dict[str, Any]) -> list[tuple[dict[str, Any], str | None]]:
    """Where the search parameters stand, one place per query: in an object itself, or under one of its keys."""
    if kind in ("query", "browse", "facet_values"):
        return [(body, None)]
    if kind in ("queries", "recommendations"):
        requests = body.get("requests")
        key = None if kind == "queries" else "queryParameters"
        return [(item, key) for item in requests if isinstance(item, dict)] if isinstance(requests, list) else []
    if kind == "run":
        return [(body, "params")]
    if kind == "run_facet_values":
        params = body.get("params")
        return [(params, "searchQuery")] if isinstance(params, dict) else []
    return []  # a GET has no body


def _token_at(holder: dict[str, Any], key: str | None) -> Any:
    parameters = holder if key is None else holder.get(key)
    if not isinstance(parameters, dict):
        return None
    token = parameters.get(PARAMETER) or None
    params = parameters.get("params")
    return _token_in(params) if token is None and isinstance(params, str) else token


def _token_in(query_string: str) -> str | None:
    return parse_qs(query_string).get(PARAMETER, [None])[-1] if PARAMETER in query_string else None


def _write_token(holder: dict[str, Any], key: str | None, token: str) -> bool:
    """Write `token` into the parameters; False where they are no object."""
    if key is not None and holder.get(key) is None:
        holder[key] = {}
    parameters = holder if key is None else holder[key]
    if not isinstance(parameters, dict):
        return False
    params = parameters.get("params")
    if isinstance(params, str):
        parameters["params"] = f"{params}&{PARAMETER}={quote(token, safe='')}".lstrip("&")
    else:
        parameters[PARAMETER] = token
    return True
