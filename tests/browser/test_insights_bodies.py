"""What Algolia's own libraries post as events, LocalAlgolia takes: all of search-insights, and InstantSearch."""

from __future__ import annotations

import json
import pathlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
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


def refused(algolia: LocalAlgolia) -> list[Any]:
    return [(request.path, request.status, request.body) for request in algolia.requests if request.status != 200]


def test_every_method_of_search_insights(algolia: LocalAlgolia, npm: pathlib.Path) -> None:
    done = subprocess.run(
        [program("node"), "-e", SEND, "--", algolia.app_id, algolia.api_key, algolia.url],
        env={"NODE_PATH": str(npm)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert refused(algolia) == []
    events = posted(algolia)
    # It did what this test is for.
    assert {event["eventType"] for event in events} == {"click", "view", "conversion", "instantsearch"}
    assert "brand%3AAcme" in {value for event in events for value in event.get("filters", [])}
    inferred = [event for event in events if "objectIDsWithInferredQueryID" in event]
    assert {event.get("eventSubtype") for event in inferred} == {None, "addToCart", "purchase"}
    assert {event.get("authenticatedUserToken") for event in events} == {None, "login-1"}
    assert len(events) > 200


PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<script>window.AlgoliaAnalyticsObject = "aa"; window.aa = (...call) => (aa.queue = aa.queue || []).push(call);</script>
<script src="/search-insights/dist/search-insights.min.js"></script>
<script src="/algoliasearch/dist/lite/builds/browser.umd.js"></script>
<script src="/instantsearch.js/dist/instantsearch.production.min.js"></script>
<div id="brands"></div><div id="ratings"></div><div id="new"></div><div id="hits"></div>
<script>
const page = %s;
const { refinementList, ratingMenu, toggleRefinement, hits } = instantsearch.widgets;
const client = window["algoliasearch/lite"].liteClient(page.appId, page.apiKey, {
  hosts: [{url: page.host, accept: "readWrite", protocol: "http", port: page.port}],
});
aa("init", {appId: page.appId, apiKey: page.apiKey, host: page.url});
const search = instantsearch({indexName: "products", searchClient: client, insights: {
  insightsClient: aa, insightsInitParams: {userToken: "user-1", host: page.url},
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


@pytest.fixture
def page(algolia: LocalAlgolia, npm: pathlib.Path) -> Iterator[str]:
    settings = {
        "appId": algolia.app_id,
        "apiKey": algolia.api_key,
        "url": algolia.url,
        "host": algolia.host,
        "port": algolia.port,
    }

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_page = self.path == "/"
            content = (PAGE % json.dumps(settings)).encode() if is_page else (npm / self.path[1:]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if is_page else "text/javascript")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_instantsearch_with_facets_and_a_purchase_whose_query_is_inferred(
    browser: Browser, page: str, algolia: LocalAlgolia
) -> None:
    def wait_for(name: str, found: Callable[[Any], bool] = lambda _: True) -> Any:
        return browser.until(
            lambda: next((event for event in posted(algolia) if event["eventName"] == name and found(event)), None),
            name,
        )

    browser.open(page)
    wait_for("__start__")
    wait_for("Hits Viewed")
    browser.click("#brands input")
    wait_for("Filter Applied", lambda event: event["filters"][0].startswith("brand%3ABest%20%26%20Co"))
    browser.click("#ratings a")
    wait_for("Filter Applied", lambda event: event["filters"][0].startswith("rating%3E%3D"))
    browser.open(page)
    browser.click("#new input")
    wait_for("Filter Applied", lambda event: event["filters"] == ["new%3Atrue"])
    browser.until(lambda: len(browser.all("button.click")) == 4, "no hits")
    browser.click("button.click")
    wait_for("Product Clicked")
    browser.run("buy()")

    bought = wait_for("Bought")
    wished = wait_for("Wished")
    assert bought["objectIDsWithInferredQueryID"] == wished["objectIDsWithInferredQueryID"] == ["4"]
    assert set(bought["objectData"][0]) == {"price", "quantity", "queryID"}
    assert wait_for("Added to Cart")["objectData"][0]["queryID"] == wished["objectData"][0]["queryID"]
    assert refused(algolia) == []
    assert algolia.mismatches() == []
    assert browser.complaints() == []
