"""The cookie of search-insights, shared with it: who has one keeps it, whichever side made it."""

from __future__ import annotations

import json
import pathlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from algolia_usertoken import TokenAwareClientSync, browser, current_identity
from algolia_usertoken.demo import catalogue
from algolia_usertoken.integrations.wsgi import IdentityMiddleware
from algolia_usertoken.testing import LocalAlgolia

from .conftest import Browser

INSIGHTS = "/search-insights.js"
# As its documentation has it: calls wait until it is there.
QUEUE = """window.AlgoliaAnalyticsObject = "aa";
window.aa = function () { (window.aa.queue = window.aa.queue || []).push(arguments) };"""


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def algolia() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", catalogue())
        yield algolia


@pytest.fixture
def site(algolia: LocalAlgolia, npm: pathlib.Path) -> Iterator[Callable[..., str]]:
    """
    A page for which the server searches, and in which search-insights runs.

    `aa` is told what `settings` says; by default nothing but to use its cookie.
    """
    library = (npm / "search-insights" / "dist" / "search-insights.min.js").read_bytes()
    servers: list[WSGIServer] = []
    threads: list[threading.Thread] = []
    client = TokenAwareClientSync.create_with_config(algolia.search_config())

    def site(settings: Callable[[], dict[str, Any]] = lambda: {"useCookie": True}, **rules: Any) -> str:
        def app(environ: Any, start_response: Any) -> list[bytes]:
            if environ["PATH_INFO"] == INSIGHTS:
                start_response("200 OK", [("Content-Type", "text/javascript")])
                return [library]
            if environ["PATH_INFO"] != "/":
                start_response("404 Not Found", [])
                return []
            found = client.search_single_index("products", {"query": "lamp", "clickAnalytics": True})
            identity = current_identity()
            page = {
                "init": {"appId": algolia.app_id, "apiKey": algolia.api_key, "host": algolia.url, **settings()},
                "queryID": found.query_id,
                "objectID": found.hits[0].object_id,
                "token": identity.user_token if identity else None,
            }
            start_response("200 OK", [("Content-Type", "text/html")])
            html = f"""<!doctype html><link rel="icon" href="data:,"><script>{QUEUE}</script>
                <script src="{INSIGHTS}"></script>
                <script>const page = {json.dumps(page)}; aa("init", page.init)</script>"""
            return [html.encode()]

        server = make_server("127.0.0.1", 0, IdentityMiddleware(app, **rules), handler_class=Quiet)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        servers.append(server)
        threads.append(thread)
        return f"http://localhost:{server.server_port}/"

    yield site
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()
    client.close()


