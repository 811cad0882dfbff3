"""The inspector in a real browser: what it shows, and that it leaves the reader in peace while things arrive."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from pipelining import pipeline
from selenium.webdriver.common.keys import Keys

from algolia_usertoken.demo import catalogue
from algolia_usertoken.testing import LocalAlgolia

from .conftest import Browser

HOSTILE = "</script><img src=x onerror=document.title='run'>"


@pytest.fixture
def algolia() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", catalogue())
        yield algolia


@pytest.fixture
def page(browser: Browser, algolia: LocalAlgolia) -> Browser:
    browser.open(f"{algolia.url}/")
    browser.until(lambda: browser.text("#state") == "Live.")
    return browser


def ask(algolia: LocalAlgolia, path: str, body: Any, **headers: str) -> Any:
    request = urllib.request.Request(f"{algolia.url}{path}", json.dumps(body).encode(), method="POST")
    sent = {"X-Algolia-Application-Id": algolia.app_id, "X-Algolia-API-Key": algolia.api_key, **headers}
    for name, value in sent.items():
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def search(algolia: LocalAlgolia, query: str, token: str | None = None, **headers: str) -> str:
    body = {"query": query, "clickAnalytics": True, **({"userToken": token} if token else {})}
    return str(ask(algolia, "/1/indexes/products/query", body, **headers)["queryID"])


def click(algolia: LocalAlgolia, token: str, query_id: str, **fields: Any) -> None:
    event = {"eventType": "click", "eventName": "Clicked", "index": "products", "userToken": token}
    tied = {"queryID": query_id, "objectIDs": ["x"], "positions": [1]}
    ask(algolia, "/1/events", {"events": [{**event, **tied, **fields}]})


def number(page: Browser, name: str) -> int:
    return int(page.text(f"#{name}").replace(",", ""))


def users(page: Browser) -> list[str]:
    return [found.text for found in page.all("#list details:not([hidden]) .token > span:first-child")]


class TestWhatItShows:
    def test_nothing_at_first_and_how_to_lead_a_client_there(self, page: Browser, algolia: LocalAlgolia) -> None:
        assert page.one("#empty").is_displayed()
        assert f"127.0.0.1:{algolia.port}" in page.text("#how")

    def test_searches_and_events_as_they_arrive(self, page: Browser, algolia: LocalAlgolia) -> None:
        query_id = search(algolia, "knife", "visitor-1", **{"X-Forwarded-For": "203.0.113.7"})
        page.until(lambda: users(page) == ["visitor-1"])
        click(algolia, "visitor-1", query_id, authenticatedUserToken="user-4711")
        page.until(lambda: number(page, "events") == 1)

        page.click("summary")

        rows = [row.text for row in page.all("#list tbody tr")]
        assert len(rows) == 2
        assert "click “Clicked” in products" in rows[0]
        assert "user-4711" in rows[0]
        assert "“knife” in products" in rows[1]
        assert "203.0.113.7" in rows[1]
        assert "✓ fits" in page.one("summary").text
        assert not page.all("#empty")[0].is_displayed()
        assert page.complaints() == []

    def test_a_mismatch_is_marked_and_explained(self, page: Browser, algolia: LocalAlgolia) -> None:
        click(algolia, "visitor-2", search(algolia, "knife", "visitor-1"))
        search(algolia, "lamp")
        page.until(lambda: number(page, "mismatch_count") == 2)

        explained = page.one("#mismatches").text
        assert "the event 'Clicked' of user token 'visitor-2' names a search for 'knife'" in explained
        assert "a search without a user token: Algolia counts it as the address 127.0.0.1" in explained
        marked = [found.text.split("\n")[0] for found in page.all("details.bad .token")]
        assert len(marked) == 2
        page.click("#only")
        assert [name.split(" ")[0] for name in users(page)] == ["127.0.0.1", "visitor-2"]
        page.click("#only")
        assert len(users(page)) == 3

    def test_a_hint_is_shown_and_marks_nobody(self, page: Browser, algolia: LocalAlgolia) -> None:
        for number in range(3):
            search(algolia, "knife", "shared", **{"X-Forwarded-For": f"203.0.113.{number}"})
        page.until(lambda: page.all("#hints li"))

        page.click("summary")

        assert "the user token 'shared' was seen with 3 or more addresses" in page.one("#hints").text
        assert "different visitors, Algolia takes them for one" in page.one("details[open] p.note").text
        assert "✓ fits" in page.one("summary").text
        assert page.all("details.bad") == []
        assert page.all("#mismatches li") == []

    def test_hostile_text_is_text(self, page: Browser, algolia: LocalAlgolia) -> None:
        search(algolia, HOSTILE, HOSTILE, **{"X-Forwarded-For": HOSTILE, "X-Algolia-UserToken": f"other {HOSTILE}"})
        page.until(lambda: users(page) == [HOSTILE])
        page.click("summary")

        assert HOSTILE in page.one("#list tbody tr").text
        assert page.all("img") == []
        assert page.driver.title == "LocalAlgolia inspector"
        assert page.complaints() == []

    def test_is_what_the_filter_finds(self, page: Browser, algolia: LocalAlgolia) -> None:
        search(algolia, "knife", "visitor-1")
        search(algolia, "lamp", "visitor-2", **{"X-Forwarded-For": "203.0.113.7"})
        page.until(lambda: len(users(page)) == 2)

        found = {}
        for text in ("knife", "VISITOR-2", "203.0", "nobody"):
            page.one("#filter").clear()
            page.one("#filter").send_keys(text)
            found[text] = users(page)

        assert found == {"knife": ["visitor-1"], "VISITOR-2": ["visitor-2"], "203.0": ["visitor-2"], "nobody": []}
        assert page.one("#none-match").is_displayed()

    def test_says_that_the_server_has_ended_and_is_back(self, page: Browser, algolia: LocalAlgolia) -> None:
        algolia.stop()
        page.until(lambda: page.text("#state") == "The server does not answer any more.")

        algolia.start()

        page.until(lambda: page.text("#state") == "Live.")

    def test_loads_nothing_but_the_state(self, page: Browser) -> None:
        loaded = page.run(
            "return performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)"
        )

        assert set(loaded) == {"/inspector/state"}


class TestByKeyboardWhileThingsArrive:
    def test_what_is_open_focused_and_selected_stays(self, page: Browser, algolia: LocalAlgolia) -> None:
        search(algolia, "knife", "visitor-1")
        search(algolia, "lamp", "visitor-2")
        page.until(lambda: users(page) == ["visitor-2", "visitor-1"])
        active = page.driver.switch_to.active_element
        for _ in range(6):  # filter, three buttons, visitor-2, visitor-1
            active.send_keys(Keys.TAB)
            active = page.driver.switch_to.active_element
        active.send_keys(Keys.ENTER)
        page.until(lambda: page.all("details[open] tbody tr"))
        page.run(
            "const cell = document.querySelector('details[open] td[data-name=what]');"
            "getSelection().selectAllChildren(cell);"
            "window.test = { row: cell.parentNode, focused: document.activeElement }"
        )

        for count in range(10):
            search(algolia, "bag", f"new-{count}")
            search(algolia, "bag", "visitor-1")
            page.until(lambda count=count: number(page, "searches") == 2 * count + 4)

        assert page.run("return document.activeElement === window.test.focused")
        assert "visitor-1" in page.run("return document.activeElement.textContent")
        assert page.run("return window.test.row.isConnected")
        assert "“knife” in products" in page.run("return getSelection().toString()")
        assert len(page.all("details[open]")) == 1
        assert len(page.all("details[open] tbody tr")) == 11
        assert users(page) == [*(f"new-{count}" for count in range(9, -1, -1)), "visitor-2", "visitor-1"]

        page.driver.switch_to.active_element.send_keys(Keys.SPACE)  # closes, and stays closed
        search(algolia, "bag", "visitor-1")
        page.until(lambda: number(page, "searches") == 23)
        assert page.all("details[open]") == []

    def test_the_filter_keeps_what_is_being_typed(self, page: Browser, algolia: LocalAlgolia) -> None:
        page.click("#filter")
        for count, letter in enumerate("visit"):
            page.driver.switch_to.active_element.send_keys(letter)
            search(algolia, "bag", f"visitor-{count}")
            search(algolia, "bag", f"other-{count}")
            page.until(lambda count=count: number(page, "searches") == 2 * count + 2)

        assert page.one("#filter").get_attribute("value") == "visit"
        assert len(users(page)) == 5

    def test_pause_and_clear_work(self, page: Browser, algolia: LocalAlgolia) -> None:
        search(algolia, "knife", "visitor-1")
        page.until(lambda: users(page) == ["visitor-1"])
        page.one("#pause").send_keys(Keys.ENTER)
        assert page.one("#pause").get_attribute("aria-pressed") == "true"
        time.sleep(0.3)  # for an answer that is on its way

        search(algolia, "knife", "visitor-2")
        time.sleep(1.6)
        assert (users(page), page.text("#state")) == (["visitor-1"], "Paused.")

        page.one("#pause").send_keys(Keys.SPACE)
        page.until(lambda: users(page) == ["visitor-2", "visitor-1"])

        page.one("#clear").send_keys(Keys.ENTER)
        page.until(lambda: page.one("#empty"))
        assert users(page) == []
        search(algolia, "knife", "visitor-1")
        page.until(lambda: users(page) == ["visitor-1"])

    def test_a_mismatch_list_that_changes_keeps_a_selection(self, page: Browser, algolia: LocalAlgolia) -> None:
        search(algolia, "knife", **{"X-Forwarded-For": "203.0.113.1"})
        page.until(lambda: number(page, "mismatch_count") == 1)
        page.run("getSelection().selectAllChildren(document.querySelector('#mismatches li span'))")

        for count in range(4):
            search(algolia, "knife", **{"X-Forwarded-For": f"203.0.113.{2 + count}"})
            search(algolia, "knife", **{"X-Forwarded-For": "203.0.113.1"})
            page.until(lambda count=count: number(page, "mismatch_count") == 2 * count + 3)

        assert "counts it as the address 203.0.113.1, together" in page.run("return getSelection().toString()")
        assert "× 5" in page.all("#mismatches li")[-1].text


def test_the_inspector_stays_usable_while_20_000_requests_arrive(page: Browser, algolia: LocalAlgolia) -> None:
    search(algolia, "knife", "watched")
    page.click("summary")
    page.run(
        "const test = window.test = { focused: document.activeElement, longest: 0, since: performance.now() };"
        "let last = test.since;"
        "setInterval(() => {"
        "  const now = performance.now(); test.longest = Math.max(test.longest, now - last); last = now;"
        "}, 20)"
    )
    failures: list[BaseException] = []
    sent = [0, 0]
    seen: set[int] = set()

    def visit(visitor: int) -> None:
        try:
            with pipeline(algolia) as searches:
                for turn in range(2000):
                    if turn >= 200 and len(seen) > 5:  # on a busy machine they go on until the page was seen to move
                        break
                    searches.search_as(f"visitor-{visitor}-{turn % 200}-{count % 10}" for count in range(50))
                    sent[visitor] += 50
        except BaseException as error:
            failures.append(error)

    visitors = [threading.Thread(target=visit, args=(visitor,)) for visitor in range(2)]
    for thread in visitors:
        thread.start()
    while any(thread.is_alive() for thread in visitors):
        seen.add(number(page, "searches"))
        time.sleep(0.2)
    page.until(lambda: number(page, "searches") == 1 + sum(sent))

    assert failures == []
    assert sum(sent) >= 20_000
    assert len(seen) > 5  # it was live all along
    assert number(page, "user_count") == 4_001
    assert len(page.all("#list details")) <= 101
    assert page.run("return document.activeElement === window.test.focused")
    assert page.all("details[open] .token")[0].text == "watched"
    frozen, watched = page.run("return [window.test.longest, performance.now() - window.test.since]")  # ms
    assert frozen < watched / 2
    assert page.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_the_inspector_is_readable_at_each_width_and_in_each_scheme(
    width: int, scheme: str, page: Browser, algolia: LocalAlgolia
) -> None:
    anonymous = "anonymous-5f0c2f1a-3c1e-4ad1-9a55-0c5c5a7c5b1e"
    click(algolia, anonymous, search(algolia, "knife", anonymous, Cookie=f"_ALGOLIA={anonymous}"))
    click(algolia, "visitor-2", search(algolia, "W" * 300, "W" * 128), authenticatedUserToken="l" * 128)
    page.look_like(width, scheme=scheme)
    page.until(lambda: number(page, "events") == 2)
    for summary in page.all("summary"):
        summary.click()

    assert page.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert page.run("return innerWidth") == width
    assert page.run(CLIPPED) == []
    assert page.run(CONTRAST) == []


# Texts that are wider than what holds them.
CLIPPED = """
return [...document.querySelectorAll("main *, header *")]
  .filter((node) => node.offsetParent && node.childElementCount === 0 && node.textContent.trim())
  .filter((node) => node.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((node) => node.textContent)
"""

# Texts whose contrast with what is behind them is below 4.5:1, which WCAG 2.2 AA asks for.
CONTRAST = """
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * x + .7152 * y + .0722 * z;
};
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const color = parse(getComputedStyle(node).backgroundColor);
    if (color.length === 3 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll("body *")]
  .filter((node) => node.offsetParent)
  .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
  .map((node) => {
    const [one, other] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    return [node.textContent, (Math.max(one, other) + .05) / (Math.min(one, other) + .05)];
  })
  .filter(([, ratio]) => ratio < 4.5)
"""
