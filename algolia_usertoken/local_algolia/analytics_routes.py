"""The requests for analytics: https://www.algolia.com/doc/rest-api/analytics."""

from __future__ import annotations

from functools import partial

from . import analytics
from .analytics import Figure, Figures, Traffic
from .application import Application
from .calls import Call, Reply, as_json, whole
from .errors import ApiError
from .index import now
from .parameters import is_true
from .routes import on

_MOST = 1_000

_DAILY: dict[str, Figure] = {
    "/2/users/count": analytics.users_count,
    "/2/searches/count": analytics.searches_count,
    "/2/searches/noResultRate": analytics.no_result_rate,
    "/2/searches/noClickRate": analytics.no_click_rate,
    "/2/clicks/clickThroughRate": analytics.click_through_rate,
    "/2/clicks/averageClickPosition": analytics.average_click_position,
    "/2/conversions/conversionRate": analytics.conversion_rate,
    "/2/conversions/addToCartRate": analytics.add_to_cart_rate,
    "/2/conversions/purchaseRate": analytics.purchase_rate,
    "/2/conversions/revenue": analytics.revenue,
}


def _daily(figure: Figure, app: Application, call: Call) -> Reply:
    return as_json(analytics.daily(_traffic(app, call), call.in_query("startdate"), call.in_query("enddate"), figure))


for _path, _figure in _DAILY.items():
    on("GET", _path, acl="analytics")(partial(_daily, _figure))


@on("GET", "/2/clicks/positions", acl="analytics")
def positions(app: Application, call: Call) -> Reply:
    return as_json(analytics.click_positions(_in_period(app, call)))


@on("GET", "/2/searches", acl="analytics")
def top_searches(app: Application, call: Call) -> Reply:
    with_clicks = is_true(call.in_query("clickanalytics"))
    return _page(call, analytics.top_searches(_in_period(app, call), with_clicks))


@on("GET", "/2/searches/noResults", acl="analytics")
def without_results(app: Application, call: Call) -> Reply:
    return _page(call, analytics.searches_without_results(_in_period(app, call)))


@on("GET", "/2/searches/noClicks", acl="analytics")
def without_clicks(app: Application, call: Call) -> Reply:
    return _page(call, analytics.searches_without_clicks(_in_period(app, call)))


@on("GET", "/2/status", acl="analytics")
def status(app: Application, call: Call) -> Reply:
    return as_json({"updatedAt": now()})


def _traffic(app: Application, call: Call) -> Traffic:
    index = call.in_query("index")
    if not index:
        raise ApiError(400, "The index parameter is required")
    return analytics.traffic_of(app.received.searches(), app.received.events(), index, call.in_query("tags"))


def _in_period(app: Application, call: Call) -> Traffic:
    return analytics.within(_traffic(app, call), call.in_query("startdate"), call.in_query("enddate"))


def _page(call: Call, found: list[Figures]) -> Reply:
    limit = whole(call.in_query("limit"))
    start = whole(call.in_query("offset")) or 0
    return as_json({"searches": found[start : start + min(10 if limit is None else limit, _MOST)]})
