"""`algolia-usertoken audit`: known mixtures of real requests to a LocalAlgolia, and each way not to be answered."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from algoliasearch.search.client import SearchClientSync
from answering import answering
from waiting import PATIENCE, stay_within_one_day

from algolia_usertoken import Identity, TokenAwareClientSync, anonymous_user_token
from algolia_usertoken.audit import STEPS, THRESHOLDS, Day, Figures, Position, Traffic, judge
from algolia_usertoken.cli import main
from algolia_usertoken.testing import AlgoliaRouter, LocalAlgolia

pytestmark = pytest.mark.slow

DAY = 24 * 60 * 60
FORBIDDEN = {"message": "Method not allowed with this API key", "status": 403}
DOCS = pathlib.Path(__file__).parent.parent / "docs" / "audit.md"
Audit = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_within_one_day()
    for name in ("ALGOLIA_APP_ID", "ALGOLIA_API_KEY", "ALGOLIA_INDEX_NAME", "ALGOLIA_REGION", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("algolia_usertoken.check._CONNECT_MS", int(PATIENCE * 1000))
    monkeypatch.setattr("algolia_usertoken.check._ANSWER_MS", int(PATIENCE * 1000))
    monkeypatch.setattr("algolia_usertoken.traffic._ALL_SECONDS", PATIENCE)


@pytest.fixture
def audit(algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]) -> Audit:
    """Runs the command against `algolia` and returns its exit code and its JSON, findings by step."""

    def audit(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = main(["audit", "--json", "--host", algolia.url, *arguments])
        report = json.loads(capsys.readouterr().out)
        wrong = [finding for finding in report["findings"] if finding["state"] == "wrong"]
        assert report["faults"] == len(wrong)
        assert all(finding["remedy"] for finding in wrong)
        assert code == (1 if wrong else 0)
        return code, {finding["step"]: finding for finding in report["findings"]}

    return audit


class Shop:
    """Searches and events of visitors, sent by the library to `algolia`: four searches each, the first a click."""

    def __init__(self, algolia: LocalAlgolia, clock: SimpleNamespace) -> None:
        self.algolia = algolia
        self.clock = clock
        self.client = TokenAwareClientSync.create_with_config(
            algolia.search_config(), insights_config=algolia.insights_config(), events={"strict": True}
        )

    def search(
        self,
        token: str | None,
        *,
        searches: int = 4,
        query: str = "shoe",
        tracked: bool = True,
        address: str | None = None,
    ) -> list[Any]:
        """One visitor's searches; returns the queryID of each."""
        one = {"indexName": "products", "query": query, "clickAnalytics": tracked}
        answer = self.client.with_identity(Identity(token, client_ip=address)).search({"requests": [one] * searches})
        return [result.actual_instance.query_id for result in answer.results]

    def click(self, token: str, query_id: str, position: int) -> None:
        self.client.events.clicked_object_ids_after_search(
            "Opened", "products", ["1"], [position], query_id, identity=token, timestamp=self._now()
        )

    def cart(self, token: str, query_id: str) -> None:
        self.client.events.added_to_cart_object_ids_after_search(
            "Added", "products", ["1"], query_id, identity=token, timestamp=self._now()
        )

    def purchase(self, token: str, query_id: str | None) -> None:
        event = {
            "eventType": "conversion",
            "eventSubtype": "purchase",
            "eventName": "Bought",
            "index": "products",
            "objectIDs": ["1"],
            "objectData": [{"price": 9, "quantity": 1, **({"queryID": query_id} if query_id else {})}],
            "currency": "EUR",
        }
        self.client.events.send(event, identity=token, timestamp=self._now())

    def good_day(self, visitors: int = 60, *, clicks: bool = True, carts: bool = True, purchases: bool = True) -> None:
        """All click after their first search, one in three puts it into the cart, and one in six buys it."""
        for number in range(visitors):
            token = anonymous_user_token()
            query_id, *_ = self.search(token)
            if clicks:
                self.click(token, query_id, 1 + number % 3)
            if carts and number % 3 == 0:
                self.cart(token, query_id)
            if purchases and number % 6 == 0:
                self.purchase(token, query_id)

    def _now(self) -> int:
        return int(self.clock.time() * 1000)

    def sent(self) -> None:
        assert self.client.events.flush(PATIENCE)
        assert self.client.events.stats.rejected == 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time at which `algolia` receives: now, less `ago` seconds."""
    clock = SimpleNamespace(ago=0.0)
    clock.time = lambda: time.time() - clock.ago
    monkeypatch.setattr("algolia_usertoken.local_algolia.server.time", clock)
    return clock


@pytest.fixture
def shop(algolia: LocalAlgolia, clock: SimpleNamespace) -> Iterator[Shop]:
    shop = Shop(algolia, clock)
    yield shop
    shop.client.close()


# -- Known mixtures ---------------------------------------------------------------------------------------------------


def healthy(shop: Shop) -> None:
    shop.good_day()


def without_tokens(shop: Shop) -> None:
    """Three servers search for everybody, and the events have tokens."""
    for number in range(60):
        query_id, *_ = shop.search(None, address=f"192.0.2.{number % 3}")
        shop.click(anonymous_user_token(), query_id, 1 + number % 3)
        shop.cart(anonymous_user_token(), query_id)
        shop.purchase(anonymous_user_token(), query_id)


def one_token_for_all(shop: Shop) -> None:
    for number in range(60):
        query_id, *_ = shop.search("backend")
        shop.click("backend", query_id, 1 + number % 3)
        shop.purchase("backend", query_id)


def a_few_servers_among_many_addresses(shop: Shop) -> None:
    """More than three of them, each with more searches than any visitor makes."""
    for number in range(5):
        for query_id in shop.search(None, address=f"192.0.2.{number}", searches=40)[:12]:
            shop.click(anonymous_user_token(), query_id, 1 + number % 3)
            shop.purchase(anonymous_user_token(), query_id)


def a_new_token_for_each_request(shop: Shop) -> None:
    for number in range(120):
        token = anonymous_user_token()
        (query_id,) = shop.search(token, searches=1)
        if number % 2:
            shop.click(token, query_id, 1 + number % 3)
            shop.purchase(token, query_id)


def nothing_found(shop: Shop) -> None:
    shop.good_day(30)
    for _ in range(60):
        shop.search(anonymous_user_token(), query="sofa")


def without_click_analytics(shop: Shop) -> None:
    for _ in range(60):
        shop.search(anonymous_user_token(), tracked=False)


def tracked_in_one_place_only(shop: Shop) -> None:
    shop.good_day(30)
    for _ in range(60):
        shop.search(anonymous_user_token(), tracked=False)


def without_events(shop: Shop) -> None:
    shop.good_day(clicks=False, carts=False, purchases=False)


def events_without_query_ids(shop: Shop) -> None:
    for _ in range(60):
        token = anonymous_user_token()
        shop.search(token)
        shop.client.events.clicked_object_ids("Opened", "products", ["1"], identity=token)
        shop.purchase(token, None)


def events_with_made_up_query_ids(shop: Shop) -> None:
    for number in range(60):
        token = anonymous_user_token()
        shop.search(token)
        shop.click(token, f"{number:032x}", 1)


def conversions_without_clicks(shop: Shop) -> None:
    shop.good_day(clicks=False)


def hardly_any_click(shop: Shop) -> None:
    shop.good_day(60, clicks=False, purchases=False)
    token = anonymous_user_token()
    shop.click(token, shop.search(token)[0], 2)


def one_query_id_for_all(shop: Shop) -> None:
    """As of a page with hits that a cache keeps."""
    token = anonymous_user_token()
    kept, *_ = shop.search(token)
    for number in range(130):
        shop.click(token, kept, 1 + number % 3)
    shop.good_day(30)


def positions_guessed(shop: Shop) -> None:
    for _ in range(60):
        token = anonymous_user_token()
        query_id, *_ = shop.search(token)
        shop.click(token, query_id, 1)
        shop.purchase(token, query_id)


def purchases_without_query_ids(shop: Shop) -> None:
    shop.good_day(carts=False, purchases=False)
    for _ in range(30):
        shop.purchase(anonymous_user_token(), None)


def carts_without_purchases(shop: Shop) -> None:
    shop.good_day(90, purchases=False)


def a_day_without_searches(shop: Shop) -> None:
    for ago in (3, 1):
        shop.clock.ago = ago * DAY
        shop.good_day(30)
        shop.sent()
    shop.clock.ago = 0.0


def a_day_without_clicks(shop: Shop) -> None:
    for ago in (4, 3, 2, 1):
        shop.clock.ago = ago * DAY
        shop.good_day(30, clicks=ago != 2)
        shop.sent()
    shop.clock.ago = 0.0


def without_tokens_and_click_analytics(shop: Shop) -> None:
    for _ in range(60):
        shop.search(None, tracked=False)


def few_searches(shop: Shop) -> None:
    """All of it wrong, and too few of it."""
    for _ in range(24):
        shop.search(None, query="sofa", tracked=False)


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        (healthy, {}),
        (without_tokens, {"users": r"240 searches came from 3 users, 80 per user and day: either most carry no token"}),
        (one_token_for_all, {"users": r"240 searches came from 1 user, .* all carry the same token"}),
        (a_few_servers_among_many_addresses, {"users": r"200 searches came from 5 users, 40 per user and day"}),
        (a_new_token_for_each_request, {"users": r"120 searches came from 120 users: .* the cookie is not kept"}),
        (nothing_found, {"results": r"240 of 360 searches \(66\.7%\) found nothing"}),
        (without_click_analytics, {"tracking": "No search was tracked: clickAnalytics is missing"}),
        (tracked_in_one_place_only, {"tracking": r"120 of 360 searches \(33\.3%\) were tracked"}),
        (without_events, {"clicks": "No event was counted for 240 tracked searches"}),
        (events_without_query_ids, {"clicks": "No event was counted for 240 tracked searches"}),
        (events_with_made_up_query_ids, {"clicks": "No event was counted for .* or a wrong one"}),
        (conversions_without_clicks, {"clicks": "30 conversions but no clicks were counted"}),
        (hardly_any_click, {"clicks": r"1 click for 244 tracked searches; 0\.4% of these .* hardly any"}),
        (one_query_id_for_all, {"query ids": "160 clicks for only 124 tracked searches: .* are invented"}),
        (positions_guessed, {"positions": "All 60 clicks are at the position 1: so positions are invented"}),
        (purchases_without_query_ids, {"conversion": "60 clicks but no conversions: purchases carry no queryID"}),
        (carts_without_purchases, {"conversion": "30 times something was put into a cart, but nothing was bought"}),
        (a_day_without_searches, {"days": r"^No searches on \d{4}-\d\d-\d\d, and 120 on a usual day\.$"}),
        (a_day_without_clicks, {"days": r"^No clicks on \d{4}-\d\d-\d\d, and 30 on a usual day\.$"}),
        (
            without_tokens_and_click_analytics,
            {"users": "240 searches came from 1 user", "tracking": "No search was tracked"},
        ),
        (few_searches, {}),
    ],
)
def test_each_mixture_has_its_findings_and_no_other(
    mixture: Callable[[Shop], None], expected: dict[str, str], shop: Shop, audit: Audit
) -> None:
    mixture(shop)
    shop.sent()

    code, findings = audit()

    wrong = {step: finding["said"] for step, finding in findings.items() if finding["state"] == "wrong"}
    assert list(wrong) == list(expected), wrong
    for step, said in expected.items():
        assert re.search(said, wrong[step]), wrong[step]
    assert code == (1 if expected else 0)


def test_a_healthy_mixture_has_a_finding_for_each_step(shop: Shop, audit: Audit) -> None:
    healthy(shop)
    shop.sent()

    _, findings = audit()

    assert tuple(findings) == STEPS
    assert {step: finding["state"] for step, finding in findings.items() if finding["state"] != "ok"} == {
        "days": "skipped"  # all of it is today's
    }


def test_few_searches_are_too_few_to_tell(shop: Shop, audit: Audit) -> None:
    few_searches(shop)

    code, findings = audit()

    assert code == 0
    assert [(one["step"], one["state"]) for one in findings.values()] == [("searches", "unknown")]
    assert "96 searches on these days: too few to judge" in findings["searches"]["said"]


def test_searches_that_analytics_leave_out_are_none(shop: Shop, audit: Audit) -> None:
    shop.client.search({"requests": [{"indexName": "products", "query": "", "analytics": False}] * 120})

    code, findings = audit()

    assert code == 0
    assert "No search was counted" in findings["searches"]["said"]
    assert "analytics: false" in findings["searches"]["remedy"]


def test_audit_reports_the_figures_of_each_day(
    shop: Shop, algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.clock.ago = DAY
    shop.good_day(12)
    shop.sent()
    shop.clock.ago = 0.0
    shop.search("anonymous-1", query="sofa", tracked=False)

    assert main(["audit", "--json", "--days", "2", "--host", algolia.url]) == 0

    report = json.loads(capsys.readouterr().out)
    today = {
        "searches": 4,
        "users": 1,
        "without_results": 4,
        "tracked": 0,
        "click_rate": None,
        "conversion_rate": None,
        "clicks": 0,
        "conversions": 0,
        "added_to_cart": 0,
        "purchases": 0,
    }
    yesterday = {
        "searches": 48,
        "users": 12,
        "without_results": 0,
        "tracked": 48,
        "click_rate": 0.25,
        "conversion_rate": pytest.approx(4 / 48),
        "clicks": 12,
        "conversions": 6,
        "added_to_cart": 4,
        "purchases": 2,
    }
    dates = [time.strftime("%Y-%m-%d", time.gmtime(time.time() - ago)) for ago in (DAY, 0)]
    assert report["days"] == [
        {"date": dates[0], "is_over": True, **yesterday},
        {"date": dates[1], "is_over": False, **today},
    ]
    assert report["total"] == {**yesterday, "searches": 52, "users": 13, "without_results": 4}
    assert (report["app_id"], report["index"]) == ("LOCALALGOLIA", "products")
    assert {"first": 2, "last": 2, "clicks": 4} in report["positions"]


# -- What the figures say, where no mixture of a stand-in has them ----------------------------------------------------

FINE = Figures(10_000, 3_000, 500, 9_000, 0.3, 0.05, 3_200, 480, 300, 120)
FEW = {"clicks": 40, "conversions": 4, "added_to_cart": 3, "purchases": 1}


def traffic(total: Figures, days: list[Day] | None = None, positions: list[Position] | None = None) -> Traffic:
    """Of one day that is not over, and with clicks at different positions, where nothing else is said."""
    return Traffic(
        total, days or [Day("2026-11-01", False, total)], positions or [Position(at, at, 100) for at in range(1, 5)]
    )


def wrong_in(given: Traffic) -> dict[str, str]:
    return {finding.step: finding.said for finding in judge(given) if finding.state == "wrong"}


def test_audit_finds_nothing_wrong_in_fine_figures() -> None:
    assert wrong_in(traffic(FINE, days=[Day(f"2026-11-{at + 1:02}", at < 6, FINE) for at in range(7)])) == {}


def test_the_example_of_three_users() -> None:
    days = [Day(f"2026-11-{at + 1:02}", at < 6, replace(FINE, searches=1_762, users=3)) for at in range(7)]

    found = wrong_in(traffic(replace(FINE, searches=12_340, users=3), days=days))

    assert found == {
        "users": "12,334 searches came from 3 users, 587 per user and day: either most carry no token, so that "
        "they count for the server's address, or all carry the same token."
    }


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"searches": 100, "users": 4, "without_results": 49, "tracked": 100, **FEW}, []),
        ({"searches": 100, "users": 3, "without_results": 50, "tracked": 100, **FEW}, ["users", "results"]),
        ({"searches": 99, "users": 1, "without_results": 99, "tracked": 0}, []),
        ({"searches": 3_149, "tracked": 3_149, **FEW}, ["users"]),  # 1.0497 each
        ({"searches": 3_150, "tracked": 3_150, **FEW}, []),
        ({"users": 334}, []),
        ({"users": 333}, ["users"]),
        ({"tracked": 5_000}, []),
        ({"tracked": 4_999}, ["tracking"]),
        ({"click_rate": 0.01}, []),
        ({"click_rate": 0.0099}, ["clicks"]),
        ({"clicks": 9_000}, []),
        ({"clicks": 9_001}, ["query ids"]),
        ({"click_rate": 1.01}, ["query ids"]),
        ({"conversions": 9_001}, ["query ids"]),
        ({"conversions": 0, "clicks": 50}, ["conversion"]),
        ({"conversions": 0, "clicks": 49}, []),
        ({"purchases": 0}, ["conversion"]),
        ({"purchases": 0, "added_to_cart": 29}, []),
    ],
)
def test_audit_finds_what_is_beyond_a_threshold_and_nothing_before_it(
    changes: dict[str, Any], steps: list[str]
) -> None:
    assert list(wrong_in(traffic(replace(FINE, **changes)))) == steps


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ([Position(1, 1, 29)], None),
        ([Position(1, 1, 30)], "All 30 clicks are at the position 1"),
        ([Position(1, 1, 30), Position(2, 2, 1)], None),
        ([Position(1, 1, 0), Position(21, -1, 40)], "All 40 clicks are at positions from 21 on"),
    ],
)
def test_audit_finds_clicks_that_are_all_at_one_position(positions: list[Position], said: str | None) -> None:
    found = wrong_in(traffic(FINE, positions=positions))

    assert list(found) == (["positions"] if said else [])
    assert said is None or said in found["positions"]


def test_too_few_tracked_searches_to_tell() -> None:
    total = replace(FINE, searches=150, users=40, without_results=5, tracked=90, clicks=0, conversions=0)

    found = {finding.step: finding for finding in judge(traffic(total))}

    assert wrong_in(traffic(total)) == {}
    assert (found["clicks"].state, found["clicks"].said) == ("unknown", "90 tracked searches: too few to judge.")
    assert found["conversion"].said == "Not judged, because of the clicks."


def test_users_that_algolia_has_not_counted_yet() -> None:
    found = {finding.step: finding for finding in judge(traffic(replace(FINE, users=0)))}

    assert found["users"].state == "unknown"
    assert "takes a day" in found["users"].said


def test_searches_of_today_whose_users_are_not_counted_yet_do_not_count() -> None:
    days = [Day("2026-11-01", True, replace(FINE, searches=2_900, users=2_000)), Day("2026-11-02", False, FINE)]
    days[1] = replace(days[1], figures=replace(FINE, users=0, searches=90_000))

    found = wrong_in(traffic(replace(FINE, searches=92_900, users=2_000, tracked=90_000), days=days))

    assert "users" not in found


def days_of(field: str, *numbers: int, today: int = 0) -> list[Day]:
    """Days of which one figure is given; today is the last."""
    numbers = (*numbers, today)
    last = len(numbers) - 1
    return [Day(f"2026-11-{at + 1:02}", at < last, replace(FINE, **{field: each})) for at, each in enumerate(numbers)]


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (days_of("searches", 500, 0, 700, 600), "No searches on 2026-11-02, and 600 on a usual day."),
        (days_of("searches", 0, 0, 700, 600), None),  # it had not begun
        (days_of("searches", 700, 0, 0, 0, 600), "No searches on 2026-11-02 and 2 more, and 650 on a usual day."),
        (days_of("searches", 700, 600, 0), "No searches on 2026-11-03, and 650 on a usual day."),
        (days_of("searches", 700, 600, today=0), None),  # it is early
        (days_of("searches", 19, 0, 19), None),
        (days_of("conversions", 20, 20, 0), "No conversions on 2026-11-03, and 20 on a usual day."),
        (days_of("tracked", 500, 0, 500), "No tracked searches on 2026-11-02, and 500 on a usual day."),
    ],
)
def test_days_on_which_something_stopped(days: list[Day], said: str | None) -> None:
    assert wrong_in(traffic(FINE, days=days)).get("days") == said


def test_a_day_without_searches_is_told_once() -> None:
    days = [Day(f"2026-11-{at + 1:02}", True, Figures() if at == 2 else FINE) for at in range(5)]

    assert wrong_in(traffic(FINE, days=days)) == {"days": "No searches on 2026-11-03, and 10,000 on a usual day."}


def test_the_page_lists_the_thresholds_as_they_are() -> None:
    rows = dict(re.findall(r"^\| ([a-z ]+) \| ([\d.,]+ ?%?) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))

    def number(text: str) -> float:
        return float(text.rstrip("% ").replace(",", "")) / (100 if text.endswith("%") else 1)

    assert {name: number(text) for name, text in rows.items()} == {
        name: threshold.value for name, threshold in THRESHOLDS.items()
    }
    assert all(threshold.reason.endswith(".") for threshold in THRESHOLDS.values())


# -- It could not be asked --------------------------------------------------------------------------------------------


@pytest.fixture
def refused(algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command, which cannot be answered, and returns what it says."""

    def refused(*arguments: str, host: str | None = None) -> str:
        assert main(["audit", "--host", host or algolia.url, *arguments]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert re.fullmatch(r"algolia-usertoken: .*[.:]\n", output.err) or "https" in output.err
        return output.err

    return refused


@pytest.mark.parametrize("option", ["--api-key", "--app-id"])
def test_audit_names_a_key_that_algolia_refuses(option: str, refused: Callable[..., str]) -> None:
    said = refused(option, "wrong-one-0000")

    assert "is not accepted: 403, Invalid Application-ID or API key. Copy the id and the key again" in said
    assert option == "--app-id" or "wrong-one-0000" not in said


def test_a_key_without_the_acl(algolia: LocalAlgolia, refused: Callable[..., str]) -> None:
    with SearchClientSync.create_with_config(algolia.search_config()) as client:
        key = client.add_api_key({"acl": ["search"]}).key

    said = refused("--api-key", key)

    assert "may not read analytics: 403, Method not allowed with this API key" in said
    assert "ACL `analytics`" in said
    assert key not in said


def test_a_key_that_may_read_analytics_and_not_search_is_enough(
    algolia: LocalAlgolia, shop: Shop, audit: Audit
) -> None:
    with SearchClientSync.create_with_config(algolia.search_config()) as client:
        key = client.add_api_key({"acl": ["analytics"]}).key

    code, findings = audit("--api-key", key, "--index", "nope")

    assert code == 0
    assert "No search was counted" in findings["searches"]["said"]  # it cannot know that there is no such index


def test_an_index_that_is_not_there(refused: Callable[..., str]) -> None:
    said = refused("--index", "Products")

    assert (
        "The index Products does not exist: Index Products does not exist. Names of indices are case-sensitive" in said
    )


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (401, "The log processing region does not match", "are not kept in the region us, as none was given"),
        (402, "Payment required for it", "The plan of application LOCALALGOLIA has no Analytics API: 402"),
        (403, "Analytics is not available on your plan", "has no Analytics API: 403, .* Premium and Elevate"),
        (
            403,
            "Index not allowed with this API key",
            "may not read analytics: 403, Index not .*allow the index products in",
        ),
        (404, "nowhere", "may not read analytics: 404"),
        (429, "Slow down", "Too many requests: Slow down. .*100 per minute"),
        (407, "Proxy Authentication Required", "asks for a user name and a password"),
        (400, "no\033[31m", r"answered with 400: no\\x1b\[31m"),
        (500, "oh", "cannot be reached: no host answers"),
    ],
)
def test_audit_says_why_algolia_refuses(
    status: int, message: str, said: str, algolia: LocalAlgolia, refused: Callable[..., str]
) -> None:
    algolia.fail_next(status, body={"message": message, "status": status}, path="/2/", times=None)

    found = refused()

    assert re.search(said, found), found


