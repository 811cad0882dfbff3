"""Keeps each page that names its visitor out of Django's own cache: `cache_page`, and the cache of the whole site."""

from __future__ import annotations

import functools
from typing import Any

from django.middleware.cache import UpdateCacheMiddleware

from ...context import current_request


@functools.cache
def leave_out_pages_that_name_their_visitor() -> None:
    """Have Django's cache middleware leave such a page out; this is done once for the whole process.

    `cache_page` keeps a page before the middleware of this package sees the response, so this has to be decided there.
    Django's own switch on the request (`_cache_update_cache`) is not enough. `cache_page` sets it again when the view
    begins, and by then the class of the view, for example, may have called `browser.settings()`. And Django REST
    framework wraps the request in one that has a switch of its own.
    """
    keep = UpdateCacheMiddleware.process_response

    @functools.wraps(keep)
    def process_response(self: Any, request: Any, response: Any) -> Any:
        visit = current_request()
        if visit is not None and visit.is_shown:
            return response
        return keep(self, request, response)

    UpdateCacheMiddleware.process_response = process_response