@pytest.fixture
def same_for_everybody(npm: pathlib.Path) -> Iterator[str]:
    """Pages that shared caches keep, with the JavaScript that docs/browser.md has for such pages."""
    library = (npm / "search-insights" / "dist" / "search-insights.min.js").read_bytes()
    documentation = pathlib.Path(__file__).parents[2] / "docs" / "browser.md"
    section = documentation.read_text(encoding="utf-8").partition("## A page that is the same for everybody")[2]
    from_cookie, from_view = re.findall(r"^```js\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[:2]
    pages = {"/from-cookie": from_cookie, "/from-view": from_view}

    def app(environ: Any, start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        if path == "/algolia-settings":
            body, kind, caching = json.dumps(own_settings()), "application/json", "no-cache"
        elif path in pages:
            body = f"""<!doctype html><link rel="icon" href="data:,"><script>{QUEUE}</script>
                <script src="{INSIGHTS}"></script><script>{pages[path]}</script>"""
            kind, caching = "text/html", "public, max-age=60"
        else:
            start_response("200 OK", [("Content-Type", "text/javascript"), ("Cache-Control", "public, max-age=60")])
            return [library]
        start_response("200 OK", [("Content-Type", kind), ("Cache-Control", caching)])
        return [body.encode()]

    rules: dict[str, Any] = {"set_cookie": True, "authenticated_user_token": lambda _: "user-1234"}
    server = make_server("127.0.0.1", 0, IdentityMiddleware(app, **rules), handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def click(browser: Browser, algolia: LocalAlgolia) -> Any:
    """The event of a click on what the server found."""
    before = len(algolia.events)
    browser.run(
        "aa('clickedObjectIDsAfterSearch', { index: 'products', eventName: 'Clicked',"
        "queryID: page.queryID, objectIDs: [page.objectID], positions: [1] })"
    )
    browser.until(lambda: len(algolia.events) > before)
    return algolia.events[-1]


def token_of_search_insights(browser: Browser) -> Any:
    return browser.driver.execute_async_script("aa('getUserToken', {}, (_, token) => arguments[0](token))")


def test_search_insights_takes_the_cookie_that_the_server_set(
    browser: Browser, algolia: LocalAlgolia, site: Callable[..., str]
) -> None:
    browser.open(site(set_cookie=True))
    token = browser.cookie("_ALGOLIA")
    assert token is not None
    assert token.startswith("anonymous-")

    event = click(browser, algolia)

    assert token_of_search_insights(browser) == browser.cookie("_ALGOLIA") == token
    assert event.user_token == algolia.searches[0].user_token == token
    assert algolia.mismatches() == []
    assert browser.complaints() == []


def test_the_server_takes_the_cookie_that_search_insights_made(
    browser: Browser, algolia: LocalAlgolia, site: Callable[..., str]
) -> None:
    url = site(set_cookie=True)
    first = site()  # by which no cookie is set; cookies of a host are for all its ports
    browser.open(first)
    token = token_of_search_insights(browser)
    assert browser.cookie("_ALGOLIA") == token
    assert algolia.searches[0].user_token is None  # it came too late for that one

    for address in (first, url, url):
        browser.open(address)
        event = click(browser, algolia)
        assert browser.run("return page.token") == token_of_search_insights(browser) == token
        assert event.user_token == algolia.searches[-1].user_token == token

    assert browser.cookie("_ALGOLIA") == token
    assert algolia.mismatches() == []


def test_settings_make_the_first_page_one_visitor_too(
    browser: Browser, algolia: LocalAlgolia, site: Callable[..., str]
) -> None:
    browser.open(site(own_settings, set_cookie=True))

    event = click(browser, algolia)

    assert event.user_token == algolia.searches[0].user_token == browser.cookie("_ALGOLIA")


def test_search_insights_sends_nothing_for_a_visitor_who_opted_out(
    browser: Browser, algolia: LocalAlgolia, site: Callable[..., str]
) -> None:
    browser.open(site(own_settings, set_cookie=True, opted_out=lambda _: True))

    browser.run("aa('clickedObjectIDs', { index: 'products', eventName: 'Clicked', objectIDs: [page.objectID] })")
    browser.open("about:blank")  # whatever the page still had to say on leaving, it said

    assert algolia.events == []
    assert [request for request in algolia.requests if "events" in request.path] == []
    assert algolia.searches[0].user_token is None


def test_a_page_that_is_the_same_for_everybody_takes_the_token_from_the_cookie(
    browser: Browser, same_for_everybody: str
) -> None:
    browser.open(f"{same_for_everybody}/from-cookie")
    assert browser.cookie("_ALGOLIA") is None  # neither side makes one: caches keep the page, and nobody has consented
    assert token_of_search_insights(browser) is None

    browser.driver.add_cookie({"name": "_ALGOLIA", "value": "anonymous-ada"})
    browser.open(f"{same_for_everybody}/from-cookie")

    assert token_of_search_insights(browser) == "anonymous-ada"
    assert browser.complaints() == []


def test_a_page_that_is_the_same_for_everybody_asks_a_view_for_its_visitor(
    browser: Browser, same_for_everybody: str
) -> None:
    browser.open(f"{same_for_everybody}/from-view")
    browser.until(lambda: token_of_search_insights(browser))

    assert token_of_search_insights(browser) == browser.cookie("_ALGOLIA")
    login = "aa('getAuthenticatedUserToken', {}, (_, token) => arguments[0](token))"
    assert browser.driver.execute_async_script(login) == "user-1234"
    assert browser.complaints() == []


def own_settings() -> dict[str, Any]:
    return browser.settings()
