"""Gives the identity to the page or the app, so that browser and server count as one user.

In the browser, search-insights takes it: https://github.com/algolia/search-insights.js
"""

from __future__ import annotations

import functools
import json
import logging
import re
from html import escape
from typing import Any

from .checks import check_type
from .context import current_identity, may_name_visitor
from .identity import ANONYMOUS_PREFIX, Identity, as_identity
from .provider import TokenProvider

__all__ = ["script", "settings"]

logger = logging.getLogger("algolia_usertoken.browser")

# As in search-insights' own snippet: calls that are made before the library is loaded wait in a queue.
_QUEUE = (
    'window.AlgoliaAnalyticsObject=window.AlgoliaAnalyticsObject||"aa";'
    "window.aa=window.aa||function(){(window.aa.queue=window.aa.queue||[]).push(arguments)};"
)
# An origin, with a path or without, or a path on the page's own: search-insights adds "/1/events" to it.
_is_host = re.compile(r"(?:https?://[^\s/?#@\\\"'<>&]+)?(?:/[^\s/?#\\\"'<>&]+)*").fullmatch
_IN_SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def settings(
    identity: Identity | str | TokenProvider | None = None,
    *,
    use_cookie: bool | None = None,
    host: str | None = None,
) -> dict[str, Any]:
    """Make the settings that InstantSearch and Autocomplete take as `insightsInitParams`, and a mobile app as JSON.

    Under a web integration, this makes the response private. Call it before the response begins.

    Args:
        identity: The visitor for whom the page is: an `Identity`, a user token, or the `token_provider` of a client,
            which also asks its `resolve`. By default, the identity that the context names.
        use_cookie: Whether search-insights may keep an anonymous token in its cookie. By default, True only if the
            visitor has an anonymous token already. If the visitor has consented and has no token yet, give True.
        host: The place to which search-insights sends events instead of Algolia: your own server, where an
            `EventsRelay` receives them at `host` + "/1/events". Give an address, for example "https://shop.example", or
            a path of the page's own site, for example "/collect".

    Returns:
        A dict with `useCookie`; `userToken` and `authenticatedUserToken`, if they are known; and `host`, if it was
        given. If only the login is known, it is also the user token, as in the searches of the server. For a visitor
        who opted out, `useCookie` is False and `userHasOptedOut` True, so that search-insights sends and keeps nothing.

    Raises:
        InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.
        ValueError: `host` is neither such an address nor such a path.
        TypeError: `host` is not a string.

    https://github.com/algolia/search-insights.js
    """
    found = _settings(_identity(identity), use_cookie)
    return found if host is None else {**found, "host": _checked_host(host)}


def _settings(identity: Identity, use_cookie: bool | None = None) -> dict[str, Any]:
    if identity.opted_out:
        return {"useCookie": False, "userHasOptedOut": True}
    user_token = identity.user_token or identity.authenticated_user_token
    if use_cookie is None:
        use_cookie = user_token is not None and user_token.startswith(ANONYMOUS_PREFIX)
    found: dict[str, Any] = {"useCookie": use_cookie}
    if user_token is not None:
        found["userToken"] = user_token
    if identity.authenticated_user_token is not None:
        found["authenticatedUserToken"] = identity.authenticated_user_token
    return found


def script(
    identity: Identity | str | TokenProvider | None = None, *, nonce: str | None = None, host: str | None = None
) -> str:
    """Make a `<script>` that tells search-insights who the visitor is. It may come before or after search-insights.

    If the page calls `aa("init", …)` itself, put the script after that call. If nobody is logged in, the script tells
    search-insights so, so that a page that is replaced in parts notices a logout. Under a web integration, this makes
    the response private. Call it before the response begins.

    Args:
        identity: The visitor for whom the page is: an `Identity`, a user token, or the `token_provider` of a client,
            which also asks its `resolve`. By default, the identity that the context names.
        nonce: The nonce of the page's Content-Security-Policy.
        host: The place to which search-insights sends events instead of Algolia: your own server, where an
            `EventsRelay` receives them at `host` + "/1/events". Give an address, for example "https://shop.example", or
            a path of the page's own site, for example "/collect".

    Returns:
        HTML, which the templates of Django and Jinja do not escape.

    Raises:
        InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.
        ValueError: `host` is neither such an address nor such a path.
        TypeError: `host` is not a string.

    https://github.com/algolia/search-insights.js
    """
    identity = _identity(identity)
    found = _settings(identity)
    if identity.opted_out:
        calls = 'aa("init",{partial:true,useCookie:false,userHasOptedOut:true});'
    else:
        calls = f'aa("setAuthenticatedUserToken",{_literal(found.get("authenticatedUserToken"))});'
        if "userToken" in found:
            calls = f'aa("setUserToken",{_literal(found["userToken"])});{calls}'
    if host is not None:
        # `partial` changes nothing else, so the application and the key stay.
        calls = f'aa("init",{{partial:true,host:{_literal(_checked_host(host))}}});{calls}'
    # This is not `if nonce`: some frameworks make a nonce when it is first read, and until then it counts as false.
    text = "" if nonce is None else str(nonce)
    attribute = f' nonce="{escape(text)}"' if text else ""
    return _Html(f"<script{attribute}>{_QUEUE}{calls}</script>")


class _Html(str):
    """HTML that is safe to put into a page. Template engines call `__html__` to know that."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def _identity(identity: Identity | str | TokenProvider | None) -> Identity:
    if isinstance(identity, TokenProvider):
        return _named_in_page(identity.identity() or Identity())
    return _named_in_page(as_identity(identity) or current_identity() or Identity())


def _named_in_page(identity: Identity) -> Identity:
    """Return the identity if the current response may name it, which makes the response private; else nobody."""
    if may_name_visitor():
        return identity
    _warn_once()
    return Identity()


@functools.cache
def _warn_once() -> None:
    logger.warning(
        "a page is sent without its user: its headers were sent before, and they allow shared caches to keep the page. "
        "Call browser.script() or settings() before the response begins, or send Cache-Control: private with it. This "
        "is logged once"
    )


def _checked_host(host: object) -> str:
    check_type("host", host, str, "a string")
    host = str.__str__(host).rstrip("/")
    if not host or not _is_host(host):
        raise ValueError(
            "host must be the address of a site, as 'https://shop.example', or a path of the page's own, as "
            "'/collect': search-insights adds '/1/events' to it"
        )
    return host


def _literal(token: str | None) -> str:
    # No valid token has one of these characters. This escapes them, should that ever change.
    return "undefined" if token is None else json.dumps(token).translate(_IN_SCRIPT)
