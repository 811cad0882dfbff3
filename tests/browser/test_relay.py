"""The relay in a real browser: what search-insights, InstantSearch and Autocomplete send there, as published on npm.

The browser reaches no host but the shop's and LocalAlgolia's, where it searches: those of Insights do not exist for it.
"""

from __future__ import annotations

import http.server
import pathlib
import threading
from collections.abc import Callable, Iterator

import pytest

from algolia_usertoken.testing import LocalAlgolia

from .conftest import Browser
from .test_shop import Visit, from_the_browser, running_shop

VICTIM = "anonymous-00000000-0000-4000-8000-000000000000"


@pytest.fixture(params=["fastapi", "flask", "django"])
def shop(request: pytest.FixtureRequest, algolia: LocalAlgolia, npm: pathlib.Path) -> Iterator[str]:
    """The address of a shop that has the relay."""
    with running_shop(request.param, algolia, npm, SHOP_SECRET="s", SHOP_RELAY="1") as (address, printed):
        yield address
    assert "local-api-key" not in "".join(line for line in printed if "algolia_usertoken" in line)


@pytest.fixture
def visit(browser: Browser, shop: str, algolia: LocalAlgolia) -> Visit:
    visit = Visit(browser, shop, algolia)
    visit.go("/")
    return visit


def test_all_events_of_the_page_arrive_under_the_token_of_the_cookie(visit: Visit) -> None:
    visit.browser.click("#consent-accept")
    visit.browser.until(lambda: visit.who("user-token"))
    token = visit.browser.cookie("_ALGOLIA")

    visit.do_all()
    visit.browser.run("aa('viewedFilters', {eventName: 'Last', index: 'products', filters: ['brand:Larkfoot']})")
    visit.browser.until(lambda: "Last" in [event.event_name for event in visit.algolia.events], "no last event")

    events = visit.algolia.events
    assert {event.user_token for event in events} == {token}
    # Autocomplete's, InstantSearch's, search-insights', and the server's own.
    assert {"Item Selected", "Hits Viewed", "Product Clicked", "Product Viewed", "Last"} <= {
        event.event_name for event in events
    }
    assert from_the_browser(visit.algolia, "/1/events") == []
    assert from_the_browser(visit.algolia, "/1/indexes") != []
    assert visit.algolia.mismatches() == []
    assert visit.browser.complaints() == []


def test_what_a_page_forges_arrives_under_the_visitors_own_token(visit: Visit) -> None:
    visit.browser.click("#consent-accept")
    visit.browser.until(lambda: visit.who("user-token"))
    token = visit.browser.cookie("_ALGOLIA")
    forge = """
        aa("setUserToken", arguments[0]);
        aa("setAuthenticatedUserToken", "victim");
        aa("viewedObjectIDs", {eventName: "Forged", index: "products", objectIDs: ["p-01"]});
        aa("viewedObjectIDs", {eventName: "Forged too", index: "products", objectIDs: ["p-01"], userToken: "victim",
                               authenticatedUserToken: "victim", timestamp: 1});
        const own = {eventType: "view", index: "products", objectIDs: ["p-01"]};
        const events = ["userToken", "usertoken", "u\\u017ferToken", "userTo\\u212aen", "authenticatedusertoken"].map(
            (name) => ({...own, eventName: "By hand", [name]: "victim"}));
        navigator.sendBeacon("/collect/1/events", JSON.stringify({events}));
    """
    # Not in a page that has changed the cookie, whose token then is the visitor's.
    visit.browser.run(f"aa('init', {{partial: true, useCookie: false}}); {forge}", VICTIM)
    names = ["Forged", "Forged too", *["By hand"] * 5]
    visit.browser.until(
        lambda: len([event for event in visit.algolia.events if event.event_name in names]) == len(names),
        "not all have arrived",
    )

    assert visit.browser.cookie("_ALGOLIA") == token
    assert {event.user_token for event in visit.algolia.events} == {token}
    assert {event.authenticated_user_token for event in visit.algolia.events} == {None}
    assert "victim" not in str([event.event for event in visit.algolia.events])


@pytest.fixture
def foreign() -> Iterator[str]:
    """The address of a site that is another one."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>Elsewhere</title>")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"  # the same host, and so the shop's cookies go along
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


SEND_FROM_ELSEWHERE = """
const [url, done] = arguments;
const event = {eventType: "view", eventName: "Foreign", index: "products", objectIDs: ["p-01"]};
const body = JSON.stringify({events: [event]});
navigator.sendBeacon(url, body);
const frame = document.createElement("iframe");
frame.sandbox = "allow-scripts";
frame.srcdoc = `<script>
  const options = {method: "POST", mode: "no-cors", credentials: "include", body: ${JSON.stringify(body)}};
  fetch(${JSON.stringify(url)}, options)
    .then(() => parent.postMessage("sent", "*"), (error) => parent.postMessage(String(error), "*"));
</` + `script>`;
addEventListener("message", ({data}) => done(data));
document.body.append(frame);
"""


def test_pages_of_another_site_and_sandboxed_ones_are_refused(
    visit: Visit, foreign: str, new_browser: Callable[[], Browser]
) -> None:
    visit.browser.click("#consent-accept")
    visit.browser.until(lambda: visit.who("user-token"))

    visit.browser.open(f"{foreign}/")
    sent = visit.browser.driver.execute_async_script(SEND_FROM_ELSEWHERE, f"{visit.shop}/collect/1/events")
    assert sent == "sent"
    visit.go("/cart")
    visit.browser.run("aa('viewedObjectIDs', {eventName: 'Own', index: 'products', objectIDs: ['p-01']})")

    visit.browser.until(lambda: "Own" in [event.event_name for event in visit.algolia.events], "no event of its own")
    assert "Foreign" not in [event.event_name for event in visit.algolia.events]


def test_a_page_of_a_visitor_who_refused_sends_nothing(visit: Visit) -> None:
    visit.browser.click("#consent-refuse")
    visit.browser.until(lambda: visit.who("opted-out") == "true")

    visit.go("/instant")
    event = """{"eventType": "view", "eventName": "Hidden", "index": "products", "objectIDs": ["p-01"],
                "userToken": "anonymous-1"}"""
    answer = visit.browser.driver.execute_async_script(
        "fetch('/collect/1/events', {method: 'POST', body: arguments[0]})"
        ".then(async (answer) => arguments[1]([answer.status, await answer.json()]))",
        f'{{"events": [{event}]}}',
    )
    visit.go("/cart")

    assert answer == [200, {"status": 200, "message": "OK"}]
    assert visit.algolia.events == []
