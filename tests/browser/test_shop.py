"""
The example shops in a real browser: what the server and the page tell Algolia is one visitor's.

The page searches by itself, with InstantSearch and Autocomplete, and reports clicks by itself, with search-insights,
all as they are published on npm.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from ports import free_port
from selenium.webdriver.common.keys import Keys
from waiting import PATIENCE

from algolia_usertoken import Identity
from algolia_usertoken.local_algolia.received import ReceivedEvent, ReceivedSearch
from algolia_usertoken.testing import LocalAlgolia

from .conftest import Browser

EXAMPLES = pathlib.Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture(params=["fastapi", "flask", "django"])
def shop(request: pytest.FixtureRequest, algolia: LocalAlgolia, npm: pathlib.Path) -> Iterator[str]:
    """A shop that runs; its address, which to the browser is another site than LocalAlgolia's."""
    with running_shop(request.param, algolia, npm) as (address, _):
        yield address


@contextlib.contextmanager
def running_shop(
    framework: str, algolia: LocalAlgolia, npm: pathlib.Path, **environment: str
) -> Iterator[tuple[str, list[str]]]:
    """The address of a shop, and what it has printed, once it has ended."""
    port, printed = free_port(), []
    own = {"ALGOLIA_URL": algolia.url, "SHOP_NPM": str(npm), "SHOP_SECRET": "for-tests-only"}
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)],
        cwd=EXAMPLES / framework,
        env={**os.environ, **own, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until_it_answers(process, f"http://127.0.0.1:{port}/cart")
        algolia.clear()
        yield f"http://localhost:{port}", printed
    finally:
        process.terminate()
        printed += process.communicate(timeout=PATIENCE)[0].splitlines()
    assert not any("Traceback" in line for line in printed), printed


def wait_until_it_answers(process: subprocess.Popen[str], url: str) -> None:
    for _ in range(int(PATIENCE * 10)):
        try:
            urllib.request.urlopen(url, timeout=10).close()
        except OSError:
            assert process.poll() is None, process.communicate()[0]
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    pytest.fail(f"nothing answers at {url}")


@dataclass
class Visit:
    """A visitor at the shop, and what Algolia was told since they came or since `told` was last asked."""

    browser: Browser
    shop: str
    algolia: LocalAlgolia
    seen: tuple[int, int] = field(default=(0, 0))

    def go(self, path: str) -> None:
        self.browser.open(f"{self.shop}{path}")

    def who(self, name: str) -> str:
        """What the server wrote into the page: "user-token", "authenticated-user-token", "opted-out"."""
        script = "return document.getElementById('who').getAttribute(arguments[0])"
        return str(self.browser.run(script, f"data-{name}"))

    def told(self) -> tuple[list[ReceivedSearch], list[ReceivedEvent]]:
        searches, events = self.algolia.searches, self.algolia.events
        found = searches[self.seen[0] :], events[self.seen[1] :]
        self.seen = len(searches), len(events)
        return found

    def wait_for_event(self, event_name: str, object_id: str) -> ReceivedEvent:
        def find() -> ReceivedEvent | None:
            new = self.algolia.events[self.seen[1] :]
            named = (event for event in new if event.event_name == event_name)
            return next((event for event in named if object_id in event.event["objectIDs"]), None)

        return self.browser.until(find, f"no event {event_name} of {object_id}")

    def wait_for_search(self, query: str) -> ReceivedSearch:
        def find() -> ReceivedSearch | None:
            new = self.algolia.searches[self.seen[0] :]
            return next((search for search in new if search.query == query), None)

        return self.browser.until(find, f"no search for {query}")

    # -- What a visitor does, each step as one does it -----------------------------------------------------------------

    def let_the_server_search(self, words: str) -> str:
        """The server searches and renders; a click, an add to the cart. The product's objectID."""
        self.go(f"/?q={words}")
        key = str(self.browser.one(".hit").get_attribute("data-object-id"))
        self.browser.click(".hit-link")
        self.browser.one("#product")
        self.browser.click("#add-to-cart")
        self.browser.one(".cart-line")
        return key

    def complete_in_the_browser(self, words: str) -> str:
        """Autocomplete searches, and a suggestion is chosen."""
        self.go("/cart")
        self.browser.one(".aa-Input").send_keys(words)
        self.wait_for_search(words)
        key = str(self.browser.one(".suggestion").get_attribute("data-object-id"))
        self.browser.click(".suggestion")
        self.browser.one("#product")
        return key

    def search_in_the_browser(self, words: str) -> str:
        """InstantSearch searches, and a hit is clicked."""
        self.go("/instant")
        field = self.browser.one("#instant-search-input")
        field.clear()
        field.send_keys(words)
        self.wait_for_search(words)
        found = f"return document.querySelector('#instant-hits .hit[data-query-id]') && {NAMES}"
        self.browser.until(lambda: all(words in name for name in self.browser.run(found) or ["?"]), "no hits")
        hit = self.browser.one("#instant-hits .hit")
        key = str(hit.get_attribute("data-object-id"))
        self.browser.click("#instant-hits .hit-link")
        self.browser.one("#product")
        return key

    def do_all(self) -> None:
        key = self.let_the_server_search("lamp")
        if self.who("user-token"):
            self.wait_for_event("Product Viewed", key)
            self.wait_for_event("Added to Cart", key)
        key = self.complete_in_the_browser("bag")
        if self.who("user-token"):
            self.wait_for_event("Item Selected", key)
        key = self.search_in_the_browser("knife")
        if self.who("user-token"):
            self.wait_for_event("Product Clicked", key)
            self.wait_for_event("Product Viewed", key)


NAMES = "[...document.querySelectorAll('#instant-hits .name')].map((node) => node.textContent.toLowerCase())"


@pytest.fixture
def visit(browser: Browser, shop: str, algolia: LocalAlgolia) -> Visit:
    visit = Visit(browser, shop, algolia)
    visit.go("/")
    return visit


def from_the_browser(algolia: LocalAlgolia, path: str) -> list[Any]:
    """What a page of the shop asked for, and not its server."""
    return [request for request in algolia.requests if path in request.path and "origin" in request.headers]


def test_one_visitor_on_both_sides_before_and_after_login_and_logout(visit: Visit) -> None:
    visit.browser.click("#consent-accept")
    visit.browser.until(lambda: visit.who("user-token"))
    token = visit.who("user-token")
    assert token.startswith("anonymous-")
    assert token == visit.browser.cookie("_ALGOLIA")
    visit.told()

    told = {}
    logins = {}
    for phase in ("before", "logged in", "after"):
        if phase == "logged in":
            visit.browser.click("#login")
            visit.browser.one("#login-name").clear()
            visit.browser.one("#login-name").send_keys("ada", Keys.ENTER)
            visit.browser.one("#logout")
        if phase == "after":
            visit.browser.click("#logout")
            visit.browser.one("#login")
        logins[phase] = visit.who("authenticated-user-token")
        visit.do_all()
        assert visit.who("user-token") == visit.browser.cookie("_ALGOLIA") == token
        told[phase] = visit.told()

    login = logins["logged in"]
    assert Identity(authenticated_user_token=login)  # which takes a valid one only
    assert "ada" not in login
    assert (logins["before"], logins["after"]) == ("", "")
    for phase, (searches, events) in told.items():
        by_token = {search.user_token for search in searches}
        assert by_token == {token}, phase
        assert {event.user_token for event in events} == {token}, phase
        assert {event.authenticated_user_token for event in events} == {logins[phase] or None}, phase
        for name in ("Product Clicked", "Added to Cart", "Item Selected"):
            tied = [event for event in events if event.event_name == name]
            assert any(event.query_ids for event in tied), (phase, name)
        # Both sides did.
        assert {"header", "parameter"} == {
            "header" if search.user_token_header else "parameter" for search in searches
        }, phase
    assert len(from_the_browser(visit.algolia, "/queries")) >= 6
    assert len(from_the_browser(visit.algolia, "/1/events")) >= 6
    assert visit.algolia.mismatches() == []
    assert [request for request in visit.algolia.requests if request.status != 200] == []
    assert visit.browser.complaints() == []


@pytest.mark.parametrize("choice", ["refused", "none"])
def test_without_consent_no_cookie_and_no_event(choice: str, visit: Visit) -> None:
    if choice == "refused":
        visit.browser.click("#consent-refuse")
        visit.browser.until(lambda: visit.who("opted-out") == "true")

    visit.do_all()
    visit.browser.click("#login")
    visit.browser.one("#login-name").send_keys(Keys.ENTER)
    visit.browser.one("#logout")
    if choice == "refused":
        visit.do_all()
    visit.go("/cart")  # whatever a page still had to say on leaving, it said

    searches, events = visit.told()
    assert {search.query for search in searches} >= {"lamp", "bag", "knife"}
    assert {search.user_token for search in searches if choice == "refused"} <= {None}
    assert events == [] if choice == "refused" else all(event.authenticated_user_token for event in events)
    assert visit.browser.cookie("_ALGOLIA") is None
    assert visit.browser.run("return Object.keys(localStorage).filter((key) => /algolia|insights/i.test(key))") == []
    assert from_the_browser(visit.algolia, "/1/events") == []
    assert visit.browser.complaints() == []


def test_a_visitor_who_takes_consent_back_sends_no_more_events(visit: Visit) -> None:
    visit.browser.click("#consent-accept")
    visit.browser.until(lambda: visit.who("user-token"))
    visit.do_all()
    visit.browser.click("#consent-change")
    visit.browser.click("#consent-refuse")
    visit.browser.until(lambda: visit.who("opted-out") == "true")
    visit.told()

    visit.do_all()
    visit.go("/cart")

    searches, events = visit.told()
    assert {search.user_token for search in searches} == {None}
    assert events == []
    assert visit.browser.cookie("_ALGOLIA") is None
    assert visit.algolia.mismatches() == []


def test_two_visitors_have_tokens_of_their_own(visit: Visit, new_browser: Callable[[], Browser]) -> None:
    other = Visit(new_browser(), visit.shop, visit.algolia)
    other.go("/")
    for each in (visit, other):
        each.browser.click("#consent-accept")
        each.browser.until(lambda each=each: each.who("user-token"))
    visit.told()
    other.told()
    visit.do_all()
    other.do_all()

    tokens = {each.who("user-token") for each in (visit, other)}
    assert len(tokens) == 2
    searches, events = other.told()
    assert {search.user_token for search in searches} == {event.user_token for event in events} == tokens
    assert visit.algolia.mismatches() == []
