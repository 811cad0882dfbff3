"""The pages, as HTML and the headers to send with it.

For tests in a browser, these ids and attributes stay as they are:

    #consent-accept, #consent-refuse   the buttons of the cookie banner (#consent), there until one is pressed
    #consent-change                    the button in the footer that brings the banner back
    #login                             the link in the header to /login with #login-form, #login-name, #login-submit
    #logout                            the button in the header, there while logged in
    #search, #search-input             the search in the header, and its field
    #autocomplete, .aa-Input, .suggestion[data-object-id]
                                       the same with SHOP_NPM, completed by the browser
    .hit[data-object-id][data-position], .hit-link
                                       a product in a list, and the link to its page
    #results[data-query-id], #brands   the list with the search it came from; the facet, with .brand[data-brand]
    #product[data-object-id], #add-to-cart
                                       a product's page, and its button
    #cart, .cart-line[data-object-id], #checkout, #order
                                       the cart, its lines and its button; what was bought
    #who[data-user-token][data-authenticated-user-token][data-source][data-opted-out]
                                       who Algolia thinks the visitor is; no token: an empty value
    #received[data-searches][data-events], #inspector
                                       what Algolia received of this visitor; the link to LocalAlgolia's own page
    #shop-settings                     JSON for the scripts: appId, apiKey, index, url, insights (browser.settings())
    #instant                           on /instant with SHOP_NPM: InstantSearch, with #instant-search-input,
                                       #instant-brands and .hit as above
"""

from __future__ import annotations

import os
import pathlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader

from algolia_usertoken import Identity, browser, current_identity

from . import store
from .backend import Backend

HERE = pathlib.Path(__file__).parent
STATIC = HERE / "static"
# A node_modules folder with search-insights, algoliasearch, instantsearch.js and @algolia/autocomplete-js.
NPM = os.environ.get("SHOP_NPM")
# Where the pages send their events: with SHOP_RELAY=1 to the shop itself, which sends them on, and else to Algolia.
RELAY = "/collect" if os.environ.get("SHOP_RELAY") == "1" else None
RELAY_PATH = f"{RELAY}/1/events"

_environment = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True)
_environment.filters["price"] = lambda amount: f"€ {amount:,.2f}"


class Page(NamedTuple):
    html: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Visit:
    """What the pages need to know of a request."""

    cookies: Mapping[str, str]
    session: Mapping[str, Any]
    query: store.Query = field(default_factory=store.Query)
    header: str | None = None  # the user token that an app of ours sent
    csrf_input: str = ""  # where the framework has one


def render(template: str, visit: Visit, backend: Backend, **values: Any) -> Page:
    nonce = secrets.token_urlsafe(16)
    html = _environment.get_template(template).render(
        visit=visit,
        query=visit.query,
        consent=visit.cookies.get("consent"),
        user=visit.session.get("user"),
        in_cart=sum(line.quantity for line in store.lines(visit.session)),
        csrf_input=visit.csrf_input,
        nonce=nonce,
        algolia_user_token=browser.script(nonce=nonce),
        settings=settings(backend),
        npm=NPM is not None,
        **_of_visitor(visit, backend),
        **values,
    )
    return Page(html, {"Content-Security-Policy": _policy(nonce, backend), **PRIVATE})


def received(visit: Visit, backend: Backend) -> Page:
    """The panel alone, for a page that is open to keep it up to date."""
    html = _environment.get_template("panel.html").render(**_of_visitor(visit, backend))
    return Page(html, PRIVATE)


# A page that names its visitor is for nobody else.
PRIVATE = {"Cache-Control": "private, no-store"}


def consent_cookies(choice: str) -> list[tuple[str, str, dict[str, Any]]]:
    """The cookies to set, as name, value and attributes, when a visitor has chosen "yes" or "no", or wants to again.

    Who does not accept also loses the token they may have had.
    """
    year = {"max_age": 365 * 24 * 60 * 60, "samesite": "lax"}
    gone = {"max_age": 0}
    cookies = [("consent", choice, year) if choice in ("yes", "no") else ("consent", "", gone)]
    return cookies if choice == "yes" else [*cookies, ("_ALGOLIA", "", gone)]


def settings(backend: Backend) -> dict[str, Any]:
    """What the scripts in the page need. The API key is one that may only search."""
    config = backend.search_config
    return {
        "appId": config.app_id,
        "apiKey": config.api_key,
        "index": backend.index,
        "url": backend.url,
        "insights": browser.settings(host=RELAY),
    }


def _policy(nonce: str, backend: Backend) -> str:
    algolia = backend.url or "https://*.algolia.net https://*.algolianet.com https://insights.algolia.io"
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' {algolia}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _of_visitor(visit: Visit, backend: Backend) -> dict[str, Any]:
    identity = current_identity() or Identity()
    token = identity.user_token or identity.authenticated_user_token
    searches, events = [], []
    if backend.local is not None and not identity.opted_out:
        searches = [s for s in backend.local.searches if s.user == (token or identity.client_ip)]
        events = [e for e in backend.local.events if e.user_token == token]
    return {
        "identity": identity,
        "source": _source(identity, visit),
        "searches": searches,
        "events": events,
        "backend": backend,
    }


def _source(identity: Identity, visit: Visit) -> str:
    """Where the user token came from, in a word."""
    if identity.opted_out:
        return "opted out"
    if identity.user_token is not None:
        return "header" if identity.user_token == visit.header else "cookie"
    if identity.authenticated_user_token is not None:
        return "login"
    return "IP address" if identity.client_ip is not None else "nobody"
