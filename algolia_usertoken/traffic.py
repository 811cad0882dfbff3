"""Gets the figures of some days' traffic from Algolia's Analytics API, with algoliasearch's own client."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from http import HTTPStatus
from typing import Any

from algoliasearch.analytics.client import AnalyticsClientSync
from algoliasearch.analytics.config import AnalyticsConfig
from algoliasearch.http.exceptions import RequestException
from algoliasearch.search.client import SearchClientSync
from algoliasearch.search.config import SearchConfig

from .audit import Day, Figures, Position, Traffic
from .check import INFRASTRUCTURE, KEYS, UNREACHABLE, key_in_short, lead, why, words

_ALL_SECONDS = 40.0  # for all requests, as in `check`, because the connection's time-out starts again with each byte
_PLANS = "The Analytics API is part of Algolia's Premium and Elevate plans"


class CannotAskError(Exception):
    """Algolia could not be asked. The text says why in whole sentences, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Application:
    """The application whose traffic is audited.

    Attributes:
        app_id, api_key: The application's id and a key with the ACL `analytics`.
        index: The name of an index.
        region: The region that keeps its analytics, "us" or "de"; None is "us".
        host: (scheme, name, port) of a stand-in to ask instead of Algolia.
    """

    app_id: str
    api_key: str
    index: str
    region: str | None = None
    host: tuple[str, str, int | None] | None = None


def traffic_of(application: Application, days: int) -> Traffic:
    """The figures of the last days, including today's so far. This takes at most about 40 seconds.

        traffic = traffic_of(Application("APP", "a-key-with-analytics", "products"), days=7)

    Args:
        application: The application whose figures to get.
        days: How many days, from 1 to 365, in UTC, as Algolia counts them.

    Returns:
        The figures.

    Raises:
        CannotAskError: Algolia could not be asked, or did not give the figures.

    https://www.algolia.com/doc/rest-api/analytics
    """
    found: queue.SimpleQueue[Traffic | BaseException] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found.put(_Asking(application, days).traffic())
        except BaseException as error:
            found.put(error)

    threading.Thread(target=ask, name="algolia-usertoken-audit", daemon=True).start()
    try:
        answer = found.get(timeout=_ALL_SECONDS)
    except queue.Empty:
        raise CannotAskError(
            f"Not known within {_ALL_SECONDS:.0f} seconds: something on the way to Algolia is too slow, or hangs. Look "
            "at the name server, the firewall, and the host or the proxy in between."
        ) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