def test_an_error_that_repeats_the_key(algolia: LocalAlgolia, refused: Callable[..., str]) -> None:
    algolia.fail_next(403, body={"message": f"not with {algolia.api_key}"}, path="/2/", times=None)

    assert algolia.api_key not in refused()


def test_audit_names_a_proxy_that_refuses(refused: Callable[..., str]) -> None:
    with answering(403, b"<html>No</html>") as port:
        assert "does not come from Algolia: 403, Forbidden, without a reason" in refused(host=f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[]",
        "{}",
        "7",
        "null",
        {"count": "7", "dates": []},
        {"count": -1, "dates": []},
        {"count": True, "dates": []},
        {"count": 1, "dates": [7]},
        {"count": 1},
    ],
)
def test_audit_names_a_server_that_does_not_answer_as_algolia_does(
    body: Any, algolia: LocalAlgolia, refused: Callable[..., str]
) -> None:
    algolia.fail_next(200, body=body, path="/2/users")

    assert "does not come from Algolia: it has no analytics" in refused()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/2/clicks/positions", {"positions": [{"position": [1], "clickCount": 1}]}),
        ("/2/clicks/positions", {"positions": [{"position": ["1", "1"], "clickCount": 1}]}),
        ("/2/clicks/clickThroughRate", {"rate": "0.5", "trackedSearchCount": 1, "clickCount": 1, "dates": []}),
    ],
)
def test_audit_refuses_an_answer_whose_figures_are_no_numbers(
    path: str, body: Any, algolia: LocalAlgolia, refused: Callable[..., str]
) -> None:
    algolia.fail_next(200, body=body, path=path)

    assert "it has no analytics" in refused()


