"""The figures of the Analytics API, with the real client, from what arrived."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from algoliasearch.analytics.client import AnalyticsClientSync
from algoliasearch.analytics.config import AnalyticsConfig
from algoliasearch.http.exceptions import RequestException
from algoliasearch.insights.client import InsightsClientSync
from waiting import stay_within_one_day

from algolia_usertoken.testing import LocalAlgolia

Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def today() -> str:
    stay_within_one_day()
    return time.strftime("%Y-%m-%d", time.gmtime())


@pytest.fixture
def analytics(algolia: LocalAlgolia) -> Iterator[AnalyticsClientSync]:
    client = AnalyticsClientSync.create_with_config(algolia.config_for(AnalyticsConfig))
    yield client
    client.close()


@pytest.fixture
def search(ask: Ask) -> Callable[..., str | None]:
    """One search; returns its queryID if it has one."""

    def search(query: str = "", user: str | None = "ada", tracked: bool = True, **parameters: Any) -> str | None:
        body = {"query": query, "clickAnalytics": tracked, **parameters}
        answer = ask("POST", "/1/indexes/products/query", {**body, **({"userToken": user} if user else {})})
        query_id: str | None = answer.json.get("queryID")
        return query_id

    return search


@pytest.fixture
def report(insights: InsightsClientSync) -> Callable[..., None]:
    """One event for a search."""

    def report(kind: str, query_id: str | None, **fields: Any) -> None:
        named = {} if query_id is None else {"queryID": query_id}
        event = {"eventType": kind, "eventName": "e", "index": "products", "userToken": "ada", "objectIDs": ["hat"]}
        insights.push_events({"events": [{**event, **named, **fields}]})

    return report


def test_searches_and_users_are_counted(analytics: AnalyticsClientSync, search: Any, ask: Ask, today: str) -> None:
    for user in ("ada", "ada", "bob", None):
        search(user=user)
    search(analytics=False)
    search(filters="AND")
    ask("POST", "/1/indexes/products/browse", {})
    users = analytics.get_users_count("products")
    assert (users.count, users.dates[-1].var_date, users.dates[-1].count, len(users.dates)) == (3, today, 3, 8)
    counted = analytics.get_searches_count("products")
    assert (counted.count, counted.dates[-1].count, counted.dates[0].count) == (4, 4, 0)
    assert analytics.get_searches_count("other").count == 0


def test_clicks_and_conversions_are_rates_of_tracked_searches(
    analytics: AnalyticsClientSync, search: Any, report: Any
) -> None:
    first, second = search(), search("red")
    search(tracked=False)
    report("click", first, positions=[3])
    report("click", first, positions=[12])
    report("conversion", second)
    clicks = analytics.get_click_through_rate("products")
    assert (clicks.rate, clicks.click_count, clicks.tracked_search_count) == (0.5, 2, 2)
    assert (clicks.dates[-1].rate, clicks.dates[0].rate) == (0.5, None)
    conversions = analytics.get_conversion_rate("products")
    assert (conversions.rate, conversions.conversion_count) == (0.5, 1)
    missed = analytics.get_no_click_rate("products")
    assert (missed.rate, missed.count, missed.no_click_count) == (0.5, 2, 1)
    average = analytics.get_average_click_position("products")
    assert (average.average, average.click_count, average.dates[0].average) == (7.5, 2, None)
    positions = analytics.get_click_positions("products").positions
    assert [position.click_count for position in positions] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert [position.position for position in positions[-2:]] == [[11, 20], [21, -1]]


def test_analytics_count_carts_purchases_and_revenue(analytics: AnalyticsClientSync, search: Any, report: Any) -> None:
    query_id = search()
    item = {"price": "2.5", "quantity": 2}
    report("conversion", query_id, eventSubtype="addToCart", currency="EUR", objectData=[item])
    bought = {"currency": "EUR", "objectData": [{**item, "queryID": query_id}]}
    report("conversion", None, eventSubtype="purchase", **bought)
    for no_price in ({}, {"price": "on request"}):
        gift = {"currency": "EUR", "objectData": [{**no_price, "queryID": query_id}]}
        report("conversion", None, eventSubtype="purchase", **gift)
    assert analytics.get_add_to_cart_rate("products").add_to_cart_count == 1
    assert analytics.get_purchase_rate("products").rate == 1.0
    assert analytics.get_conversion_rate("products").conversion_count == 4
    revenue = analytics.get_revenue("products")
    assert revenue.currencies["EUR"].revenue == 5.0
    assert revenue.dates[0].currencies == {}


def test_an_event_later_than_an_hour_after_its_search_does_not_count(
    analytics: AnalyticsClientSync, search: Any, report: Any
) -> None:
    query_id = search()
    for seconds in (3_500, 3_700):
        report("click", query_id, positions=[1], timestamp=int((time.time() + seconds) * 1000))
    assert analytics.get_click_through_rate("products").click_count == 1


def test_analytics_list_queries_by_frequency(
    analytics: AnalyticsClientSync, search: Any, report: Any, ask: Ask
) -> None:
    search("hat")
    search("none", filters="brand:Acme")
    search("none")
    report("click", search("hat"), positions=[2])
    top = ask("GET", "/2/searches?index=products").json["searches"]
    assert top == [{"search": "hat", "count": 2, "nbHits": 1}, {"search": "none", "count": 2, "nbHits": 0}]
    (hat, _) = ask("GET", "/2/searches?index=products&clickAnalytics=true").json["searches"]
    assert (hat["trackedSearchCount"], hat["clickCount"], hat["clickThroughRate"]) == (2, 1, 0.5)
    assert (hat["averageClickPosition"], hat["conversionRate"]) == (2.0, 0.0)
    assert analytics.get_top_searches("products", click_analytics=True).actual_instance is not None
    (empty,) = analytics.get_searches_no_results("products").searches
    assert (empty.search, empty.count, empty.with_filter_count) == ("none", 2, 1)
    missed = analytics.get_searches_no_clicks("products").searches
    assert [(each.search, each.count) for each in missed] == [("none", 2), ("hat", 1)]
    rate = analytics.get_no_results_rate("products")
    assert (rate.rate, rate.count, rate.no_result_count) == (0.5, 4, 2)
    assert len(ask("GET", "/2/searches?index=products&limit=1&offset=1").json["searches"]) == 1
    assert analytics.get_status("products").updated_at


def test_analytics_count_by_period_and_by_tags(analytics: AnalyticsClientSync, search: Any, today: str) -> None:
    for tags in (["web"], ["app", "beta"], []):
        search(analyticsTags=tags)
    asked = ("web", "web OR beta", "app AND beta", "app AND web", "(web OR app) AND beta", None)
    assert [analytics.get_searches_count("products", tags=tags).count for tags in asked] == [1, 2, 1, 0, 1, 3]
    past = analytics.get_searches_count("products", start_date="2020-01-01", end_date="2020-01-03")
    assert [day.var_date for day in past.dates] == ["2020-01-01", "2020-01-02", "2020-01-03"]
    assert past.count == 0
    assert analytics.get_searches_count("products", start_date=today, end_date=today).count == 3


@pytest.mark.parametrize(
    "query",
    [
        "",
        "index=",
        "index=a&startDate=yesterday",
        "index=a&endDate=2020-02-30",
        "index=a&startDate=2020-01-02&endDate=2020-01-01",
        "index=a&startDate=1000-01-01",
        "index=a&startDate=20200101",
        "index=a&endDate=0001-01-01",
        "index=a&startDate=1970-01-01",
    ],
)
def test_analytics_refuse_a_missing_index_and_a_period_that_is_none(ask: Ask, query: str) -> None:
    assert ask("GET", f"/2/users/count?{query}").status == 400
    assert ask("GET", f"/2/clicks/positions?{query}").status == 400


def test_analytics_that_local_algolia_does_not_have_say_so(analytics: AnalyticsClientSync) -> None:
    with pytest.raises(RequestException, match="LocalAlgolia does not have analytics by country"):
        analytics.get_top_countries("products")
