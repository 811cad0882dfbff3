"""Tells which requests are searches, and where the user token is in their parameters.

The paths and bodies are those of Algolia's REST APIs for search, recommend and composition,
https://www.algolia.com/doc/rest-api/search. No other request is a search: a `userToken` in its body belongs to a stored
record, or the consequence of a rule. Nothing here does I/O or changes what it is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

if TYPE_CHECKING:
    from algoliasearch.http.request_options import RequestOptions

HEADER = "X-Algolia-UserToken"  # where a request names its user, and where its parameters do
PARAMETER = "userToken"
AB_TEST = "enableABTest"
_HEADER = HEADER.lower()
SEVERAL = object()  # this is used in place of a token where a query names two different ones

# The kinds of search that count in Algolia's analytics and A/B tests, and have a body. Exports do not count.
_COUNTED = frozenset({"query", "queries", "facet_values", "recommendations", "run", "run_facet_values"})

# The name of a group is the kind of search.
_posted = re.compile(
    r"""/+1/(?:
        indexes/(?: \* | %2[Aa] )/(?: (?P<queries>queries) | (?P<recommendations>recommendations) )
      | indexes/[^/?]+/(?: (?P<query>query) | (?P<browse>browse) | facets/[^/?]+/(?P<facet_values>query) )
      | compositions/[^/?]+/(?: (?P<run>run) | facets/[^/?]+/(?P<run_facet_values>query) )
    )(?:\?.*)?""",
    re.VERBOSE,
).fullmatch
_got = re.compile(r"/+1/indexes/[^/?*]+(?:(?P<get_query>)|/(?P<get_browse>browse))(?:\?.*)?").fullmatch


def search_kind(verb: str, path: str) -> str | None:
    """The kind of search that a request is (`query`, `queries`, `browse`, …); None if it is no search."""
    match = _posted(path) if verb == "POST" else _got(path) if verb == "GET" else None
    return match.lastgroup if match else None


def may_name_user(path: str, options: RequestOptions) -> bool:
    """Whether a request may have a user token in its parameters. This is quick, as nothing is parsed."""
    data = options.data
    if isinstance(data, str) and (PARAMETER in data or ("%" in data and '"params"' in data)):
        return True
    parameters = options.query_parameters
    return "?" in path or isinstance(data, dict) or bool(parameters and any(map(_is_of_user, parameters)))


def header_in_url(path: str, options: RequestOptions) -> Any:
    """The token that the URL names as the header `X-Algolia-UserToken`: Algolia takes it from there too, in any case.

    It is None if there is none, and `SEVERAL` if there are different ones.
    """
    return _only_one([[value for name, value in _in_url(path, options) if name.lower() == _HEADER]])


class SearchParameters:
    """The user tokens in the parameters of a search.

    `tokens` has one entry for each query of a multi-query: the token that the caller has set for it, in whatever form,
    `SEVERAL` if that query names two different ones, or None.
    """

    def __init__(self, kind: str, options: RequestOptions, path: str = "") -> None:
        self._kind = kind
        self._body = _object(options.data)
        self._queries = [] if self._body is None else _queries(kind, self._body)
        self.tokens: list[Any] = [_only_one(map(_tokens_at, query)) for query in self._queries]
        in_url = [value for name, value in _in_url(path, options) if name == PARAMETER]
        self.in_url = any(in_url)
        if self.in_url:  # it counts for every query that has no token itself
            self.tokens = [token for token in self.tokens if token is not None] + [_only_one([in_url])]
        # Facet-value searches have no field for a token, see https://www.algolia.com/doc/rest-api/search.
        self.writable = bool(self._queries) and not self.in_url and not kind.endswith("facet_values")

    @property
    def written(self) -> bool:
        """Whether each query has a field for a token, and has one in each place where its parameters are."""
        return self.writable and all(any(_tokens_at(place)) for query in self._queries for place in query)

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
        """Put `token` into each query that has none, and return the body as algoliasearch would serialise it."""
        for i, query in enumerate(self._queries):
            # It is written in each place, as a search that Recommend falls back to is made for the same user.
            if self.tokens[i] is None:
                written = [_write_at(place, PARAMETER, token) for place in query]
                self.tokens[i] = token if all(written) else None
        return json.dumps(self._body)

    def write_without_user(self, parameters: Mapping[str, bool]) -> str | None:
        """Put `parameters` into each query that has no token, and return the body; None if there is nothing to put.

        If a query has one of them itself, that stays. A search without analytics (an export, or a GET) and one whose
        URL names the user get no parameters.
        """
        if self.in_url or self._kind not in _COUNTED:
            return None
        if self._kind == "recommendations":  # they have no such parameter
            parameters = {name: value for name, value in parameters.items() if name != AB_TEST}
        changed = False
        for token, query in zip(self.tokens, self._queries, strict=True):
            if token is None:
                for place in query:
                    for name, value in parameters.items():
                        changed |= not _says(place, name) and _write_at(place, name, value)
        return json.dumps(self._body) if changed else None


class _Place(NamedTuple):
    """A place where search parameters are: an object itself, or one of its keys."""

    holder: dict[str, Any]
    key: str | None = None
    as_text: bool = False  # whether they are in a string, as in a URL, also if there is no string yet

    def parameters(self) -> Any:
        return self.holder if self.key is None else self.holder.get(self.key)


def _is_of_user(name: str) -> bool:
    return name == PARAMETER or name.lower() == _HEADER


def _in_url(path: str, options: RequestOptions) -> list[tuple[str, str]]:
    """The parameters in the URL of a request, without empty ones."""
    # algoliasearch puts a dict in the place of a body there, too.
    given = {**options.query_parameters, **(options.data if isinstance(options.data, dict) else {})}
    return parse_qsl("&".join([path.partition("?")[2], *(f"{name}={value}" for name, value in given.items())]))


def _object(data: Any) -> dict[str, Any] | None:
    if isinstance(data, dict):
        return None  # it goes into the URL
    try:
        body = json.loads(data) if data else {}
    except (ValueError, RecursionError):  # Algolia will say what is wrong with it
        return None
    return body if isinstance(body, dict) else None


def _queries(kind: str, body: dict[str, Any]) -> list[list[_Place]]:
    """The queries of a request, each with the places where its parameters are; the first place is its own."""
    if kind in ("query", "browse"):
        return [[_Place(body)]]
    if kind == "facet_values":
        return [[_Place(body, as_text=True)]]
    if kind in ("queries", "recommendations"):
        requests = body.get("requests")
        items = [item for item in requests if isinstance(item, dict)] if isinstance(requests, list) else []
        return [[_Place(item)] if kind == "queries" else _places_of_recommendation(item) for item in items]
    if kind == "run":
        return [[_Place(body, "params")]]
    if kind == "run_facet_values":
        params = body.setdefault("params", {})
        return [[_Place(params, "searchQuery")]] if isinstance(params, dict) else []
    return []  # a GET has no body


def _places_of_recommendation(item: dict[str, Any]) -> list[_Place]:
    places = [_Place(item, "queryParameters")]
    return [*places, _Place(item, "fallbackParameters")] if isinstance(item.get("fallbackParameters"), dict) else places


def _tokens_at(place: _Place) -> list[Any]:
    parameters = place.parameters()
    if not isinstance(parameters, dict):
        return []
    params = parameters.get("params")
    return [parameters.get(PARAMETER), *(_tokens_in(params) if isinstance(params, str) else ())]


def _tokens_in(query_string: str) -> list[str]:
    return [value for name, value in parse_qsl(query_string) if name == PARAMETER] if query_string else []


def _only_one(found: Iterable[Iterable[Any]]) -> Any:
    """The token, if there is one; `SEVERAL`, if there are different ones; else None. An empty token does not count."""
    different: list[Any] = []
    for token in (token for tokens in found for token in tokens if token):
        if token not in different:
            different.append(token)
    return None if not different else different[0] if len(different) == 1 else SEVERAL


def _says(place: _Place, name: str) -> bool:
    """Whether the parameters there have `name`, also if its value is null."""
    parameters = place.parameters()
    if not isinstance(parameters, dict):
        return False
    params = parameters.get("params")
    return name in parameters or (
        isinstance(params, str) and any(said == name for said, _ in parse_qsl(params, keep_blank_values=True))
    )


def _write_at(place: _Place, name: str, value: str | bool) -> bool:
    """Write a parameter there; False if that is not possible, as there is no object."""
    if place.key is not None and place.holder.get(place.key) is None:
        place.holder[place.key] = {}
    parameters = place.parameters()
    if not isinstance(parameters, dict):
        return False
    params = parameters.get("params")
    if params is None and place.as_text:
        params = ""
    if isinstance(params, str):
        # Where it is there already, it is empty, and must not count beside the one that is written.
        others = [part for part in params.split("&") if part and unquote(part.partition("=")[0]) != name]
        text = quote(value, safe="") if isinstance(value, str) else json.dumps(value)
        parameters["params"] = "&".join([*others, f"{name}={text}"])
        parameters.pop(name, None)
    elif place.as_text:
        return False
    else:
        parameters[name] = value
    return True
