"""Whether a real application is set up right: one search and one event, and what became of them.

Each finding says in plain words what works, or what is wrong and what to do about it. Nothing is printed here.
"""

from __future__ import annotations

import json
import queue
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from algoliasearch.http.exceptions import AlgoliaUnreachableHostException, RequestException
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.search.config import SearchConfig
from urllib3.exceptions import LocationValueError

from . import InvalidEventError, TokenAwareClientSync, anonymous_user_token
from .search_request import HEADER, PARAMETER

REGIONS = ("us", "de")
STEPS = ("connection", "key", "index", "token", "query id", "event", "region")
TAG = "algolia-usertoken-check"
_IN_LOGS = f"{HEADER.lower()}:"
# What is raised where nobody answers. A LocationValueError says that no host can have such a name.
UNREACHABLE = (AlgoliaUnreachableHostException, OSError, LocationValueError)
_CONNECT_MS, _ANSWER_MS = 2000, 3000
_ALL_SECONDS = 20.0  # a time-out of a connection starts anew with each byte, and there is none for a name server
_LOG_TRIES, _LOG_PAUSE = 6, 0.5  # a search appears in the logs a moment later
INFRASTRUCTURE = "https://dashboard.algolia.com/account/infrastructure/analytics"
KEYS = "https://dashboard.algolia.com/account/api-keys"
_LAST_DIGITS = 4