class _Asking:
    def __init__(self, application: Application, days: int) -> None:
        self._app = application
        today = date.fromisoformat(time.strftime("%Y-%m-%d", time.gmtime()))
        self._today = today.isoformat()
        self._dates = [(today - timedelta(days=ago)).isoformat() for ago in reversed(range(days))]

    def traffic(self) -> Traffic:
        config = AnalyticsConfig(self._app.app_id, self._app.api_key, self._app.region)
        lead(config, self._app.host)
        with AnalyticsClientSync.create_with_config(config) as client:
            try:
                found = self._figures(client)
            except RequestException as error:
                raise CannotAskError(self._refused(error)) from None
            except UNREACHABLE as error:
                raise CannotAskError(self._unreachable(error)) from None
            except (ValueError, TypeError, KeyError, AttributeError):
                raise CannotAskError(
                    f"The answer of {self._host()} does not come from Algolia: it has no analytics. Find out "
                    "which server or proxy answers in Algolia's place."
                ) from None
        if not found.total.searches:
            self._check_index()
        return found

    def _figures(self, client: AnalyticsClientSync) -> Traffic:
        users = self._asked(client.get_users_count_with_http_info)
        searches = self._asked(client.get_searches_count_with_http_info)
        results = self._asked(client.get_no_results_rate_with_http_info)
        clicks = self._asked(client.get_click_through_rate_with_http_info)
        conversions = self._asked(client.get_conversion_rate_with_http_info)
        carts = self._asked(client.get_add_to_cart_rate_with_http_info)
        purchases = self._asked(client.get_purchase_rate_with_http_info)
        positions = self._asked(client.get_click_positions_with_http_info)

        def figures(of: Callable[[dict[str, Any]], dict[str, Any]]) -> Figures:
            return Figures(
                searches=_count(of(searches), "count"),
                users=_count(of(users), "count"),
                without_results=_count(of(results), "noResultCount"),
                tracked=_count(of(clicks), "trackedSearchCount"),
                click_rate=_rate(of(clicks)),
                conversion_rate=_rate(of(conversions)),
                clicks=_count(of(clicks), "clickCount"),
                conversions=_count(of(conversions), "conversionCount"),
                added_to_cart=_count(of(carts), "addToCartCount"),
                purchases=_count(of(purchases), "purchaseCount"),
            )

        def on(day: str) -> Figures:
            return figures(lambda answer: next((one for one in answer["dates"] if one["date"] == day), _NOTHING))

        return Traffic(
            figures(lambda answer: answer),
            [Day(day, day < self._today, on(day)) for day in self._dates],
            [_position(one) for one in positions["positions"]],
        )

    def _asked(self, ask: Callable[..., Any]) -> dict[str, Any]:
        answer = ask(index=self._app.index, start_date=self._dates[0], end_date=self._dates[-1])
        return dict(json.loads(answer.raw_data or ""))

    def _check_index(self) -> None:
        """Check by a search, if the key may search, that the index exists: analytics report 0 searches for any name."""
        config = SearchConfig(self._app.app_id, self._app.api_key)
        lead(config, self._app.host)
        with SearchClientSync.create_with_config(config) as client:
            try:
                client.search_single_index_with_http_info(self._app.index, {"hitsPerPage": 0, "analytics": False})
            except RequestException as error:
                if error.status_code == 404 and self._said(error) != HTTPStatus(404).phrase:
                    raise CannotAskError(
                        f"The index {self._app.index} does not exist: {self._said(error)}. Names of indices are "
                        "case-sensitive, and often have a prefix such as dev_ or prod_."
                    ) from None
            except Exception:  # the figures (all zero) are known; why there are no searches can't be found out
                return

    # -- What went wrong ----------------------------------------------------------------------------------------------

    def _refused(self, error: RequestException) -> str:
        """Statuses: https://www.algolia.com/doc/rest-api/analytics"""
        status, message = error.status_code, self._said(error)
        key = f"The key {key_in_short(self._app.api_key)} of application {self._app.app_id}"
        if status in (401, 402, 403, 404):
            lower = message.lower()
            if message == HTTPStatus(status).phrase:  # so it is not Algolia, which sends messages of its own
                return (
                    f"The answer of {self._host()} does not come from Algolia: {status}, {message}, without a reason. "
                    "Find out which server or proxy answers in Algolia's place."
                )
            if "region" in lower:
                given = f"the region {self._app.region}" if self._app.region else "the region us, as none was given"
                return (
                    f"Analytics of this application are not kept in {given}: {status}, {message}. Give the region that "
                    f"{INFRASTRUCTURE} shows: --region us or --region de."
                )
            if status == 402 or any(word in lower for word in ("plan", "subscription", "upgrade", "feature")):
                return (
                    f"The plan of application {self._app.app_id} has no Analytics API: {status}, {message}. {_PLANS}."
                )
            if "invalid" in lower:
                return (
                    f"{key} is not accepted: {status}, {message}. Copy the id and the key again from {KEYS}: they must "
                    "belong to the same application."
                )
            return (
                f"{key} may not read analytics: {status}, {message}. Give it the ACL `analytics`, and allow the "
                f"index {self._app.index} in its restrictions: {KEYS}. {_PLANS}."
            )
        if status == 429:
            return (
                f"Too many requests: {message}. Algolia allows 100 per minute, and an audit makes eight. Wait a minute."
            )
        if status == 407:
            return f"{message}. The proxy in between (HTTPS_PROXY) asks for a user name and a password."
        return (
            f"{self._host()} answered with {status}: {message}. If this message is not Algolia's, find out "
            "which server or proxy answers in Algolia's place."
        )

    def _unreachable(self, error: Exception) -> str:
        said = f"{self._host()} cannot be reached: {why(error, self._app.api_key)}."
        if self._app.host is not None:
            return f"{said} Does it run, and on that port? `algolia-usertoken serve` starts one."
        return f"{said} Analytics have a host of their own: a firewall or a proxy (HTTPS_PROXY) must allow it, too."

    def _said(self, error: object) -> str:
        return words(error, self._app.api_key)

    def _host(self) -> str:
        if self._app.host is not None:
            _, name, port = self._app.host
            return name if port is None else f"{name}:{port}"
        region = self._app.region
        return "analytics.algolia.com" if region is None else f"analytics.{region}.algolia.com"


_NOTHING: dict[str, Any] = {}


def _count(answer: dict[str, Any], name: str) -> int:
    """A count in an answer; 0 for a day that the answer lacks."""
    if answer is _NOTHING:
        return 0
    value = answer[name]
    if type(value) is not int or value < 0:
        raise TypeError(f"{name} is not a count")
    return value


def _rate(answer: dict[str, Any]) -> float | None:
    value = answer.get("rate")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError("rate is not a number")
    return value


def _position(answer: dict[str, Any]) -> Position:
    bounds: Sequence[Any] = answer["position"]
    first, last = bounds
    if type(first) is not int or type(last) is not int:
        raise TypeError("position is not a range")
    return Position(first, last, _count(answer, "clickCount"))
