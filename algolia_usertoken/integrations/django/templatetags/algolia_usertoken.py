"""`{% load algolia_usertoken %}`, then `{% algolia_user_token %}` where the page's scripts are."""

from __future__ import annotations

from typing import Any

from django import template

from .... import browser
from ..middleware import served

register = template.Library()


def algolia_user_token(context: Any, nonce: Any = None, host: str | None = None) -> str:
    """Make the `<script>` that tells search-insights who the visitor is; see `algolia_usertoken.browser.script`.

    Args:
        context: The context of the template.
        nonce: The nonce of the page's Content-Security-Policy; by default Django's own, or django-csp's.
        host: The place to which search-insights sends events: see `algolia_usertoken.browser.script`.
    """
    if nonce is None:
        request = context.get("request") or served.get()
        found = (context.get("csp_nonce"), getattr(request, "csp_nonce", None), getattr(request, "_csp_nonce", None))
        # Both are made when they are first read, and count as false until then.
        nonce = next((each for each in found if each is not None), None)
    return browser.script(nonce=_read(nonce), host=host)


def _read(nonce: Any) -> str | None:
    """The nonce; None where it is too late for one, as in a page that is streamed: the policy has gone without it."""
    try:
        return None if nonce is None else str(nonce)
    except Exception:  # django-csp says so with an error of its own, which must not end the page
        return None


register.simple_tag(algolia_user_token, takes_context=True)
