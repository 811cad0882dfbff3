from __future__ import annotations

import json
import re
import threading
import time
import urllib.request
from typing import Any, ClassVar

import pytest
from algoliasearch.search.client import SearchClientSync
from pipelining import pipeline
from waiting import PATIENCE

from algolia_usertoken.local_algolia import inspector as module
from algolia_usertoken.local_algolia.inspector import PAGE, Inspector
from algolia_usertoken.local_algolia.received import Received, ReceivedEvent, ReceivedRequest, ReceivedSearch
from algolia_usertoken.testing import LocalAlgolia

from .conftest import Ask

pytestmark = [pytest.mark.package_contents, pytest.mark.slow]

SEARCH = "/1/indexes/products/query"
ANONYMOUS = "anonymous-5f0c2f1a-3c1e-4ad1-9a55-0c5c5a7c5b1e"


def search(ask: Ask, query: str = "hat", /, token: str | None = None, index: str = "products", **headers: str) -> Any:
    """The queryID of a search by hand; a header's name has _ for -."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        sent["X-Algolia-UserToken"] = token
    return ask("POST", f"/1/indexes/{index}/query", {"query": query, "clickAnalytics": True}, sent).json.get("queryID")


def click(ask: Ask, token: str, query_id: str, headers: dict[str, str] | None = None, **fields: Any) -> None:
    event = {
        "eventType": "click",
        "eventName": "Clicked",
        "index": "products",
        "userToken": token,
        "queryID": query_id,
        "objectIDs": ["hat"],
        "positions": [1],
        **fields,
    }
    assert ask("POST", "/1/events", {"events": [event]}, headers).status == 200


def state(ask: Ask, told: Any = None) -> Any:
    query = f"?epoch={told['epoch']}&number={told['number']}" if told else ""
    answer = ask("GET", f"/inspector/state{query}")
    assert answer.status == 200
    return answer.json


def user_of(state: Any, name: str) -> Any:
    (found,) = (user for user in state["users"] if user["user"] == name)
    return found


def texts(state: Any) -> list[str]:
    return [mismatch["text"] for mismatch in state["mismatches"]]


class TestWhatItShows:
    def test_is_nothing_at_first(self, ask: Ask) -> None:
        shown = state(ask)

        assert (shown["users"], shown["mismatches"], shown["refusals"]) == ([], [], [])
        assert [shown[name] for name in ("searches", "events", "refused", "user_count", "mismatch_count")] == [0] * 5

    def test_a_user_with_header_parameter_cookie_address_and_login(self, ask: Ask) -> None:
        cookie = f"theme=dark; _ALGOLIA={ANONYMOUS}"
        sent = {"X-Algolia-UserToken": ANONYMOUS, "X-Forwarded-For": "203.0.113.7, 10.0.0.1", "Cookie": cookie}
        body = {"query": "hat", "clickAnalytics": True, "userToken": ANONYMOUS}
        query_id = ask("POST", SEARCH, body, sent).json["queryID"]
        click(ask, ANONYMOUS, query_id, {"X-Forwarded-For": "203.0.113.7"}, authenticatedUserToken="user-4711")

        shown = state(ask)

        user = user_of(shown, ANONYMOUS)
        assert (user["searches"], user["events"], user["wrong"], user["hint"]) == (1, 1, 0, None)
        assert user["logins"] == ["user-4711"]
        event, found = user["entries"]
        columns = ("kind", "what", "header", "parameter", "key", "cookie", "address", "login", "why")
        assert [found[name] for name in columns] == [
            "search",
            "“hat” in products",
            ANONYMOUS,
            ANONYMOUS,
            None,
            ANONYMOUS,
            "203.0.113.7",
            None,
            [],
        ]
        assert [event[name] for name in columns] == [
            "event",
            "click “Clicked” in products",
            None,
            ANONYMOUS,
            None,
            None,
            "203.0.113.7",
            "user-4711",
            [],
        ]
        assert (shown["mismatch_count"], shown["mismatches"]) == (0, [])

    def test_the_token_in_a_secured_key(self, algolia: LocalAlgolia, ask: Ask) -> None:
        with SearchClientSync("A", "b") as client:
            key = client.generate_secured_api_key(algolia.api_key, {"userToken": "from-key"})
        search(ask, "hat", x_algolia_api_key=key)

        assert user_of(state(ask), "from-key")["entries"][0]["key"] == "from-key"

    def test_what_is_no_plain_search_is_named(self, ask: Ask) -> None:
        ask("POST", "/1/indexes/products/browse", {}, {"X-Algolia-UserToken": "a"})

        assert user_of(state(ask), "a")["entries"][0]["what"] == "browse “” in products"

    def test_are_the_requests_that_were_refused(self, algolia: LocalAlgolia, ask: Ask) -> None:
        search(ask, token="a", index="missing")
        ask("POST", "/1/events", {"events": [{"userToken": "a b"}]})
        algolia.fail_next(503)
        search(ask)

        shown = state(ask)

        assert [refusal["text"] for refusal in shown["refusals"]] == [
            "POST /1/indexes/products/query → 503",
            "POST /1/events → 422",
            "POST /1/indexes/missing/query → 404",
        ]
        assert shown["refused"] == 3
        assert user_of(shown, "a")["entries"][0]["what"] == "“hat” in missing → 404"

    def test_a_search_whose_connection_was_dropped(self, algolia: LocalAlgolia, ask: Ask) -> None:
        algolia.drop_next(processed=True)
        with pytest.raises(OSError, match=r"closed|reset"):
            search(ask, token="a")

        assert state(ask)["refusals"][0]["text"].endswith("→ no answer, as a test asked")

    def test_the_one_who_was_last_active_comes_first(self, ask: Ask) -> None:
        for token in ("a", "b", "a"):
            search(ask, token=token)

        assert [user["user"] for user in state(ask)["users"]] == ["a", "b"]

    def test_a_token_that_looks_like_an_address_is_another_user_than_the_address(self, ask: Ask) -> None:
        search(ask)
        search(ask, token="127.0.0.1")

        users = state(ask)["users"]

        assert [(user["user"], user["has_token"]) for user in users] == [("127.0.0.1", True), ("127.0.0.1", False)]
        assert len({user["id"] for user in users}) == 2


class TestWhatDoesNotFit:
    def test_an_event_whose_search_had_another_token(self, ask: Ask) -> None:
        click(ask, "b", search(ask, token="a"))

        shown = state(ask)

        (text,) = texts(shown)
        assert text.startswith("the event 'Clicked' of user token 'b' names a search for 'hat' in products by user ")
        assert user_of(shown, "b")["entries"][0]["why"] == [text]
        assert (user_of(shown, "b")["wrong"], user_of(shown, "a")["wrong"], shown["mismatch_count"]) == (1, 0, 1)

    def test_a_search_without_a_token(self, ask: Ask) -> None:
        search(ask, X_Forwarded_For="203.0.113.7")
        search(ask, X_Forwarded_For="203.0.113.7")

        shown = state(ask)

        (mismatch,) = shown["mismatches"]
        assert mismatch["text"].startswith(
            "a search without a user token: Algolia counts it as the address 203.0.113.7, "
        )
        assert "Search inside identity_scope(…) or behind the middleware" in mismatch["text"]
        assert mismatch["times"] == 2
        assert user_of(shown, "203.0.113.7")["has_token"] is False

    def test_an_event_whose_search_had_no_token(self, ask: Ask) -> None:
        click(ask, "a", search(ask))

        assert "carried no user token" in user_of(state(ask), "a")["entries"][0]["why"][0]

    def test_a_search_that_names_two(self, ask: Ask) -> None:
        ask("POST", SEARCH, {"query": "hat", "userToken": "a"}, {"X-Algolia-UserToken": "b"})

        assert texts(state(ask))[0].startswith("a search for 'hat' in products names several users")

    def test_an_event_of_an_unknown_query_id(self, ask: Ask) -> None:
        click(ask, "a", "0" * 32)

        assert "which no search on this server was answered with" in texts(state(ask))[0]

    def test_inspector_finds_the_mismatches_that_tests_find(self, algolia: LocalAlgolia, ask: Ask) -> None:
        for number in range(60):
            click(ask, f"u{number % 7}", search(ask, token=f"u{number % 5}"))

        shown = state(ask)

        assert shown["mismatch_count"] == len(algolia.mismatches()) > 0


class TestHowItKeepsUp:
    def test_inspector_tells_a_page_only_what_changed(self, ask: Ask) -> None:
        search(ask, token="a")
        search(ask, token="b")
        first = state(ask)
        search(ask, token="a")

        second = state(ask, first)
        third = state(ask, second)

        assert [user["user"] for user in second["users"]] == ["a"]
        assert second["users"][0]["searches"] == 2
        assert third["users"] == []
        assert third["searches"] == 3

    def test_inspector_tells_two_pages_what_changed(self, ask: Ask) -> None:
        first = state(ask)
        search(ask, token="a")
        assert [user["user"] for user in state(ask, first)["users"]] == ["a"]

        assert [user["user"] for user in state(ask, first)["users"]] == ["a"]

    def test_entries_have_ids_that_last(self, ask: Ask) -> None:
        search(ask, token="a")
        (first,) = user_of(state(ask), "a")["entries"]
        search(ask, token="a")

        newer, again = user_of(state(ask), "a")["entries"]

        assert again == first
        assert newer["id"] > first["id"]

    @pytest.mark.parametrize(
        "query", ["number=x", "number=", "epoch=", "number=-1", "number=" + "9" * 5000, "%ff=%00", "number=²", "&&=&"]
    )
    def test_a_page_may_say_anything(self, query: str, ask: Ask) -> None:
        search(ask, token="a")

        answer = ask("GET", f"/inspector/state?{query.replace('²', '%C2%B2')}")

        assert answer.status == 200
        assert [user["user"] for user in answer.json["users"]] == ["a"]

    def test_a_clear_empties_all_that_it_shows(self, algolia: LocalAlgolia, ask: Ask) -> None:
        query_id = search(ask, token="a")
        search(ask)
        first = state(ask)

        assert ask("POST", "/inspector/clear").status == 200

        shown = state(ask, first)
        assert shown["epoch"] != first["epoch"]
        assert (shown["users"], shown["mismatches"], shown["searches"], shown["mismatch_count"]) == ([], [], 0, 0)
        assert algolia.searches == []
        click(ask, "a", query_id)  # of an answer since forgotten nothing can be said
        assert user_of(state(ask), "a")["wrong"] == 0

    def test_what_came_before_a_clear_and_was_not_yet_looked_at_is_forgotten_too(self, ask: Ask) -> None:
        search(ask, token="a")

        ask("POST", "/inspector/clear")

        assert state(ask)["users"] == []

    def test_a_clear_by_the_test_leaves_what_is_shown(self, algolia: LocalAlgolia, ask: Ask) -> None:
        search(ask, token="a")
        state(ask)
        algolia.clear()
        search(ask, token="b")

        assert [user["user"] for user in state(ask)["users"]] == ["b", "a"]

    def test_erased_events_do_not_unsettle_what_follows(self, ask: Ask) -> None:
        for token in ("a", "b", "a"):
            click(ask, token, search(ask, token=token))
        state(ask)
        click(ask, "c", search(ask, token="c"))
        assert ask("DELETE", "/1/usertokens/a").status == 200
        click(ask, "d", search(ask, token="d"))

        shown = state(ask)

        assert {user["user"]: user["events"] for user in shown["users"]} == {"b": 1, "c": 1, "d": 1}

    @pytest.mark.parametrize(("token", "other"), [("ada", "ada-2"), ("a%2Fb", "a"), ("anonymous-1", "anonymous-12")])
    def test_what_was_refused_to_an_erased_user_is_not_shown(self, ask: Ask, token: str, other: str) -> None:
        wrong = {"x-algolia-api-key": "wrong"}
        for each in (token, other):
            assert ask("DELETE", f"/1/usertokens/{each}", headers=wrong).status == 401
        assert len(state(ask)["refusals"]) == 2
        assert ask("DELETE", f"/1/usertokens/{token}").status == 200
        search(ask)  # so that there is something to look at

        assert [refusal["text"] for refusal in state(ask)["refusals"]] == [f"DELETE /1/usertokens/{other} → 401"]

    @pytest.mark.parametrize(
        "path", ["/1/usertoken/ada", "/1/user-tokens/ada/events", "/1/profiles/personalization/ada"]
    )
    def test_a_mistyped_path_with_an_erased_user_is_not_shown(self, path: str, ask: Ask) -> None:
        assert ask("GET", path).status == 404
        assert len(state(ask)["refusals"]) == 1

        ask("DELETE", "/1/usertokens/ada")

        assert state(ask)["refusals"] == []

    @pytest.mark.parametrize("token", ["1", "indexes", "missing", "query", "POST", "404", "usertokens"])
    def test_what_else_was_refused_is_shown_though_a_user_is_called_so(self, token: str, ask: Ask) -> None:
        search(ask, token="other", index="missing")
        ask("DELETE", "/1/usertokens/ben", headers={"x-algolia-api-key": "wrong"})

        assert ask("DELETE", f"/1/usertokens/{token}").status == 200

        assert [refusal["text"] for refusal in state(ask)["refusals"]] == [
            "DELETE /1/usertokens/ben → 401",
            "POST /1/indexes/missing/query → 404",
        ]

    @pytest.mark.parametrize("token", ["a", "the", "search", "user", "Algolia"])
    def test_what_does_not_fit_of_others_is_shown_though_a_user_is_called_so(self, token: str, ask: Ask) -> None:
        click(ask, "ben", search(ask, token="ada"))
        before = texts(state(ask))

        ask("DELETE", f"/1/usertokens/{token}")

        assert texts(state(ask)) == before
        assert user_of(state(ask), "ben")["entries"][0]["why"] == before

    def test_an_event_is_compared_though_a_look_takes_in_little(
        self, ask: Ask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_ARRIVALS_PER_LOOK", 3)
        wrong = [search(ask, token=f"t{number}") for number in range(10)]
        for query_id in wrong:
            click(ask, "other", query_id)
        looks = 0
        while state(ask)["behind"]:
            looks += 1

        shown = state(ask)

        assert looks >= 5
        assert shown["mismatch_count"] == 10

    def test_requests_of_the_inspector_are_not_shown(self, algolia: LocalAlgolia, ask: Ask) -> None:
        state(ask)
        ask("GET", "/", headers={"Accept": "text/html"})

        assert algolia.requests == []
        assert state(ask)["refused"] == 0

    def test_the_faults_that_a_test_asks_for_do_not_strike_its_own_requests(
        self, algolia: LocalAlgolia, ask: Ask
    ) -> None:
        algolia.fail_next(503)

        assert ask("GET", "/inspector/state").status == 200


def a_request(number: int) -> tuple[ReceivedRequest, ReceivedSearch, ReceivedEvent]:
    token = f"user-{number % 3000}"
    now = float(number)
    request = ReceivedRequest("POST", SEARCH, "", {}, b"", 200, "127.0.0.1", now)
    query_id = f"{number:032x}"
    found = ReceivedSearch(
        operation="search",
        index="products",
        query=f"query {number}",
        params={},
        user_token_header=token,
        user_token_parameter=None,
        user_token_in_key=None,
        forwarded_for=f"203.0.113.{number % 3000 % 250}",
        client_ip="127.0.0.1",
        cookie=None,
        user_token=token,
        user=token,
        query_id=query_id,
        status=200,
        method="POST",
        path=SEARCH,
        received_at=now,
    )
    event = ReceivedEvent({}, "products", "Clicked", "click", None, token, None, (query_id,), now)
    return request, found, event


class TestALotArrives:
    def test_each_look_of_the_inspector_is_cheap_and_small(self) -> None:
        received = Received(100_000, 10**9)
        for number in range(6_000):
            request, found, event = a_request(number)
            received.add(request, [found], [])
            received.add(request, [], [event])
        inspector = Inspector(received)
        told, taken, sizes = {"epoch": None, "number": 0}, [], []
        while True:
            before = told["number"]
            told = inspector.state(told["epoch"], told["number"])
            taken.append(told["number"] - before)
            sizes.append(len(json.dumps(told)))
            if not told["behind"]:
                break

        assert (told["searches"], told["events"], told["user_count"]) == (6_000, 6_000, 6_000)
        assert told["mismatch_count"] == 0
        assert max(taken) == module.MAX_ARRIVALS_PER_LOOK
        assert max(sizes) < 2_000_000
        assert len(inspector._users) == module.MAX_USERS

    def test_a_look_for_nothing_new_is_next_to_nothing(self) -> None:
        received = Received(100_000, 10**9)
        for number in range(5_000):
            request, found, _ = a_request(number)
            received.add(request, [found])
        inspector = Inspector(received)
        told = inspector.state()
        while told["behind"]:
            told = inspector.state(told["epoch"], told["number"])

        nothing = inspector.state(told["epoch"], told["number"])

        assert nothing["users"] == []
        assert len(json.dumps(nothing)) < 1000

    @pytest.mark.slow
    def test_inspector_answers_while_4_000_requests_arrive(self, algolia: LocalAlgolia, ask: Ask) -> None:
        failures: list[BaseException] = []

        def visit(visitor: int) -> None:
            try:
                with pipeline(algolia) as searches:
                    for _ in range(20):
                        searches.search_as(f"visitor-{visitor}-{number}" for number in range(50))
            except BaseException as error:
                failures.append(error)

        visitors = [threading.Thread(target=visit, args=(visitor,)) for visitor in range(4)]
        for thread in visitors:
            thread.start()
        told, shown, looks = None, {}, 0
        while True:
            over = not any(thread.is_alive() for thread in visitors)
            told = state(ask, told)
            looks += 1
            shown.update({user["user"]: user["searches"] for user in told["users"]})
            if over and not told["behind"]:
                break
            time.sleep(0.05)

        assert failures == []
        assert told["searches"] == 4_000
        assert told["user_count"] == 200
        assert sum(shown.values()) <= 4_000  # of the 200 a page is told of the 100 last active
        assert told["mismatch_count"] == 0
        assert looks > 1

    def test_texts_that_the_inspector_keeps_are_bounded(self, ask: Ask) -> None:
        long = "x" * 300_000
        names = [{"indexName": "i" * 5_000 + str(number), "query": long} for number in range(3)]
        ask("POST", "/1/indexes/*/queries", {"requests": [{**name, "userToken": long + "1"} for name in names]})
        body = {"query": long, "userToken": long + "2", "clickAnalytics": True}
        query_id = ask("POST", SEARCH, body, {"X-Algolia-UserToken": "y" * 7_000}).json["queryID"]
        click(ask, "a", query_id)

        shown = state(ask)

        assert len(json.dumps(shown)) < 20_000
        names = [user["user"] for user in shown["users"]]
        assert "a" in names
        assert all(re.fullmatch(r"x{60}… \(300001 characters, [0-9a-f]{8}\)", name) for name in names if name != "a")
        # Of two searches three tokens are too long, the last names two users, and the event is of neither.
        assert shown["mismatch_count"] == 5

    def test_a_search_by_a_token_that_is_cut_short_is_still_another_users(self, ask: Ask) -> None:
        query_id = ask("POST", SEARCH, {"userToken": "a" * 500, "clickAnalytics": True}).json["queryID"]

        click(ask, "a" * 128, query_id)

        differs = [text for text in texts(state(ask)) if "Algolia attributes the event to that one" in text]
        assert len(differs) == 1


class TestHostileText:
    HOSTILE = "</script><img src=x onerror=alert(1)>\u2028\ud800\0&quot;'\""

    def test_hostile_text_is_only_ever_data(self, ask: Ask) -> None:
        ask("POST", SEARCH, {"query": self.HOSTILE, "userToken": self.HOSTILE})

        answer = ask("GET", "/inspector/state")

        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.json["users"][0]["user"] == self.HOSTILE
        assert self.HOSTILE in answer.json["users"][0]["entries"][0]["what"]

    @pytest.mark.parametrize(
        "cookie", ["_ALGOLIA", "_ALGOLIA=", '_ALGOLIA="', "=_ALGOLIA;;=", "a[]=1; _ALGOLIA=x", "\xff_ALGOLIA=\xff"]
    )
    def test_any_cookie_leaves_the_search_counted(self, cookie: str, ask: Ask) -> None:
        search(ask, token="a", Cookie=cookie)

        assert state(ask)["searches"] == 1

    def test_other_sites_cannot_read_it(self, ask: Ask) -> None:
        answer = ask("GET", "/inspector/state", headers={"Origin": "https://example.com"})

        assert "Access-Control-Allow-Origin" not in answer.headers


class TestThePage:
    def test_a_browser_gets_it_and_a_client_does_not(self, ask: Ask) -> None:
        page = ask("GET", "/", headers={"Accept": "text/html,*/*;q=0.8"})

        assert page.status == 200
        assert page.body == PAGE.read_bytes()
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
        assert ask("GET", "/", headers={"Accept": "*/*"}).status == 404

    def test_curl_gets_a_sentence_in_place_of_the_page(self, algolia: LocalAlgolia) -> None:
        with urllib.request.urlopen(algolia.url, timeout=PATIENCE) as answer:
            text = answer.read().decode()

        assert "LocalAlgolia, a stand-in for Algolia with the application id LOCALALGOLIA" in text
        assert "/inspector/state" in text

    def test_page_of_the_inspector_is_one_file_that_loads_nothing(self) -> None:
        page = PAGE.read_text(encoding="utf-8")

        assert re.findall(r"""\b(?:src|href)=["']?([^"'\s>]+)""", page) == ["data:,"]
        assert re.findall(r"url\(|@import|https?://", page) == []

    def test_page_of_the_inspector_sets_no_html(self) -> None:
        page = PAGE.read_text(encoding="utf-8")

        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(", page) == []

    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/inspector/"), ("POST", "/inspector/state"), ("GET", "/inspector/clear")]
    )
    def test_no_other_path_of_the_inspector_is_served(self, method: str, path: str, ask: Ask) -> None:
        assert ask(method, path).status == 404


def test_query_ids_are_forgotten_beyond_a_number(
    monkeypatch: pytest.MonkeyPatch, algolia: LocalAlgolia, ask: Ask
) -> None:
    monkeypatch.setattr(module, "MAX_QUERY_IDS", 2)
    inspector = Inspector(algolia._received)

    for _ in range(5):
        search(ask, token="u-1")
    inspector.state(None, 0)

    assert len(inspector._answered) == 2


class TestWhatAnEventIsAbout:
    def test_a_row_shows_objects_positions_and_the_search(self, ask: Ask) -> None:
        query_id = search(ask, "blue hat", token="u-1")
        click(ask, "u-1", query_id, objectIDs=["hat", "shirt"], positions=[3, 4])

        event, found = user_of(state(ask), "u-1")["entries"]
        assert (event["object_ids"], event["positions"]) == (["hat", "shirt"], [3, 4])
        assert event["of_search"] == "“blue hat” in products"
        assert event["query_id"] == found["query_id"] == query_id
        assert (found["object_ids"], found["positions"], found["of_search"]) == ([], [], None)

    def test_an_event_of_no_known_search(self, ask: Ask) -> None:
        click(ask, "u-1", "0" * 32)

        (event,) = user_of(state(ask), "u-1")["entries"]
        assert (event["query_id"], event["of_search"]) == ("0" * 32, None)


class TestHints:
    def test_hints_are_shown_and_are_no_mismatches(self, ask: Ask) -> None:
        search(ask)
        search(ask)
        purchase = {"eventType": "conversion", "eventSubtype": "purchase", "eventName": "Bought", "index": "products"}
        ask("POST", "/1/events", {"events": [{**purchase, "userToken": "u-1", "objectIDs": ["hat"]}]})

        shown = state(ask)
        bought, searched = shown["hints"]
        assert "take part in A/B tests" in searched["text"]
        assert (searched["times"], searched["user"]) == (2, "127.0.0.1")
        assert "purchases 'Bought' in products name no search" in bought["text"]
        assert shown["hint_count"] == 3
        assert user_of(shown, "u-1")["wrong"] == 0

    @pytest.mark.parametrize(
        ("came", "seen_with"),
        [
            ([{"X_Forwarded_For": f"203.0.113.{number}"} for number in range(3)], "3 or more addresses"),
            ([{"X_Forwarded_For": f"203.0.113.{number}"} for number in range(40)], "3 or more addresses"),
            ([{"Cookie": f"_ALGOLIA=anonymous-{number}"} for number in range(3)], "3 or more cookies of visitors"),
        ],
    )
    def test_one_token_of_many_visitors_is_a_hint(
        self, came: list[dict[str, str]], seen_with: str, algolia: LocalAlgolia, ask: Ask
    ) -> None:
        for visitor in came:
            search(ask, token="shared", **visitor)

        shown = state(ask)

        (hint,) = shown["hints"]
        assert hint["text"].startswith(f"the user token 'shared' was seen with {seen_with}. ")
        assert (hint["user"], hint["times"], shown["hint_count"]) == ("shared", 1, 1)
        user = user_of(shown, "shared")
        assert (user["hint"], user["wrong"], user["entries"][0]["why"]) == (hint["text"], 0, [])
        assert (shown["mismatch_count"], shown["mismatches"], algolia.mismatches()) == (0, [], [])
        assert [hint.kind for hint in algolia.hints()] == ["token_from_many_addresses"]

    @pytest.mark.parametrize(
        "came",
        [
            [{"X_Forwarded_For": f"203.0.113.{number}", "Cookie": f"_ALGOLIA={ANONYMOUS}"} for number in range(9)],
            [{"X_Forwarded_For": "203.0.113.7", "Cookie": f"_ALGOLIA={ANONYMOUS}"}, {}],
            [{"X_Forwarded_For": "203.0.113.7"}, {"X_Forwarded_For": "203.0.113.8"}],
            [{"Cookie": "_ALGOLIA=anonymous-1"}, {"Cookie": "_ALGOLIA=anonymous-2"}],
            [{"X_Forwarded_For": f"203.0.113.7, 10.0.0.{number}"} for number in range(4)],
        ],
        ids=["one who moves", "the page and its server", "two addresses", "two devices", "proxies on the way"],
    )
    def test_no_hint_is_given_where_it_may_well_be_one_visitor(
        self, came: list[dict[str, str]], algolia: LocalAlgolia, ask: Ask
    ) -> None:
        for visitor in came:
            search(ask, token=ANONYMOUS, **visitor)

        shown = state(ask)

        assert (shown["hints"], shown["mismatches"], algolia.hints()) == ([], [], [])

    def test_addresses_and_cookies_without_a_token_are_no_shared_token(self, ask: Ask) -> None:
        for number in range(4):
            search(ask, X_Forwarded_For="203.0.113.7", Cookie=f"_ALGOLIA=anonymous-{number}")

        assert state(ask)["hints"] == []


class TestWhoSentAnEvent:
    EVENT: ClassVar = {
        "eventType": "view",
        "eventName": "Seen",
        "index": "products",
        "objectIDs": ["1"],
        "userToken": "u-1",
    }

    def test_is_the_library_whose_name_came_along(self, ask: Ask) -> None:
        page = "x-algolia-agent=insights-js%20(2.17.3)%3B%20insights-js-browser%20(2.17.3)"
        python = {"User-Agent": "Algolia for Python (4.48.0); Insights (4.48.0); Python (3.11.2)"}
        ask("POST", f"/1/events?X-Algolia-API-Key=k&{page}", {"events": [self.EVENT]}, {"User-Agent": "Mozilla/5.0"})
        ask("POST", "/1/events", {"events": [self.EVENT]}, python)
        ask("POST", "/1/events", {"events": [self.EVENT]}, {"User-Agent": "x" * 5_000})

        found = [entry["sender"] for entry in user_of(state(ask), "u-1")["entries"]]
        assert sorted(found) == ["Algolia for Python (4.48.0)", "insights-js (2.17.3)", f"{'x' * 59}…"]


class TestAnErasedUser:
    def test_nothing_of_it_is_shown_any_more(self, ask: Ask, algolia: LocalAlgolia) -> None:
        first = search(ask, token="gone-1")
        click(ask, "gone-1", first, authenticatedUserToken="account-1")
        click(ask, "other", first)  # whose mismatch names the other
        search(ask, token="other", Cookie="_ALGOLIA=gone-1")
        search(ask, token="gone-12")
        before = state(ask)
        assert "gone-1" in json.dumps(before)

        assert ask("DELETE", "/1/usertokens/gone-1").status == 200
        after = state(ask, before)

        assert '"gone-1"' not in json.dumps(after)
        assert "'gone-1'" not in json.dumps(after)
        assert after["epoch"] != before["epoch"]
        assert {user["user"] for user in after["users"]} == {"other", "gone-12"}
        assert (after["searches"], after["events"], after["user_count"]) == (2, 1, 2)
        assert after["mismatches"] == []

    def test_nothing_of_it_is_shown_that_nobody_has_looked_at_yet(self, ask: Ask) -> None:
        search(ask, token="gone")
        ask("DELETE", "/1/usertokens/gone")

        assert state(ask)["users"] == []

    def test_an_erased_user_may_come_again(self, ask: Ask) -> None:
        search(ask, token="u-1")
        ask("DELETE", "/1/usertokens/u-1")
        search(ask, token="u-1")
        assert user_of(state(ask), "u-1")["searches"] == 1
        search(ask, token="u-1")

        assert user_of(state(ask), "u-1")["searches"] == 2

    def test_a_page_that_is_cleared_stays_so(self, ask: Ask) -> None:
        search(ask, token="u-1")
        ask("DELETE", "/1/usertokens/u-1")
        ask("POST", "/inspector/clear")
        search(ask, token="u-1")

        assert user_of(state(ask), "u-1")["searches"] == 1


def test_a_number_of_one_is_not_plural() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert re.findall(r'<span data-one="([^"]+)">', page) == ["user", "search", "event", "refused request", "mismatch"]
