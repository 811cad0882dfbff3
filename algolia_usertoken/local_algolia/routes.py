"""
The one table of what the stand-in answers, over HTTP and in the mock: a function for each method and path.

Modules whose names end in `_routes` write into it, a function for each operation of https://www.algolia.com/doc/rest-api.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from .calls import Reply

Handler = Callable[..., Reply]  # of the application, the call, and what stands in the path where the table has braces

_RECORDS_BYTES = 64_000_000
_OTHER_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class Route:
    """
    One line of the table.

    `for_pages`: a page of another site may ask this, as it may ask Algolia. `max_bytes`: how large a body may be.
    `acl`: the permission that the key must have, None for any key. `names_user`: the argument is a user token.
    """

    segments: tuple[str | None, ...]
    handler: Handler
    for_pages: bool
    max_bytes: int
    acl: str | None
    names_user: bool

    @property
    def names_index(self) -> bool:
        """Whether the first argument is the name of an index."""
        return self.segments[:4] == ("", "1", "indexes", None)


_by_size: dict[tuple[str, int], list[Route]] = {}


def on(
    method: str, path: str, *, for_pages: bool = False, records: bool = False, acl: str | None = ""
) -> Callable[[Handler], Handler]:
    """
    Write a function into the table.

    Args:
        method: the HTTP method.
        path: a segment of it in braces is an argument of the function; the first path that fits is taken.
        for_pages: whether pages of other sites may ask this, as what searches and what sends events.
        records: whether the body brings records, and may be large.
        acl: the permission that the key must have; None for any key. By default "search" for what pages may ask,
            "settings" for what is read besides, and "editSettings" for what is changed.
    """
    if acl == "":
        acl = "search" if for_pages else "settings" if method == "GET" else "editSettings"
    segments = tuple(None if segment.startswith("{") else segment for segment in path.split("/"))

    def register(handler: Handler) -> Handler:
        most = _RECORDS_BYTES if records else _OTHER_BYTES
        route = Route(segments, handler, for_pages, most, acl, path.endswith("/{token}"))
        _by_size.setdefault((method, len(segments)), []).append(route)
        return handler

    return register


@lru_cache(maxsize=256)  # most requests are for few paths
def find(method: str, path: str) -> tuple[Route, list[str]] | None:
    """The line for a request, and the function's arguments; None if there is none."""
    segments = path.split("/")
    for route in _by_size.get((method, len(segments)), ()):
        if all(want is None or want == got for want, got in zip(route.segments, segments, strict=True)):
            return route, [unquote(got) for want, got in zip(route.segments, segments, strict=True) if want is None]
    return None


def users_in(method: str, path: str) -> list[str]:
    """
    What in a path may be a user token: where the table has one, and of a path that it does not have whatever stands
    behind the first two segments, for it may be mistyped.
    """
    found = find(method, path)
    if found is None:
        return [unquote(segment) for segment in path.split("/")[3:]]
    route, arguments = found
    return arguments if route.names_user else []


def max_bytes(method: str, path: str) -> int:
    """How large the body of a request may be, before and after decompression."""
    found = find(method, path)
    return _OTHER_BYTES if found is None else found[0].max_bytes