def test_a_day_that_an_answer_does_not_have_has_none(
    shop: Shop, algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.search("anonymous-1")
    algolia.fail_next(200, body={"count": 1, "dates": []}, path="/2/users")

    assert main(["audit", "--json", "--host", algolia.url]) == 0

    report = json.loads(capsys.readouterr().out)
    assert [day["users"] for day in report["days"]] == [0] * 7
    assert (report["total"]["users"], report["total"]["searches"]) == (1, 4)


def test_audit_names_a_port_on_which_no_server_listens(refused: Callable[..., str]) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))  # keeps the port from all others, and does not listen
        address = f"127.0.0.1:{one.getsockname()[1]}"

        assert f"{address} cannot be reached: Connection refused. Does it run" in refused(host=address)


def test_audit_names_a_server_that_does_not_answer(
    algolia: LocalAlgolia, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algolia_usertoken.check._ANSWER_MS", 500)
    algolia.hang_next(times=None)

    assert "cannot be reached: no host answers" in refused()


def test_an_answer_that_never_ends(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algolia_usertoken.traffic._ALL_SECONDS", 0.5)
    with answering(200, b"{", length=100) as port:
        assert "Not known within 0 seconds" in refused(host=f"127.0.0.1:{port}")


def test_where_the_index_cannot_be_looked_for_the_figures_stand(algolia: LocalAlgolia, audit: Audit) -> None:
    for status in (404, 500):
        algolia.fail_next(status, body="<html>", path="/1/indexes")

        code, findings = audit()

        assert code == 0
        assert findings["searches"]["state"] == "unknown"


def test_a_fault_of_our_own_is_not_swallowed(monkeypatch: pytest.MonkeyPatch, algolia: LocalAlgolia) -> None:
    monkeypatch.setattr("algolia_usertoken.traffic._Asking.traffic", lambda self: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        main(["audit", "--host", algolia.url])


class TestAlgoliaItself:
    """Without --host, requests go to Algolia's own hosts: here respx stands in for them."""

    ARGUMENTS = ("audit", "--app-id", "APP", "--api-key", "a-key-of-app", "--index", "products")

    @pytest.fixture
    def algolia(self) -> Iterator[AlgoliaRouter]:  # type: ignore[override]
        with AlgoliaRouter(assert_all_called=False) as router:
            yield router

    def hosts(self, router: AlgoliaRouter) -> set[str]:
        return {call.request.url.host for call in router.calls if call.request.url.path.startswith("/2/")}

    @pytest.mark.parametrize(
        ("arguments", "host"),
        [
            ([], "analytics.algolia.com"),
            (["--region", "us"], "analytics.us.algolia.com"),
            (["--region", "de"], "analytics.de.algolia.com"),
        ],
    )
    def test_is_asked_at_the_host_of_the_region(
        self, arguments: list[str], host: str, algolia: AlgoliaRouter, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*self.ARGUMENTS, *arguments]) == 0
        assert self.hosts(algolia) == {host}
        assert "Too few searches to tell" in capsys.readouterr().out

    def test_the_days_that_are_asked_for(self, algolia: AlgoliaRouter) -> None:
        assert main([*self.ARGUMENTS, "--days", "3"]) == 0

        asked = [call.request.url.params for call in algolia.calls if call.request.url.path.startswith("/2/")]
        first, last = (time.strftime("%Y-%m-%d", time.gmtime(time.time() - ago)) for ago in (2 * DAY, 0))
        assert {(one["index"], one["startDate"], one["endDate"]) for one in asked} == {("products", first, last)}
        assert len(asked) == 8

    def test_says_where_the_region_is_another(self, algolia: AlgoliaRouter, capsys: pytest.CaptureFixture[str]) -> None:
        algolia.get(host="analytics.us.algolia.com").respond(
            401, json={"message": "The log processing region does not match", "status": 401}
        )

        assert main([*self.ARGUMENTS, "--region", "us"]) == 2
        assert "are not kept in the region us: 401" in capsys.readouterr().err

    def test_that_cannot_be_reached_is_told(self, algolia: AlgoliaRouter, capsys: pytest.CaptureFixture[str]) -> None:
        algolia.get(host="analytics.de.algolia.com").mock(side_effect=httpx.ConnectError)

        assert main([*self.ARGUMENTS, "--region", "de"]) == 2
        said = capsys.readouterr().err
        assert "analytics.de.algolia.com cannot be reached: " in said
        assert "a host of their own" in said

    def test_is_reached_with_what_the_environment_says(
        self, algolia: AlgoliaRouter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ALGOLIA_APP_ID", "ENV")
        monkeypatch.setenv("ALGOLIA_API_KEY", "key-of-the-environment")
        monkeypatch.setenv("ALGOLIA_INDEX_NAME", "shoes")
        monkeypatch.setenv("ALGOLIA_REGION", "de")

        assert main(["audit"]) == 0
        assert self.hosts(algolia) == {"analytics.de.algolia.com"}
        assert algolia.calls[0].request.headers["x-algolia-application-id"] == "ENV"
        assert algolia.calls[0].request.url.params["index"] == "shoes"


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([], "--app-id is missing: give it, or set ALGOLIA_APP_ID"),
        (["--app-id", "A"], "--api-key is missing: give it, or set ALGOLIA_API_KEY"),
        (["--app-id", "A", "--api-key", "k"], "--index is missing: give it, or set ALGOLIA_INDEX_NAME"),
        (
            ["--app-id", "0a" * 16, "--api-key", "k", "--index", "i"],
            "--app-id cannot be the id of an application: it looks like an API key",
        ),
    ],
)
def test_audit_names_an_argument_that_is_missing_or_cannot_be(
    arguments: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *arguments]) == 2
    assert capsys.readouterr().err == f"algolia-usertoken: {missing}\n"


