"""
The one table of what the stand-in answers, over HTTP and in the mock: a function for each method and path.

Modules whose names end in `_routes` write into it, a function for each operation of https://www.algolia.com/doc/rest-api.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote

from .calls import Reply

Handler = Callable[..., Reply]  # of the application, the call, and what stands in the path where the table has braces

_by_size: dict[tuple[str, int], list[tuple[list[str | None], Handler]]] = {}


def on(method: str, path: str) -> Callable[[Handler], Handler]:
    """Write a function into the table. A segment of the path in braces is an argument; the first that fits is taken."""
    segments = [None if segment.startswith("{") else segment for segment in path.split("/")]

    def register(handler: Handler) -> Handler:
        _by_size.setdefault((method, len(segments)), []).append((segments, handler))
        return handler

    return register


@lru_cache(maxsize=256)  # most requests are for few paths
def find(method: str, path: str) -> tuple[Handler, list[str]] | None:
    """The function for a request, and its arguments; None if there is none."""
    segments = path.split("/")
    for wanted, handler in _by_size.get((method, len(segments)), ()):
        if all(want is None or want == got for want, got in zip(wanted, segments, strict=True)):
            return handler, [unquote(got) for want, got in zip(wanted, segments, strict=True) if want is None]
    return None
