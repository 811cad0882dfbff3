"""The example shops, each under a real server: over HTTP, as a browser without JavaScript would use them.

That they mix up nobody of a crowd, under several servers, is in integrations/test_servers.py.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from algoliasearch.insights.client import InsightsClientSync
from browsing import Visitor, buy_something
from docs_code import DOCS, PROJECT
from ports import free_port
from serving import gunicorn, running
from waiting import wait_until

from algolia_usertoken.demo import catalogue
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

EXAMPLES = DOCS / "examples"
SHOPS = ("fastapi", "flask", "django")
HOSTILE = "\"'></script><hostile a=&amp;>{{7*7}}{% x %}\u2028é"


@pytest.fixture(scope="module")
def module_algolia() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", catalogue())
        yield algolia


@pytest.fixture(scope="module")
def ports(module_algolia: LocalAlgolia, tmp_path_factory: Any) -> Iterator[dict[str, int]]:
    """The port of each shop's server."""
    ports = {name: free_port() for name in SHOPS}
    logs = tmp_path_factory.mktemp("shops")
    env = {"ALGOLIA_URL": module_algolia.url, "PYTHONPATH": str(PROJECT)}

    def start(name: str) -> None:
        if name == "fastapi":
            command = [sys.executable, str(EXAMPLES / name / "app.py"), "--port", str(ports[name])]
        else:
            command = gunicorn("app:app", ports[name], "--chdir", str(EXAMPLES / name), "--threads", "4")
        servers.enter_context(running(command, ports[name], logs / name, env))

    with ExitStack() as servers:
        with ThreadPoolExecutor() as threads:
            list(threads.map(start, SHOPS))
        yield ports


@pytest.fixture(params=SHOPS)
def shop(request: Any, ports: dict[str, int]) -> tuple[str, int]:
    """The name of a shop, and the port that its server listens on."""
    return request.param, ports[request.param]


@pytest.fixture
def received(module_algolia: LocalAlgolia) -> LocalAlgolia:
    module_algolia.clear()
    return module_algolia


@pytest.fixture
def visitor(shop: tuple[str, int]) -> Iterator[Visitor]:
    visitor = Visitor(shop[1])
    with visitor.http:
        yield visitor


def test_a_visitor_has_one_user_token_before_and_after_login(visitor: Visitor, received: LocalAlgolia) -> None:
    visitor.open("/")
    visitor.press("consent-accept")
    assert not visitor.page.has("consent")
    token = visitor.cookie
    assert token is not None
    assert visitor.who == (token, "", "cookie")
    received.clear()

    buy_something(visitor, "knife")
    visitor.open("/login")
    visitor.press("login-submit", user="jane")
    login = visitor.who[1]
    assert visitor.who == (token, login, "cookie")
    assert login.startswith("user-")
    assert "jane" not in login
    buy_something(visitor, "lamp")
    visitor.press("logout")
    assert visitor.who == (token, "", "cookie")
    buy_something(visitor, "tent")

    wait_until(lambda: len(received.events) == 12)
    assert {search.user_token for search in received.searches} == {token}
    names = ["Product Clicked", "Product Viewed", "Added to Cart", "Purchased"]
    assert [event.event_name for event in received.events] == names * 3
    assert {event.user_token for event in received.events} == {token}
    logins = [event.authenticated_user_token for event in received.events]
    assert logins == [None] * 4 + [login] * 4 + [None] * 4
    assert [len(event.query_ids) for event in received.events] == [1, 0, 1, 1] * 3
    assert received.mismatches() == []


def test_until_the_visitor_chooses_they_are_nobody(visitor: Visitor, received: LocalAlgolia) -> None:
    buy_something(visitor, "knife")
    visitor.open("/login")
    visitor.press("login-submit", user="jane")
    assert visitor.who == ("", "", "nobody")  # a loopback address is not a visitor's
    visitor.open_first_hit()
    visitor.press("add-to-cart")
    assert visitor.cookie is None
    assert {(search.user_token, search.user) for search in received.searches} == {(None, "127.0.0.1")}

    visitor.press("consent-accept")  # what is in the cart was found by nobody
    visitor.open("/cart")
    visitor.press("checkout")
    wait_until(lambda: len(received.events) == 1)
    assert received.events[0].user_token == visitor.cookie
    assert received.mismatches() == []


