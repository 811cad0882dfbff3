"""What Algolia's own libraries for JavaScript post as events, all of ours take: LocalAlgolia, `send` and `push_events`.

What the Python client posts is in tests/test_insights.py.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys
from taking import taken_events
from waiting import PATIENCE

from algolia_usertoken.testing import LocalAlgolia

from .conftest import Browser, program

# search-insights in Node drops the port of its host, so it gets another way to send; and Node 20 has no localStorage,
# where it keeps which search an object is from.
SEND = """
const kept = new Map();
Object.defineProperty(globalThis, "localStorage", {value: {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, String(value)),
  removeItem: (key) => kept.delete(key),
}});
const { createInsightsClient } = require("search-insights");
const [appId, apiKey, host] = process.argv.slice(-3);
const aa = createInsightsClient(async (url, data) => {
  const answer = await fetch(url, {method: "POST", body: JSON.stringify(data)});
  if (answer.status !== 200) console.log(JSON.stringify(data), await answer.text());
  return answer.status === 200;
});
const queryID = "0123456789abcdef".repeat(2), other = "f".repeat(32);
const it = {eventName: "It happened", index: "products"};
const objectData = [{price: 10.5, quantity: 1}, {price: "3", discount: "0.5", quantity: 2}];
const money = {objectData, value: "16.50", currency: "EUR"};
const ids = {objectIDs: ["1", "2"]};
const filters = {filters: ["brand:Acme", "brand:Best & Co", "discount:10%", "note:50%25 off", "größe:ü:x"]};
const infer = {inferQueryID: true};
(async () => {
  aa("init", {appId, apiKey, host});
  aa("setUserToken", "user-1");
  for (const login of [undefined, "login-1"]) {
    aa("setAuthenticatedUserToken", login);
    for (const extra of [[], [infer], [{headers: {"X-Algolia-Application-Id": appId, "X-Algolia-API-Key": apiKey}}]]) {
      for (const known of [false, true]) {  // whether objects are known to be from a search
        kept.clear();
        if (known) {
          await aa("clickedObjectIDsAfterSearch", {...it, objectIDs: ["1"], positions: [1], queryID}, ...extra);
          await aa("addedToCartObjectIDsAfterSearch", {...it, objectIDs: ["3"], queryID: other}, ...extra);
        }
        await aa("clickedObjectIDs", {...it, ...ids}, ...extra);
        await aa("clickedFilters", {...it, ...filters}, ...extra);
        await aa("viewedObjectIDs", {...it, ...ids}, {...it, ...ids, timestamp: Date.now()}, ...extra);
        await aa("viewedFilters", {...it, ...filters}, ...extra);
        await aa("convertedFilters", {...it, ...filters}, ...extra);
        await aa("convertedObjectIDs", {...it, ...ids}, ...extra);
        await aa("convertedObjectIDs", {...it, ...ids, ...money}, ...extra);
        await aa("convertedObjectIDsAfterSearch", {...it, ...ids, queryID}, ...extra);
        await aa("convertedObjectIDsAfterSearch", {...it, ...ids}, ...extra);
        await aa("addedToCartObjectIDs", {...it, ...ids, ...money}, ...extra);
        await aa("addedToCartObjectIDs", {...it, ...ids, objectData: [{queryID}, {}]}, ...extra);
        await aa("addedToCartObjectIDsAfterSearch", {...it, ...ids, ...money, queryID}, ...extra);
        await aa("purchasedObjectIDsAfterSearch", {...it, ...ids, ...money, queryID}, ...extra);
        await aa("purchasedObjectIDsAfterSearch",
          {...it, ...ids, objectData: [{queryID, price: 1}, {price: 2}]}, ...extra);
        kept.set("AlgoliaObjectQueryCache", JSON.stringify(known ? {products_1: [queryID, Date.now()]} : {}));
        await aa("purchasedObjectIDs", {...it, ...ids}, ...extra);
        await aa("purchasedObjectIDs", {...it, ...ids, ...money}, ...extra);
        await aa("sendEvents", [
          {...it, ...ids, eventType: "view", algoliaSource: ["instantsearch"], queryID},
          {eventName: "__start__", eventType: "instantsearch", sessionID: "s", widgets: []},
        ], ...extra);
      }
    }
  }
})();
"""


@pytest.fixture
def algolia() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        records = [{"objectID": str(n), "name": f"lamp {n}", "brand": f"Best & Co {n % 2}: 10%"} for n in range(8)]
        algolia.save_objects(
            "products", [{**record, "rating": n % 6, "new": n > 3} for n, record in enumerate(records)]
        )
        yield algolia


def posted(algolia: LocalAlgolia) -> list[Any]:
    """The events of all bodies, whatever they were answered."""
    bodies = [request.body for request in algolia.requests if request.path == "/1/events" and request.method == "POST"]
    return [event for body in bodies for event in json.loads(body)["events"]]


def run_in_node(program_text: str, algolia: LocalAlgolia, npm: pathlib.Path) -> None:
    done = subprocess.run(
        [program("node"), "-e", program_text, "--", algolia.app_id, algolia.api_key, algolia.url],
        env={"NODE_PATH": str(npm)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_method_of_search_insights(algolia: LocalAlgolia, npm: pathlib.Path) -> None:
    run_in_node(SEND, algolia, npm)

    events = taken_events(algolia)
    # It did what this test is for.
    assert {event["eventType"] for event in events} == {"click", "view", "conversion", "instantsearch"}
    assert "brand%3AAcme" in {value for event in events for value in event.get("filters", [])}
    inferred = [event for event in events if "objectIDsWithInferredQueryID" in event]
    assert {event.get("eventSubtype") for event in inferred} == {None, "addToCart", "purchase"}
    assert {event.get("authenticatedUserToken") for event in events} == {None, "login-1"}
    assert len(events) > 200


# The client takes what it is given, but for what is undefined.
PUSH = """
const { algoliasearch } = require("algoliasearch");
const [appId, apiKey, url] = process.argv.slice(-3);
const { hostname, port } = new URL(url);
const hosts = [{url: hostname, port: Number(port), protocol: "http", accept: "readWrite"}];
const queryID = "0123456789abcdef".repeat(2), other = "f".repeat(32), message = "message_alg_msg_1";
const it = (eventType, more) => ({
  eventName: "It happened", eventType, index: "products", userToken: "user-1", authenticatedUserToken: undefined,
  objectIDs: more.filters ? undefined : ["1", "2"], ...more,
});
const paid = {objectData: [{price: 10.5, quantity: 1}, {price: "3", discount: "0.5", quantity: 2}], currency: "EUR"};
const mixed = {objectData: [{queryID, price: 1}, {price: 2, quantity: undefined}]};
const filters = ["brand:Acme", "discount:10%25", "brand%3AAcme"];
const events = [
  it("click", {positions: [1, 12], queryID}),
  it("click", {positions: [1, 2], queryID: message, agentId: "agent-1", toolCallId: "call-1"}),
  it("click", {}),
  it("click", {filters}),
  it("view", {authenticatedUserToken: "login-1"}),
  it("view", {filters, timestamp: Date.now()}),
  it("conversion", {}),
  it("conversion", {queryID}),
  it("conversion", {filters}),
  it("conversion", {eventSubtype: "addToCart", ...paid}),
  it("conversion", {eventSubtype: "addToCart", ...paid, queryID: other}),
  it("conversion", {eventSubtype: "purchase", ...paid, value: 16.5}),
  it("conversion", {eventSubtype: "purchase", ...mixed, value: "3.00"}),
  {eventName: "__start__", eventType: "instantsearch", userToken: "user-1", agentID: "agent-1", sessionID: "s"},
];
(async () => {
  const client = algoliasearch(appId, apiKey).initInsights({options: {hosts}});
  for (const event of events) await client.pushEvents({events: [event]});
  await client.pushEvents({events, batch: {id: 7}});
})();
"""


def test_push_events_of_the_javascript_client(algolia: LocalAlgolia, npm: pathlib.Path) -> None:
    run_in_node(PUSH, algolia, npm)

    events = taken_events(algolia)
    assert len(events) == 28
    assert events[:14] == events[14:]


PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<script>window.AlgoliaAnalyticsObject = "aa"; window.aa = (...call) => (aa.queue = aa.queue || []).push(call);</script>
<script src="/search-insights/dist/search-insights.min.js"></script>
<script src="/algoliasearch/dist/lite/builds/browser.umd.js"></script>
<script>
const page = %s;
const client = window["algoliasearch/lite"].liteClient(page.appId, page.apiKey, {
  hosts: [{url: page.host, accept: "readWrite", protocol: "http", port: page.port}],
});
const insightsInitParams = {userToken: "user-1", host: page.url};
aa("init", {appId: page.appId, apiKey: page.apiKey, host: page.url});
</script>
"""
INSTANTSEARCH = """
<script src="/instantsearch.js/dist/instantsearch.production.min.js"></script>
<div id="brands"></div><div id="ratings"></div><div id="new"></div><div id="hits"></div>
<script>
const { refinementList, ratingMenu, toggleRefinement, hits } = instantsearch.widgets;
const search = instantsearch({indexName: "products", searchClient: client, insights: {
  insightsClient: aa, insightsInitParams,
}});
search.addWidgets([
  refinementList({container: "#brands", attribute: "brand"}),
  ratingMenu({container: "#ratings", attribute: "rating"}),
  toggleRefinement({container: "#new", attribute: "new"}),
  hits({container: "#hits", templates: {item: (hit, {html, sendEvent}) => html`<button class="click"
    onClick=${() => sendEvent("click", hit, "Product Clicked")}>${hit.name}</button>`}}),
]);
search.start();
const buy = () => {
  const hit = {index: "products", objectIDs: ["4"], currency: "EUR"};
  const goods = {objectData: [{price: 10.5, quantity: 1}], value: 10.5};
  const infer = {inferQueryID: true};
  aa("addedToCartObjectIDs", {...hit, ...goods, eventName: "Added to Cart"}, infer);
  aa("convertedObjectIDs", {index: "products", objectIDs: ["4", "5"], eventName: "Wished"}, infer);
  aa("purchasedObjectIDs", {...hit, ...goods, eventName: "Bought"}, infer);
};
</script>"""
# The agent is asked at a host of Algolia's; its answer is the site's.
CHAT = """
<script>
const fetched = window.fetch;
window.fetch = (url, options) =>
  fetched(String(url).includes("/agent-studio/1/agents/agent-1/completions?") ? "/agent" : url, options);
</script>
<script src="/instantsearch.js/dist/instantsearch.production.min.js"></script>
<div id="chat"></div><div id="hits"></div>
<script>
const { chat, hits } = instantsearch.widgets;
const search = instantsearch({indexName: "products", searchClient: client, insights: {
  insightsClient: aa, insightsInitParams,
}});
search.addWidgets([
  hits({container: "#hits"}),
  chat({container: "#chat", agentId: "agent-1", initialUserMessage: "A lamp?", templates: {
    layout: instantsearch.templates.chatInlineLayout(),
    item: (hit, {html}) => html`<button class="lamp">${hit.name}</button>`,
  }}),
]);
search.start();
</script>"""
# What an agent of Algolia's Agent Studio answers, in the stream format of the AI SDK.
ANSWER: list[dict[str, Any]] = [
    {"type": "start", "messageId": "alg_msg_1"},
    {"type": "start-step"},
    {"type": "tool-input-start", "toolCallId": "call_1", "toolName": "algolia_search_index"},
    {
        "type": "tool-input-available",
        "toolCallId": "call_1",
        "toolName": "algolia_search_index",
        "input": {"query": "lamp", "number_of_results": 2},
    },
    {
        "type": "tool-output-available",
        "toolCallId": "call_1",
        "output": {
            "hits": [{"objectID": "1", "name": "lamp 1"}, {"objectID": "2", "name": "lamp 2"}],
            "nbHits": 2,
            "queryID": "0123456789abcdef" * 2,
        },
    },
    {"type": "finish-step"},
    {"type": "start-step"},
    {"type": "text-start", "id": "text-1"},
    {"type": "text-delta", "id": "text-1", "delta": "These two."},
    {"type": "text-end", "id": "text-1"},
    {"type": "finish-step"},
    {"type": "finish"},
]
AUTOCOMPLETE = """
<script src="/@algolia/autocomplete-js/dist/umd/index.production.js"></script>
<script src="/@algolia/autocomplete-plugin-algolia-insights/dist/umd/index.production.js"></script>
<div id="field"></div>
<script>
const { autocomplete, getAlgoliaResults } = window["@algolia/autocomplete-js"];
const { createAlgoliaInsightsPlugin } = window["@algolia/autocomplete-plugin-algolia-insights"];
const by = (item) => ({index: "products", items: [item], queryID: item.__autocomplete_queryID});
const plugin = () => createAlgoliaInsightsPlugin({
  insightsClient: aa,
  insightsInitParams,
  onSelect: ({insights, insightsEvents, item}) => {
    insights.clickedObjectIDsAfterSearch(...insightsEvents);
    insights.clickedObjectIDs({eventName: "Clicked", index: "products", items: [item]});
    insights.convertedObjectIDsAfterSearch({eventName: "Wished after Search", ...by(item)});
    insights.convertedObjectIDs({eventName: "Wished", index: "products", items: [item]});
    insights.viewedObjectIDs({eventName: "Seen", index: "products", objectIDs: ["7"]});
    for (const method of ["clickedFilters", "viewedFilters", "convertedFilters"]) {
      insights[method]({eventName: method, index: "products", filters: [`brand:${item.brand}`]});
    }
  },
  onActive: ({insights, insightsEvents}) => insights.clickedObjectIDsAfterSearch(...insightsEvents),
});
autocomplete({
  container: "#field",
  detachedMediaQuery: "none",
  openOnFocus: true,
  ...(location.search === "?plugin" ? {plugins: [plugin()]} : {insights: {insightsClient: aa, insightsInitParams}}),
  getSources: () => [{
    sourceId: "products",
    getItems: ({query}) => getAlgoliaResults({searchClient: client, queries: [
      {indexName: "products", params: {query, hitsPerPage: 5}},
    ]}),
    templates: {item: ({item, html}) => html`<span class="item">${item.name}</span>`},
  }],
});
</script>"""