State = Literal["ok", "wrong", "unknown", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step found: `said` in words, and for what is wrong or unknown the `remedy`."""

    step: str
    state: State
    said: str
    remedy: str = ""


class Check:
    """Sends one search and one event, under one throw-away user token, to an application of Algolia or a stand-in.

    Args:
        app_id: The id of the application.
        api_key: Its key, which needs the ACL `search`, and `logs` for all of the answers.
        index: The name of an index to search.
        region: Where events go, `"us"` or `"de"`; None: to the host that forwards them by geography.
        host: The scheme, name and port of a stand-in, for searches and events alike; None: Algolia itself.

    https://www.algolia.com/doc/guides/security/api-keys
    """

    def __init__(
        self,
        app_id: str,
        api_key: str,
        index: str,
        region: str | None = None,
        host: tuple[str, str, int | None] | None = None,
    ) -> None:
        self.app_id = app_id
        self.index = index
        self.region = region
        self.user_token = anonymous_user_token()
        self._api_key = api_key
        self._host = host
        self._tag = f"{TAG}-{secrets.token_hex(4)}"
        self._keys = KEYS if host is None else "what `serve` prints (of a LocalAlgolia: app_id and api_key)"

    @property
    def is_of_stand_in(self) -> bool:
        """Whether a stand-in is checked, and not Algolia."""
        return self._host is not None

    def run(self) -> Iterator[Finding]:
        """The findings, each as soon as it is known; all of them come within about 20 seconds, whatever hangs."""
        found: queue.SimpleQueue[Finding | BaseException | None] = queue.SimpleQueue()
        threading.Thread(target=self._find, args=(found,), name=TAG, daemon=True).start()
        deadline = time.monotonic() + _ALL_SECONDS
        known = 0
        while True:
            try:
                finding = found.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                if known < len(STEPS):  # pragma: no branch - all of them may have come at the last moment
                    yield from self._too_late(known)
                return
            if finding is None:
                return
            if isinstance(finding, BaseException):
                raise finding
            known += 1
            yield finding

    def _find(self, found: queue.SimpleQueue[Finding | BaseException | None]) -> None:
        try:
            for finding in self._findings():
                found.put(finding)
            found.put(None)
        except BaseException as error:
            found.put(error)

    def _too_late(self, known: int) -> Iterator[Finding]:
        step, *others = STEPS[known:]
        yield Finding(
            step,
            "wrong",
            f"Not known within {_ALL_SECONDS:.0f} seconds: something on the way to "
            f"{'Algolia' if self._host is None else self._insights_name()} is too slow, or hangs.",
            "Look at the name server, the firewall, and the host or the proxy in between.",
        )
        for other in others:
            yield Finding(other, "skipped", f"Not tried, because the step {step} has failed.")

    def _findings(self) -> Iterator[Finding]:
        config = SearchConfig(self.app_id, self._api_key)
        self._lead(config)
        with TokenAwareClientSync.create_with_config(config, user_token=self.user_token) as client:
            try:
                response = client.search_single_index_with_http_info(
                    self.index, {"query": "", "hitsPerPage": 1, "clickAnalytics": True, "analyticsTags": [self._tag]}
                )
                found = _search_result(response.raw_data)
            except Exception as error:
                yield from self._search_failed(error)
                return
            yield Finding("connection", "ok", f"{response.host} answers searches.")
            yield Finding("key", "ok", f"The key {self._key_in_short()} of application {self.app_id} may search.")
            yield Finding("index", "ok", f"The index {self.index} exists{_with_records(found)}.")
            yield from self._token_arrived(client)
            query_id = found.get("queryID")
            yield self._has_query_id(query_id)
        yield from self._event(query_id, found["hits"])

    # -- The search ---------------------------------------------------------------------------------------------------

    def _search_failed(self, error: Exception) -> Iterator[Finding]:
        failed = self._unreachable(error) or _search_fault(
            error, self._words(error), self.app_id, self.index, self._key_in_short(), self._keys
        )
        for step in STEPS[: STEPS.index(failed.step)]:
            yield Finding(step, "ok", "The answer to the search shows that this is right.")
        yield failed
        for step in STEPS[STEPS.index(failed.step) + 1 :]:
            yield Finding(step, "skipped", f"Not tried, because the step {failed.step} has failed.")

    def _unreachable(self, error: Exception) -> Finding | None:
        if not isinstance(error, UNREACHABLE):
            return None
        said = f"{'Algolia' if self._host is None else self._insights_name()} cannot be reached: {self._why(error)}."
        if self._host is not None:
            return Finding(
                "connection", "wrong", said, "Does it run, and on that port? `algolia-usertoken serve` starts one."
            )
        return Finding(
            "connection",
            "wrong",
            said,
            f"Is {self.app_id} the application's id? The names of its hosts begin with it. If it is right, a firewall, "
            "a proxy (HTTPS_PROXY) or the name server keeps this machine from *.algolia.net and *.algolianet.com.",
        )

    def _token_arrived(self, client: TokenAwareClientSync) -> Iterator[Finding]:
        try:
            entry = self._log_entry(client)
        except RequestException as error:
            if error.status_code == 403:
                yield Finding(
                    "token",
                    "unknown",
                    f"The search was sent with the header {HEADER}: {self.user_token}. Only Algolia's logs show "
                    "whether it arrived, and this key may not read them.",
                    f"Run the check with a key that has the ACL `logs`: see {self._keys}.{self._or_dashboard('token')}",
                )
            else:
                yield Finding(
                    "token", "unknown", f"The logs could not be read: {self._words(error)}.", "Try again later."
                )
            return
        except UNREACHABLE as error:
            yield Finding("token", "unknown", f"The logs could not be read: {self._why(error)}.", "Try again later.")
            return
        except Exception:
            yield Finding(
                "token",
                "unknown",
                "The logs could not be read: the answer has no logs.",
                "Find out which server or proxy answers in Algolia's place.",
            )
            return
        yield self._token_in(entry)

    def _log_entry(self, client: TokenAwareClientSync) -> dict[str, Any] | None:
        for _ in range(_LOG_TRIES):
            raw = client.get_logs_with_http_info(length=100).raw_data
            for entry in json.loads(raw or "")["logs"]:
                if self._tag in _parameters_of(entry):
                    found: dict[str, Any] = entry
                    return found
            time.sleep(_LOG_PAUSE)
        return None

    def _token_in(self, entry: dict[str, Any] | None) -> Finding:
        if entry is None:
            return Finding(
                "token",
                "unknown",
                "The search is not in Algolia's logs yet.",
                f"Run the check again.{self._or_dashboard('search')}",
            )
        headers = entry.get("query_headers")
        if not headers or not isinstance(headers, str):
            return Finding(
                "token",
                "unknown",
                "The search is in Algolia's logs, but without its headers.",
                f"Run the check again.{self._or_dashboard('search')}",
            )
        received = next((line for line in headers.splitlines() if line.lower().startswith(_IN_LOGS)), None)
        if received is None or self.user_token not in received:
            return Finding(
                "token",
                "wrong",
                "Algolia received another user token than was sent, "
                f"of {len(received[len(_IN_LOGS) :].strip())} characters."
                if received
                else f"The search arrived at Algolia without its header {HEADER}.",
                "Something between this machine and Algolia changes headers. Let the proxy or gateway pass "
                f'{HEADER} on, or use user_token_in="both", which writes the token into the parameters too.',
            )
        if PARAMETER in _parameters_of(entry):
            return Finding(
                "token",
                "wrong",
                "The search was sent without a userToken among its parameters, but arrived at Algolia with one, which "
                "may override the header.",
                "Something between this machine and Algolia adds parameters: make it add no userToken.",
            )
        return Finding(
            "token",
            "ok",
            f"Algolia recorded the user token {self.user_token}, in the header {HEADER}. No parameter overrides it.",
        )

    def _or_dashboard(self, what: str) -> str:
        return "" if self.is_of_stand_in else f" Or look for the {what} in the dashboard, under Monitoring, API logs."

    def _has_query_id(self, query_id: Any) -> Finding:
        if query_id and isinstance(query_id, str):
            return Finding("query id", "ok", "The response has a queryID, so clicks can be attributed to the search.")
        return Finding(
            "query id",
            "wrong",
            "The search asked for clickAnalytics, but the response has no queryID.",
            "Something between this machine and Algolia answers from a cache, or removes parameters: make searches "
            "bypass it.",
        )

    # -- The event ----------------------------------------------------------------------------------------------------

    def _event(self, query_id: Any, hits: list[Any]) -> Iterator[Finding]:
        event: dict[str, Any] = {"eventName": TAG, "index": self.index}
        if query_id and isinstance(query_id, str) and hits:
            event |= {"eventType": "click", "objectIDs": [hits[0]["objectID"]], "positions": [1], "queryID": query_id}
            sent = "A click on the first hit"
        else:
            event |= {"eventType": "view", "filters": [f"checked:{TAG}"]}
            sent = "A view of a filter (there is no hit with a queryID to click on)"
        error = self._sent_to(self.region, event)
        if error is None:
            yield Finding("event", "ok", f"{sent} was accepted by {self._insights_name()}.")
            yield self._region_of_accepted()
            return
        status = getattr(error, "status_code", None)
        if status in (401, 403, 404) and self._host is None:
            elsewhere = next((other for other in REGIONS if self._is_taken_by(other, event)), None)
            if elsewhere is not None:
                yield Finding("event", "ok", f"{sent} was accepted, by insights.{elsewhere}.algolia.io.")
                yield _wrong_region(
                    self.region, f"The region {elsewhere} accepts events of this application.", elsewhere
                )
                return
        if isinstance(error, RequestException) and "region" in str(error).lower():
            yield Finding("event", "skipped", "The event was refused, because of the region.")
            yield _wrong_region(self.region, f"Algolia says: {self._words(error)}.", None)
            return
        yield self._event_fault(error)
        yield Finding("region", "skipped", "Not known, because the step event has failed.")

    def _event_fault(self, error: Exception) -> Finding:
        host = self._insights_name()
        if isinstance(error, RequestException):
            return _event_refused(error.status_code, self._words(error), host, self._key_in_short(), self._host is None)
        if isinstance(error, UNREACHABLE):
            return Finding(
                "event",
                "wrong",
                f"{host} cannot be reached: {self._why(error)}.",
                "Events have a host of their own: a firewall or a proxy must allow it, too.",
            )
        if isinstance(error, InvalidEventError):
            said = f"No event can be made from the answer to the search: {self._words(error)}."
        else:
            said = f"The answer of {host} does not come from Algolia: it is not the answer to an event."
        return Finding("event", "wrong", said, "Find out which server or proxy answers in Algolia's place.")

    def _sent_to(self, region: str | None, event: dict[str, Any]) -> Exception | None:
        config = InsightsConfig(self.app_id, self._api_key, region)
        self._lead(config)
        with TokenAwareClientSync(
            self.app_id, self._api_key, user_token=self.user_token, insights_config=config
        ) as client:
            try:
                client.insights.push_events({"events": [event]})
            except Exception as error:
                return error
        return None

    def _is_taken_by(self, region: str, event: dict[str, Any]) -> bool:
        return region != self.region and self._sent_to(region, event) is None

    def _region_of_accepted(self) -> Finding:
        if self._host is not None:
            return Finding("region", "ok", "LocalAlgolia has no regions.")
        if self.region is not None:
            return Finding("region", "ok", f"The region {self.region} accepts events of this application.")
        return Finding(
            "region",
            "unknown",
            "No region was given: insights.algolia.io forwards events by geography.",
            f"To choose where they are kept, give the region that {INFRASTRUCTURE} shows: us or de.",
        )

    # -- Both ---------------------------------------------------------------------------------------------------------

    def _lead(self, config: Any) -> None:
        lead(config, self._host)

    def _insights_name(self) -> str:
        if self._host is not None:
            return self._host[1] if self._host[2] is None else f"{self._host[1]}:{self._host[2]}"
        return "insights.algolia.io" if self.region is None else f"insights.{self.region}.algolia.io"

    def _key_in_short(self) -> str:
        return key_in_short(self._api_key)

    def _words(self, said: object) -> str:
        return words(said, self._api_key)

    def _why(self, error: BaseException) -> str:
        return why(error, self._api_key)


# -- What the audit needs, too ----------------------------------------------------------------------------------------


def lead(config: Any, host: tuple[str, str, int | None] | None) -> None:
    """Give a config of algoliasearch bounded time-outs, and the stand-in where there is one."""
    config.connect_timeout = _CONNECT_MS
    config.read_timeout = config.write_timeout = _ANSWER_MS
    config.max_rate_limit_retries = 0
    if host is not None:
        scheme, name, port = host
        config.hosts = HostsCollection([Host(url=name, scheme=scheme, port=port)])


def key_in_short(api_key: str) -> str:
    """As much of a key as may be shown."""
    return f"…{api_key[-_LAST_DIGITS:]}" if len(api_key) > 2 * _LAST_DIGITS else "…"


def words(said: object, api_key: str) -> str:
    """The text of other software, in an error or an answer, in one line and without the key."""
    text = str(said)
    if len(api_key) > 2 * _LAST_DIGITS:  # a shorter one is none, and may be part of any word
        text = text.replace(api_key, key_in_short(api_key))
    return _short(text) or type(said).__name__


def why(error: BaseException, api_key: str) -> str:
    """Why a host can't be reached, in the operating system's words if the chain of errors has them."""
    if isinstance(error, AlgoliaUnreachableHostException):
        return "no host answers, or a host answers with an error"
    cause: BaseException | None = error
    seen: list[BaseException] = []  # a chain may lead back to itself
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    said = next(filter(None, (getattr(one, "strerror", None) for one in reversed(seen))), None)
    return words(said or seen[-1], api_key)


def _parameters_of(entry: dict[str, Any]) -> str:
    return f"{entry.get('query_body')}{entry.get('url')}{entry.get('query_params')}"


def _search_result(text: str | None) -> dict[str, Any]:
    """A search's answer, if it is one. `responseFields` of an index may leave `nbHits` out."""
    found = json.loads(text or "")
    hits = found["hits"]
    if not isinstance(hits, list) or not all(isinstance(hit["objectID"], str) for hit in hits):
        raise TypeError("hits are objects with an objectID")
    return dict(found)


def _with_records(found: dict[str, Any]) -> str:
    count = found.get("nbHits")
    return f", with {count:,} records" if isinstance(count, int) else ""


def _search_fault(error: Exception, message: str, app_id: str, index: str, key: str, keys: str) -> Finding:
    """What a search that failed says about the set-up; `keys` is where the keys of the application are to be found.

    Statuses: https://www.algolia.com/doc/rest-api/search
    """
    if not isinstance(error, RequestException):  # no JSON, or JSON without hits
        return Finding(
            "connection",
            "wrong",
            "The answer does not come from Algolia: it is not the answer to a search.",
            "Find out which server or proxy answers in Algolia's place.",
        )
    status = error.status_code
    if status in (401, 403, 404) and message == HTTPStatus(status).phrase:  # Algolia sends a message of its own
        return Finding(
            "connection",
            "wrong",
            f"The answer does not come from Algolia: {status}, {message}, without a reason.",
            "Find out which server or proxy answers in Algolia's place.",
        )
    if status in (401, 403):
        if "invalid" in message.lower():
            remedy = f"Copy the id and the key again from {keys}: they must belong to the same application."
        else:
            remedy = f"Give the key the ACL `search`, and allow the index {index} in its restrictions: see {keys}."
        return Finding(
            "key", "wrong", f"The key {key} of application {app_id} is not accepted: {status}, {message}.", remedy
        )
    if status == 404:
        return Finding(
            "index",
            "wrong",
            f"The index {index} does not exist: {message}.",
            "Names of indices are case-sensitive, and often have a prefix such as dev_ or prod_. An index is made by "
            "saving its first record.",
        )
    if status == 429:
        return Finding(
            "key",
            "wrong",
            f"The key {key} is over its rate limit: {message}.",
            "Wait, or raise the key's maxQueriesPerIPPerHour. If Algolia counted your server as one user, user tokens "
            "solve this.",
        )
    if status == 407:
        remedy = "The proxy in between (HTTPS_PROXY) asks for a user name and a password."
    else:
        remedy = "If this message is not Algolia's, find out which server or proxy answers in Algolia's place."
    return Finding("connection", "wrong", f"The search was answered with {status}: {message}.", remedy)


def _event_refused(status: int | None, message: str, host: str, key: str, of_algolia: bool) -> Finding:
    """What an event that failed says about the set-up, of Algolia or of a stand-in, which has no regions.

    Statuses: https://www.algolia.com/doc/rest-api/insights/push-events
    """
    if status in (401, 403, 404):
        said = f"The key {key} may not send events to {host}: {status}, {message}."
        remedy = "The key needs the ACL `search`."
        if of_algolia:
            remedy = f"{remedy[:-1]} ({KEYS}). If it has this ACL, the region may be wrong: see {INFRASTRUCTURE}."
    elif status in (400, 413, 422):
        said = f"The event was refused: {status}, {message}."
        remedy = (
            "Something between this machine and Algolia changes bodies, or Algolia has changed its rules: report it."
        )
    elif status == 429:
        said, remedy = f"The event was refused: {status}, {message}.", "Too many at once: wait, and try again."
    else:
        said, remedy = f"The event was answered with {status}: {message}.", "Try again later."
    return Finding("event", "wrong", said, remedy)


def _wrong_region(region: str | None, said: str, right: str | None) -> Finding:
    given = f"The region {region} is wrong." if region else "A region is needed."
    return Finding(
        "region",
        "wrong",
        f"{given} {said}",
        f"Give the region {right or f'that {INFRASTRUCTURE} shows'}: EventSender(region=…), or "
        "insights_config=InsightsConfig(app_id, api_key, region).",
    )


def _short(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= 200 else f"{text[:199]}…"
