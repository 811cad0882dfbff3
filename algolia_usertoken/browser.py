"""Hands the identity to the page or the app, so that browser and server count as one user.

The browser's side is search-insights: https://github.com/algolia/search-insights.js
"""

from __future__ import annotations

import functools
import json
import logging
import re
from html import escape
from typing import Any

from .checks import check_type
from .context import current_identity, current_request
from .identity import ANONYMOUS_PREFIX, Identity, as_identity
from .provider import TokenProvider

__all__ = ["script", "settings"]

logger = logging.getLogger("algolia_usertoken.browser")

# What search-insights' own loading snippet does too: calls made before the library is there wait in a queue.
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
    """What InstantSearch and Autocomplete take as `insightsInitParams`, and a mobile app as JSON.

    In a request under one of the web integrations it makes the response private. Call it before the response begins.

    Args:
        identity: Who the page is for; by default the current identity. A client's `token_provider` is asked, so that
            the page also knows whom its `resolve` finds; without it, the context alone is asked.
        use_cookie: Whether search-insights may keep an anonymous token in its cookie. By default only one that the
            visitor already has; where you have the visitor's consent, and they have no token yet, give True.
        host: Where search-insights shall send events, in place of Algolia: your own server, where an `EventsRelay`
            takes them at `host` + "/1/events". An address as "https://shop.example", or a path of the page's own site
            as "/collect".

    Returns:
        `useCookie`, and where they are known `userToken` and `authenticatedUserToken`; `host`, if given. A login
        without a user token is the user token too, as it is for the searches of the server. For a visitor who opted
        out: `useCookie` False and `userHasOptedOut` True, with which search-insights sends and keeps nothing.

    Raises:
        InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.
        ValueError: `host` is neither such an address nor such a path.
        TypeError: `host` is no string.

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
    """A `<script>` that tells search-insights who the visitor is, whether that is loaded before or after it.

    Put it after a call of `aa("init", …)` of your own, if you have one. Who is not logged in is said, too, so that a
    page that is replaced piece by piece notices a logout. In a request under one of the web integrations it makes the
    response private. Call it before the response begins.

    Args:
        identity: Who the page is for; by default the current identity. A client's `token_provider` is asked; without
            it, the context alone is.
        nonce: The nonce of the page's Content-Security-Policy.
        host: Where search-insights shall send events, in place of Algolia: your own server, where an `EventsRelay`
            takes them at `host` + "/1/events". An address as "https://shop.example", or a path of the page's own site
            as "/collect".

    Returns:
        HTML, which Django's and Jinja's templates take as it is.

    Raises:
        InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.
        ValueError: `host` is neither such an address nor such a path.
        TypeError: `host` is no string.

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
        # `partial` leaves all else as it is, application and key among it.
        calls = f'aa("init",{{partial:true,host:{_literal(_checked_host(host))}}});{calls}'
    # Not `if nonce`: frameworks make nonces when they are first read, and until then they count as false.
    text = "" if nonce is None else str(nonce)
    attribute = f' nonce="{escape(text)}"' if text else ""
    return _Html(f"<script{attribute}>{_QUEUE}{calls}</script>")


class _Html(str):
    """HTML that is safe to put in a page; template engines ask for it in this way."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def _identity(identity: Identity | str | TokenProvider | None) -> Identity:
    if isinstance(identity, TokenProvider):
        return _shown(identity.identity() or Identity())
    return _shown(as_identity(identity) or current_identity() or Identity())


def _shown(identity: Identity) -> Identity:
    """`identity`, if it may be written into the response of the current request, which becomes private by that."""
    request = current_request()
    if request is None or request.show():
        return identity
    _warn_once()
    return Identity()


@functools.cache
def _warn_once() -> None:
    logger.warning(
        "a page names nobody, as its headers have gone and let caches share it: call browser.script() or settings() "
        "before the response begins, or send Cache-Control: private with it. This is logged once"
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
    # No valid token has one of these characters; this holds without relying on it.
    return "undefined" if token is None else json.dumps(token).translate(_IN_SCRIPT)