def test_refusing_is_no_cookie_and_no_event(visitor: Visitor, received: LocalAlgolia) -> None:
    visitor.open("/")
    visitor.press("consent-accept")
    first = visitor.cookie
    visitor.open("/", q="knife")
    visitor.open_first_hit()
    visitor.press("add-to-cart")
    visitor.press("consent-change")
    assert visitor.page.has("consent")
    assert visitor.cookie is None
    visitor.press("consent-refuse")
    assert not visitor.page.has("consent")

    before = len(received.searches)
    buy_something(visitor, "lamp")
    visitor.open("/login")
    visitor.press("login-submit", user="jane")
    assert visitor.who == ("", "", "opted out")
    assert '"userHasOptedOut": true' in visitor.page.text
    assert visitor.http.get("/identity.json").json() == {"useCookie": False, "userHasOptedOut": True}
    buy_something(visitor, "tent")
    assert visitor.cookie is None
    assert {search.user_token for search in received.searches[before:]} == {None}

    visitor.press("consent-change")
    visitor.press("consent-accept")
    visitor.open("/product/p-01")
    wait_until(lambda: len(received.events) >= 4 and received.events[-1].user_token == visitor.cookie)
    assert [event.user_token for event in received.events] == [first] * 3 + [visitor.cookie]
    assert first != visitor.cookie
    assert received.mismatches() == []


def test_a_link_that_was_shared_credits_nobody(visitor: Visitor, shop: tuple[str, int], received: LocalAlgolia) -> None:
    visitor.open("/")
    visitor.press("consent-accept")
    visitor.open("/", q="knife")
    link = visitor.page.find(class_="hit-link")[0]["href"]
    friend = Visitor(shop[1])
    with friend.http:
        friend.open("/")
        friend.press("consent-accept")
        friend.open(link)
        friend.press("add-to-cart")
        friend.press("checkout")
        visitor.open(link)
        wait_until(lambda: len(received.events) == 6)

        expected = [("Product Clicked", 0), ("Product Viewed", 0), ("Added to Cart", 0), ("Purchased", 0)]
        of = {event.user_token for event in received.events}
        assert of == {friend.cookie, visitor.cookie}
        seen = {
            token: [(event.event_name, len(event.query_ids)) for event in received.events if event.user_token == token]
            for token in of
        }
        assert seen == {friend.cookie: expected, visitor.cookie: [("Product Clicked", 1), ("Product Viewed", 0)]}
    assert received.mismatches() == []


def test_a_reference_holds_for_its_product_and_its_visitor(visitor: Visitor, received: LocalAlgolia) -> None:
    visitor.open("/")
    visitor.press("consent-accept")
    visitor.open("/", q="knife")
    link = visitor.page.find(class_="hit-link")[0]["href"]
    other = visitor.page.find(class_="hit")[1]["data-object-id"]
    visitor.open(f"/product/{other}?{link.partition('?')[2]}")
    visitor.press("add-to-cart")
    visitor.open(link)
    visitor.press("add-to-cart")
    visitor.press("consent-change")
    visitor.press("consent-accept")  # the visitor is another now
    visitor.open("/cart")
    visitor.press("checkout")

    wait_until(lambda: len(received.events) == 6)
    assert [(event.event_name, len(event.query_ids)) for event in received.events] == [
        ("Product Viewed", 0),
        ("Added to Cart", 0),
        ("Product Clicked", 1),
        ("Product Viewed", 0),
        ("Added to Cart", 1),
        ("Purchased", 0),
    ]
    assert len(received.events[-1].event["objectIDs"]) == 2
    assert received.mismatches() == []


def test_a_cart_of_everything_fits_into_the_cookie(visitor: Visitor, received: LocalAlgolia) -> None:
    visitor.open("/")
    visitor.press("consent-accept")
    links = []
    for page in range(4):
        visitor.open("/", page=str(page))
        links += [link["href"] for link in visitor.page.find(class_="hit-link")]
    visitor.open(links[0])
    hidden = {field["name"]: field["value"] for _, fields in visitor.page.forms for field in fields if "name" in field}
    for link in links:
        assert visitor.http.get(link).status_code == 200
        form = {**hidden, "objectID": link.removeprefix("/product/").partition("?ref=")[0]}
        answer = visitor.http.post("/cart/add", data=form, follow_redirects=False)
        assert answer.status_code == 303
        assert max(map(len, answer.headers.get_list("set-cookie"))) < 4000
    visitor.open("/cart")
    visitor.press("checkout")

    assert len(links) == len(visitor.page.find(class_="cart-line")) == 40
    wait_until(lambda: len([event for event in received.events if event.event_name == "Purchased"]) == 2)
    found = [(len(event.event["objectIDs"]), bool(event.query_ids)) for event in received.events[-2:]]
    assert found == [(20, True), (20, True)]
    assert received.mismatches() == []