@pytest.mark.parametrize("days", ["0", "366", "-1", "seven", "7.5", "", "²", "1" * 5000])
def test_audit_takes_1_to_365_days_only(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["audit", f"--days={days}"])

    assert exit_.value.code == 2
    assert "must be a number from 1 to 365" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--day=7", "--js", "--ap=A"])
def test_no_option_of_audit_can_be_abbreviated(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["audit", option])

    assert exit_.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


# -- On a terminal ----------------------------------------------------------------------------------------------------


def on_a_terminal(columns: int, *arguments: str, **environment: str) -> str:
    """What the command prints on a terminal of this width."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    known = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "algolia_usertoken", "audit", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**known, "PYTHONIOENCODING": "utf-8", **environment},
    )
    os.close(terminal)
    printed = b""
    try:
        while select.select([controller], [], [], PATIENCE)[0]:
            try:
                part = os.read(controller, 65_536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            printed += part
        assert process.wait(PATIENCE) in (0, 1), printed
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    return printed.decode().replace("\r\n", "\n")


def without_colours(text: str) -> str:
    return re.sub(r"\033\[\d*m", "", text)


@pytest.fixture
def three_days(shop: Shop) -> Shop:
    for ago, visitors in ((3, 10), (1, 60), (0, 30)):
        shop.clock.ago = ago * DAY
        shop.good_day(visitors)
        shop.sent()
    return shop


@pytest.mark.parametrize("columns", [80, 140])
def test_the_table_on_a_terminal(columns: int, three_days: Shop) -> None:
    text = on_a_terminal(columns, "--host", three_days.algolia.url, "--days", "7")

    lines = without_colours(text).splitlines()
    assert max(map(len, lines)) <= columns
    assert re.search(r"^searches +400     ▂ █▅" + (r".* 120$" if columns == 140 else "$"), "\n".join(lines), re.M)
    assert re.search(r"^searches per user +4\.0     █ ██", "\n".join(lines), re.M)
    today = time.strftime("%m-%d", time.gmtime())
    assert any(line.endswith(f"   {today}") for line in lines) == (columns == 140)
    assert "\033[2m" in text  # the heading of the table
    assert "\033[32mok\033[0m        searches    400 searches." in text
    assert "\033[31mwrong\033[0m     days        No searches on " in text


def test_the_table_fits_each_width(
    three_days: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in (20, 80, 140, 400):
        for days in (1, 2, 4, 7, 30, 90, 365):
            monkeypatch.setenv("COLUMNS", str(columns))
            main(["audit", "--host", three_days.algolia.url, "--days", str(days)])
            lines = capsys.readouterr().out.splitlines()
            assert max(map(len, lines)) <= max(80, columns), (columns, days)
            assert any(line.startswith("searches  ") and line.endswith(("█", "▅", "120")) for line in lines)


def test_days_that_share_a_bar(three_days: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    main(["audit", "--host", three_days.algolia.url, "--days", "365"])

    head, searches = capsys.readouterr().out.splitlines()[3:5]
    assert head.endswith("8 days each")
    assert searches.endswith("█")


def test_no_colours_where_none_are_wanted(shop: Shop) -> None:
    assert "\033" not in on_a_terminal(80, "--host", shop.algolia.url, NO_COLOR="1")


def test_an_output_that_knows_ascii_only(shop: Shop) -> None:
    shop.good_day(30)
    shop.sent()

    text = on_a_terminal(80, "--host", shop.algolia.url, PYTHONIOENCODING="ascii")

    assert re.search(r"^searches +120 +@$", text, re.MULTILINE)
    assert text.isascii()


def test_audit_prints_its_findings_in_words(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    without_events(shop)

    assert main(["audit", "--host", shop.algolia.url, "--days", "1"]) == 1

    text = capsys.readouterr().out
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert text.startswith(f"The index products of the application LOCALALGOLIA, {today} (UTC; today is\nnot over):\n")
    assert "ok        users       240 searches came from 60 users, 4.0 each.\n" in text
    assert "wrong     clicks      No event was counted" in text
    assert "→ Send clicks with the queryID" in text
    assert text.endswith("\n1 problem found.\n")
    assert "\033" not in text