@pytest.fixture
def page(algolia: LocalAlgolia, npm: pathlib.Path) -> Iterator[str]:
    """The address of a site with a page for each library."""
    settings = {
        "appId": algolia.app_id,
        "apiKey": algolia.api_key,
        "url": algolia.url,
        "host": algolia.host,
        "port": algolia.port,
    }
    pages = {"/instantsearch": INSTANTSEARCH, "/chat": CHAT, "/autocomplete": AUTOCOMPLETE}
    answer = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in ANSWER) + "data: [DONE]\n\n"

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in pages:
                self._send((PAGE % json.dumps(settings) + pages[path]).encode(), "text/html")
            else:
                self._send((npm / path[1:]).read_bytes(), "text/javascript")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send(answer.encode(), "text/event-stream")

        def _send(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Posted:
    """The events that a page posts, to wait for."""

    def __init__(self, browser: Browser, algolia: LocalAlgolia) -> None:
        self.browser, self.algolia = browser, algolia

    def one(self, name: str, found: Callable[[Any], bool] = lambda _: True) -> Any:
        return self.browser.until(
            lambda: next(
                (event for event in posted(self.algolia) if event["eventName"] == name and found(event)), None
            ),
            f"no event {name} like that",
        )

    def are_taken(self) -> None:
        assert taken_events(self.algolia) != []
        assert self.algolia.mismatches() == []
        assert self.browser.complaints() == []


@pytest.fixture
def events(browser: Browser, algolia: LocalAlgolia) -> Posted:
    return Posted(browser, algolia)


def test_instantsearch_with_facets_and_a_purchase_whose_query_is_inferred(
    browser: Browser, page: str, events: Posted
) -> None:
    browser.open(f"{page}/instantsearch")
    assert "widgets" in events.one("__start__")
    events.one("Hits Viewed")
    browser.click("#brands input")
    events.one("Filter Applied", lambda event: event["filters"][0].startswith("brand%3ABest%20%26%20Co"))
    browser.click("#ratings a")
    events.one("Filter Applied", lambda event: event["filters"][0].startswith("rating%3E%3D"))
    browser.open(f"{page}/instantsearch")
    browser.click("#new input")
    events.one("Filter Applied", lambda event: event["filters"] == ["new%3Atrue"])
    browser.until(lambda: len(browser.all("button.click")) == 4, "no hits")
    browser.click("button.click")
    events.one("Product Clicked")
    browser.run("buy()")

    bought = events.one("Bought")
    wished = events.one("Wished")
    assert bought["objectIDsWithInferredQueryID"] == wished["objectIDsWithInferredQueryID"] == ["4"]
    assert set(bought["objectData"][0]) == {"price", "quantity", "queryID"}
    assert events.one("Added to Cart")["objectData"][0]["queryID"] == wished["objectData"][0]["queryID"]
    events.are_taken()


def test_events_of_the_chat_of_instantsearch_are_taken(browser: Browser, page: str, events: Posted) -> None:
    browser.open(f"{page}/chat")
    start = events.one("__start__")
    shown = events.one("items_shown")
    browser.click("button.lamp")
    clicked = events.one("Item Clicked")

    assert "ais.chat" in json.dumps(start["widgets"])
    for event in (shown, clicked):
        assert (event["queryID"], event["agentId"]) == ("message_alg_msg_1", "agent-1")
        assert event["toolCallId"] == "call_1"
    assert (clicked["eventType"], clicked["positions"]) == ("click", [1])
    events.are_taken()


def _select_the_second_item(browser: Browser, page: str, search: str) -> None:
    browser.open(f"{page}/autocomplete{search}")
    browser.one("#field input").send_keys("lamp")
    browser.until(lambda: len(browser.all(".item")) == 5, "no items")
    browser.one("#field input").send_keys(Keys.DOWN, Keys.DOWN)
    browser.until(lambda: browser.all('li[aria-selected="true"] .item'), "nothing is active")


def test_events_of_autocomplete_with_insights_are_taken(browser: Browser, page: str, events: Posted) -> None:
    _select_the_second_item(browser, page, "")
    viewed = events.one("Items Viewed")
    browser.one("#field input").send_keys(Keys.ENTER)

    selected = events.one("Item Selected")
    assert viewed["algoliaSource"] == ["autocomplete", "autocomplete-internal"]
    assert selected["algoliaSource"] == viewed["algoliaSource"]
    assert selected["positions"] == [2]
    events.are_taken()


def test_autocomplete_with_its_insights_plugin(browser: Browser, page: str, events: Posted) -> None:
    _select_the_second_item(browser, page, "?plugin")
    events.one("Items Viewed")
    events.one("Item Active", lambda event: event["positions"] == [2])
    browser.one("#field input").send_keys(Keys.ENTER)

    selected = events.one("Item Selected")
    assert events.one("Wished after Search")["queryID"] == selected["queryID"]
    for name in ("Clicked", "Wished", "Seen", "clickedFilters", "viewedFilters", "convertedFilters"):
        events.one(name)
    events.are_taken()