def test_hostile_input_of_a_visitor_is_shown_as_text(visitor: Visitor, received: LocalAlgolia) -> None:
    visitor.open("/")
    visitor.press("consent-accept")
    visitor.open("/", q=HOSTILE, brand=HOSTILE, page=HOSTILE)
    assert visitor.page.find(id="search-input")[0]["value"] == HOSTILE
    visitor.open("/instant", q=HOSTILE)
    visitor.open("/", brand="Sable & Rye", page="9" * 30)
    assert len(visitor.page.find(class_="hit")) == 4
    visitor.open("/product/p-01", ref=HOSTILE)
    visitor.press("add-to-cart")
    visitor.open("/product/%22%3E%3Chostile%3E", status=404)
    visitor.open("/login")
    visitor.press("login-submit", user=HOSTILE)
    assert visitor.who[1].startswith("user-")
    visitor.open("/cart")
    assert visitor.page.find(id="logout")[0]["title"] == f"Signed in as {HOSTILE[:40].strip()}"
    wait_until(lambda: len(received.events) == 2)  # or the next test of this shop would receive them


def test_the_header_of_an_app_is_believed_by_the_fastapi_shop_only(
    shop: tuple[str, int], received: LocalAlgolia
) -> None:
    """The app sends its token with each request, and an event of its own to Algolia, with the settings that it got."""
    name, port = shop
    app = Visitor(port, **{"X-Algolia-UserToken": "app-1234"})
    with app.http:
        settings = app.http.get("/identity.json")
        assert settings.headers["cache-control"] == "private, no-store"
        assert "set-cookie" not in settings.headers
        app.open("/", q="lamp")
        if name == "fastapi":
            assert settings.json() == {"useCookie": False, "userToken": "app-1234"}
            assert app.who == ("app-1234", "", "header")
            app.open("/login")
            app.press("login-submit", user="jane")
            assert app.who[0] == "app-1234"
            assert app.who[1].startswith("user-")
            settings = app.http.get("/identity.json").json()
            assert settings == {"useCookie": False, "userToken": "app-1234", "authenticatedUserToken": app.who[1]}
            app.open("/", q="lamp")
            click_as_told(settings, received)
            assert {search.user_token for search in received.searches} == {"app-1234"}
            (click,) = received.events
            assert (click.user_token, click.authenticated_user_token) == ("app-1234", app.who[1])
            assert list(received.identities()) == ["app-1234"]
            assert received.mismatches() == []
        else:
            assert settings.json() == {"useCookie": False}
            assert app.who == ("", "", "nobody")
            assert {search.user_token for search in received.searches} == {None}
        app.http.headers["X-Algolia-UserToken"] = "not a token"
        app.open("/")
        assert app.cookie is None


def click_as_told(settings: dict[str, str], algolia: LocalAlgolia) -> None:
    """Send the click of an app, without a server of ours, on the first hit of the latest search that may be clicked."""
    search = next(search for search in reversed(algolia.searches) if search.query_id)
    event = {
        "eventType": "click",
        "eventName": "Clicked in the App",
        "index": "products",
        "objectIDs": ["p-01"],
        "positions": [1],
        "queryID": search.query_id,
        "userToken": settings["userToken"],
        "authenticatedUserToken": settings["authenticatedUserToken"],
    }
    with InsightsClientSync.create_with_config(algolia.insights_config()) as insights:
        insights.push_events({"events": [event]})


def test_one_command_starts_each_shop_with_an_algolia_of_its_own(tmp_path: pathlib.Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "library.js").write_text("//")
    with ThreadPoolExecutor() as threads:
        list(threads.map(visit_with_its_own_algolia, SHOPS, [tmp_path] * len(SHOPS)))


def visit_with_its_own_algolia(name: str, tmp_path: pathlib.Path) -> None:
    port = free_port()
    command = [sys.executable, str(EXAMPLES / name / "app.py"), "--port", str(port)]
    env = {"PYTHONPATH": str(PROJECT), "SHOP_NPM": str(tmp_path / "node_modules")}
    with running(command, port, tmp_path / name, env):
        visitor = Visitor(port)
        with visitor.http:
            visitor.open("/")
            visitor.press("consent-accept")
            visitor.open("/product/p-01")
            wait_until(lambda: 'data-events="1"' in visitor.http.get("/received").text)
            visitor.open("/")
            (panel,) = visitor.page.find(id="received")
            assert (panel["data-searches"], panel["data-events"]) == ("4", "1")  # each page's hits, and its brands
            (inspector,) = visitor.page.find(id="inspector")
            assert httpx.get(inspector["href"], headers={"Accept": "text/html"}, trust_env=False).status_code == 200
            found = [visitor.http.get(f"/static/{path}").status_code for path in ("npm/library.js", "shop.css")]
            assert found == [200, 200]
            missing = [visitor.http.get(f"/static/{path}").status_code for path in (f"npm/%2e%2e/{name}", "no")]
            assert set(missing) <= {400, 404}
