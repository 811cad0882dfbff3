"""The table of all requests that the stand-in answers, over HTTP and in the mock: a function for each method and path.

Modules whose names end in `_routes` add a function for each operation of https://www.algolia.com/doc/rest-api.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from .calls import Reply

Handler = Callable[..., Reply]  # takes the application, the call, and the segments that are in braces in the table

_RECORDS_BYTES = 64_000_000
_OTHER_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table.

    `for_pages`: a page of another site may send this request, as it may to Algolia. `max_bytes`: the largest body.
    `acl`: the permission that the key must have; None means any key. `names_user`: the argument is a user token.
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
    """Add a function to the table.

    Args:
        method: The HTTP method.
        path: The path. A segment in braces is an argument of the function. The first path that fits is used.
        for_pages: Whether pages of other sites may send this request, as searches and events.
        records: Whether the body contains records, and so may be large.
        acl: The permission that the key must have. None allows any key. By default, it is "search" for requests that
            pages may send, "settings" for other requests that read, and "editSettings" for requests that change
            something.
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
    """The route of a request and the arguments of its function; None if there is no such route."""
    segments = path.split("/")
    for route in _by_size.get((method, len(segments)), ()):
        if all(want is None or want == got for want, got in zip(route.segments, segments, strict=True)):
            return route, [unquote(got) for want, got in zip(route.segments, segments, strict=True) if want is None]
    return None


def users_in(method: str, path: str) -> list[str]:
    """The parts of a path that may be a user token: the argument of a route that names a user.

    For a path that is not in the table, which may be mistyped, they are all segments after the first two.
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
