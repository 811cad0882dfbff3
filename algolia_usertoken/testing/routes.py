"""
The requests that the stand-in understands, and its answers to them.

One function per operation of https://www.algolia.com/doc/rest-api/search, recommend and insights. No network here: a
`Call` goes in, a `Reply` comes out, and what the call asked or reported is noted on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote

from . import insights_rules, search
from .api_keys import restrictions
from .received import Operation, Received, ReceivedEvent, ReceivedRequest, ReceivedSearch
from .records import Records, Refused, now, object_id_of, to_json, written

JSON = "application/json; charset=UTF-8"
HTML = "text/html; charset=utf-8"

_WRONG_KEY = "Invalid Application-ID or API key"
_NO_COMMAND_OF_INSIGHTS = (
    "Path not supported by Insights REST API. Please have a look at [https://www.algolia.com/doc/rest-api/insights/]"
    "(https://www.algolia.com/doc/rest-api/insights) for the list of valid commands."
)
_BAD_REQUEST = (
    b"<html><head><title>400 Bad Request</title></head>"
    b"<body>Error: Bad Request. Your client has issued a malformed or illegal request.</body></html>"
)


@dataclass(slots=True)
class Call:
    """One request, and what it turned out to ask or report."""

    method: str
    path: str
    query_string: str
    # Names in any case, as aiohttp's headers take them.
    headers: Mapping[str, str]
    body: bytes
    client_ip: str
    received_at: float
    restrictions: Mapping[str, str] = field(default_factory=dict)
    searches: list[ReceivedSearch] = field(default_factory=list)
    events: list[ReceivedEvent] = field(default_factory=list)

    def in_query(self, name: str) -> str | None:
        """A parameter of the query string, its name in any case: browsers send the key there."""
        if not self.query_string:
            return None
        for key, value in parse_qsl(self.query_string, keep_blank_values=True):
            if key.lower() == name:
                return value
        return None

    def decoded(self) -> Any:
        """The body as JSON, an empty one as `{}`. Raises ValueError if it is none."""
        if not self.body:
            return {}
        try:
            # Decoded here, because json would guess at UTF-16 too.
            return json.loads(self.body.decode(), parse_constant=_no_constant)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def object(self) -> dict[str, Any]:
        try:
            body = self.decoded()
        except ValueError:
            raise Refused(400, "Invalid JSON in the request body") from None
        if not isinstance(body, dict):
            raise Refused(400, "Expected a JSON object in the request body")
        return body


@dataclass(slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str = JSON


def as_json(value: Any, status: int = 200) -> Reply:
    return Reply(status, to_json(value).encode())


def as_error(status: int, message: str) -> Reply:
    return as_json({"message": message, "status": status}, status)


class Api:
    """Answers calls from its records. Not thread-safe but for what Records and Received promise."""

    def __init__(self, app_id: str, api_key: str, records: Records, received: Received) -> None:
        self.app_id = app_id
        self.api_key = api_key
        self.records = records
        self.received = received

    def answer(self, call: Call) -> Reply:
        insights = call.path.startswith(("/1/event", "/1/usertoken"))
        if not self._may(call):
            return as_error(401, "Invalid credentials") if insights else as_error(403, _WRONG_KEY)
        found = _find(call.method, call.path)
        if found is None and call.path == "/1/events":
            return as_error(405, "Method Not Allowed")
        if found is None and insights:
            return as_error(404, _NO_COMMAND_OF_INSIGHTS)
        if found is None:
            return as_error(404, f"Path not supported by this API: {call.method} {call.path[:200]}")
        handler, arguments = found
        try:
            with self.records.lock:
                return handler(self, call, *arguments)
        except Refused as refused:
            return as_error(refused.status, refused.message)

    def _may(self, call: Call) -> bool:
        app_id = call.headers.get("x-algolia-application-id") or call.in_query("x-algolia-application-id")
        key = call.headers.get("x-algolia-api-key") or call.in_query("x-algolia-api-key")
        if app_id != self.app_id or not key:
            return False
        if key == self.api_key:
            return True
        restricted = restrictions(key, self.api_key)
        if restricted is None:
            return False
        call.restrictions = restricted
        until = _whole(restricted.get("validUntil"))
        return until is None or until >= call.received_at


_Handler = Callable[..., Reply]


class _Routes:
    """Handlers by method and path. A segment in braces is an argument; the first that fits is taken."""

    def __init__(self) -> None:
        self._by_size: dict[tuple[str, int], list[tuple[list[str | None], _Handler]]] = {}

    def add(self, method: str, path: str) -> Callable[[_Handler], _Handler]:
        segments = [None if segment.startswith("{") else segment for segment in path.split("/")]

        def register(handler: _Handler) -> _Handler:
            self._by_size.setdefault((method, len(segments)), []).append((segments, handler))
            return handler

        return register

    def find(self, method: str, path: str) -> tuple[_Handler, list[str]] | None:
        segments = path.split("/")
        for wanted, handler in self._by_size.get((method, len(segments)), ()):
            if all(want is None or want == got for want, got in zip(wanted, segments, strict=True)):
                return handler, [unquote(got) for want, got in zip(wanted, segments, strict=True) if want is None]
        return None


_ROUTES = _Routes()
_on = _ROUTES.add


# -- Searching --------------------------------------------------------------------------------------------------------


@_on("POST", "/1/indexes/*/queries")
def multi_search(api: Api, call: Call) -> Reply:
    results = []
    for request in _requests(call.object()):
        name, params = _index_name(request), search.merged_params(request)
        if request.get("type") == "facet":
            facet = request.get("facet")
            if not isinstance(facet, str):
                raise Refused(400, "facet: expected a string")
            results.append(_facet_hits(api, call, name, facet, params))
        else:
            results.append(_search(api, call, "search", name, params))
    return Reply(200, f'{{"results":[{",".join(results)}]}}'.encode())


@_on("POST", "/1/indexes/*/recommendations")
def recommendations(api: Api, call: Call) -> Reply:
    results = []
    for request in _requests(call.object()):
        name = _index_name(request)
        parameters = request.get("queryParameters")
        params = parameters if isinstance(parameters, dict) else {}
        query_id = _note(api, call, "recommend", name, params)
        results.append(search.recommend(name, api.records.index(name), request, query_id))
    return Reply(200, f'{{"results":[{",".join(results)}]}}'.encode())


@_on("POST", "/1/indexes/{index}/query")
def search_index(api: Api, call: Call, name: str) -> Reply:
    return Reply(200, _search(api, call, "search", name, search.merged_params(call.object())).encode())


@_on("GET", "/1/indexes/{index}")
def search_index_by_get(api: Api, call: Call, name: str) -> Reply:
    params = dict(parse_qsl(call.query_string, keep_blank_values=True))
    return Reply(200, _search(api, call, "search", name, params).encode())


@_on("POST", "/1/indexes/{index}/browse")
def browse(api: Api, call: Call, name: str) -> Reply:
    return Reply(200, _search(api, call, "browse", name, search.merged_params(call.object())).encode())


@_on("POST", "/1/indexes/{index}/facets/{facet}/query")
def facet_search(api: Api, call: Call, name: str, facet: str) -> Reply:
    return Reply(200, _facet_hits(api, call, name, facet, search.merged_params(call.object())).encode())


def _search(api: Api, call: Call, operation: Operation, name: str, params: Mapping[str, Any]) -> str:
    query_id = _note(api, call, operation, name, params)
    respond = search.search if operation == "search" else search.browse
    return respond(name, api.records.index(name), params, query_id)


def _facet_hits(api: Api, call: Call, name: str, facet: str, params: Mapping[str, Any]) -> str:
    _note(api, call, "facets", name, params)
    return search.facet_hits(api.records.index(name), facet, params)


def _note(api: Api, call: Call, operation: Operation, name: str, params: Mapping[str, Any]) -> str | None:
    """Keep who searched. Returns the query id to answer with, if one was asked for."""
    get = call.headers.get
    in_header, in_parameter = get("x-algolia-usertoken"), params.get("userToken")
    if in_header is None:
        in_header = call.in_query("x-algolia-usertoken")
    if in_parameter is not None and not isinstance(in_parameter, str):
        raise Refused(400, "userToken: expected a string")
    in_key = call.restrictions.get("userToken")
    forwarded_for = get("x-forwarded-for")
    forwarded = forwarded_for.split(",", 1)[0].strip() if forwarded_for else ""
    token = in_parameter or in_header or in_key or None
    query = params.get("query", "")
    wants_id = operation != "facets" and search.is_true(params.get("clickAnalytics"))
    query_id = api.received.query_ids.new() if wants_id else None
    call.searches.append(
        ReceivedSearch(
            operation=operation,
            index=name,
            query=query if isinstance(query, str) else "",
            params=params,
            user_token_header=in_header,
            user_token_parameter=in_parameter,
            user_token_in_key=in_key,
            forwarded_for=forwarded_for,
            client_ip=call.client_ip,
            cookie=get("cookie"),
            user_token=token,
            user=token or forwarded or call.client_ip,
            query_id=query_id,
            status=200,
            method=call.method,
            path=call.path,
            received_at=call.received_at,
        )
    )
    return query_id


# -- Records ----------------------------------------------------------------------------------------------------------


@_on("POST", "/1/indexes/*/batch")
def multi_batch(api: Api, call: Call) -> Reply:
    by_index: dict[str, list[Mapping[str, Any]]] = {}
    for request in _requests(call.object()):
        by_index.setdefault(_index_name(request), []).append(request)
    tasks, object_ids = {}, []
    for name, requests in by_index.items():
        tasks[name], changed = api.records.write(name, requests)
        object_ids += changed
    return as_json({"taskID": tasks, "objectIDs": object_ids})


@_on("POST", "/1/indexes/*/objects")
def get_objects(api: Api, call: Call) -> Reply:
    found = [
        api.records.get(_index_name(request), object_id_of(request), request.get("attributesToRetrieve"))
        for request in _requests(call.object())
    ]
    return as_json({"results": found})


@_on("POST", "/1/indexes/{index}/batch")
def batch(api: Api, call: Call, name: str) -> Reply:
    task, object_ids = api.records.write(name, _requests(call.object()))
    return as_json({"taskID": task, "objectIDs": object_ids})


@_on("POST", "/1/indexes/{index}/clear")
def clear(api: Api, call: Call, name: str) -> Reply:
    return _updated(api.records.write(name, [{"action": "clear"}])[0])


@_on("POST", "/1/indexes/{index}/deleteByQuery")
def delete_by_query(api: Api, call: Call, name: str) -> Reply:
    matching = search.matching_filters(api.records.index(name), search.merged_params(call.object()))
    gone = [{"action": "deleteObject", "body": {"objectID": record.object_id}} for record in matching]
    return _updated(api.records.write(name, gone)[0])


@_on("POST", "/1/indexes/{index}/operation")
def operation(api: Api, call: Call, name: str) -> Reply:
    body = call.object()
    kind, destination, scope = body.get("operation"), body.get("destination"), body.get("scope")
    if kind not in ("copy", "move"):
        raise Refused(400, 'operation: expected "copy" or "move"')
    if not isinstance(destination, str) or not destination:
        raise Refused(400, "destination: expected the name of an index")
    if scope is not None and not isinstance(scope, list):
        raise Refused(400, "scope: expected an array")
    return _updated(api.records.copy(name, destination, scope, move=kind == "move"))


@_on("GET", "/1/indexes/{index}/settings")
def get_settings(api: Api, call: Call, name: str) -> Reply:
    return as_json(api.records.settings(name))


@_on("PUT", "/1/indexes/{index}/settings")
def set_settings(api: Api, call: Call, name: str) -> Reply:
    api.records.settings(name, call.object())
    return _updated(api.records.task())


@_on("GET", "/1/indexes/{index}/task/{task}")
def get_task(api: Api, call: Call, name: str, task: str) -> Reply:
    return get_app_task(api, call, task)


@_on("GET", "/1/task/{task}")
def get_app_task(api: Api, call: Call, task: str) -> Reply:
    if not task.isdecimal():
        raise Refused(400, "taskID: expected an integer")
    return as_json({"status": "published", "pendingTask": False})


@_on("GET", "/1/indexes")
def list_indices(api: Api, call: Call) -> Reply:
    items = []
    for name in api.records.names():
        index = api.records.index(name)
        size = sum(len(record.json) for record in index.records.values())
        items.append(
            {
                "name": name,
                "createdAt": index.created_at,
                "updatedAt": index.updated_at,
                "entries": len(index.records),
                "dataSize": size,
                "fileSize": size,
                "lastBuildTimeS": 0,
                "numberOfPendingTasks": 0,
                "pendingTask": False,
            }
        )
    page, per_page = _whole(call.in_query("page")), _whole(call.in_query("hitsperpage")) or 100
    if page is None:
        return as_json({"items": items, "nbPages": 1})
    start = page * per_page
    return as_json({"items": items[start : start + per_page], "nbPages": -(-len(items) // per_page)})


@_on("POST", "/1/indexes/{index}")
def add_object(api: Api, call: Call, name: str) -> Reply:
    body = {key: value for key, value in call.object().items() if key != "objectID"}
    task, (object_id,) = api.records.write(name, [{"action": "addObject", "body": body}])
    return as_json({"createdAt": now(), "taskID": task, "objectID": object_id}, 201)


@_on("DELETE", "/1/indexes/{index}")
def delete_index(api: Api, call: Call, name: str) -> Reply:
    return _deleted(api.records.delete_index(name))


@_on("POST", "/1/indexes/{index}/{object}/partial")
def partial_update(api: Api, call: Call, name: str, object_id: str) -> Reply:
    create = (call.in_query("createifnotexists") or "true").lower() != "false"
    task = api.records.partial(name, object_id, call.object(), create)
    return as_json({"updatedAt": now(), "taskID": task, "objectID": object_id})


@_on("GET", "/1/indexes/{index}/{object}")
def get_object(api: Api, call: Call, name: str, object_id: str) -> Reply:
    wanted = call.in_query("attributestoretrieve")
    found = api.records.get(name, object_id, None if wanted is None else wanted.split(","))
    if found is None:
        raise Refused(404, "ObjectID does not exist")
    return as_json(found)


@_on("PUT", "/1/indexes/{index}/{object}")
def save_object(api: Api, call: Call, name: str, object_id: str) -> Reply:
    body = {**call.object(), "objectID": object_id}
    task, _ = api.records.write(name, [{"action": "updateObject", "body": body}])
    return as_json({"updatedAt": now(), "taskID": task, "objectID": object_id})


@_on("DELETE", "/1/indexes/{index}/{object}")
def delete_object(api: Api, call: Call, name: str, object_id: str) -> Reply:
    return _deleted(api.records.write(name, [{"action": "deleteObject", "body": {"objectID": object_id}}])[0])


# -- Events -----------------------------------------------------------------------------------------------------------


@_on("POST", "/1/events")
def push_events(api: Api, call: Call) -> Reply:
    if len(call.body) > insights_rules.MAX_BODY_BYTES:
        return as_error(413, "Request Entity Too Large")
    try:
        body = call.decoded()
    except ValueError:
        return Reply(400, _BAD_REQUEST, HTML)
    wrong = insights_rules.refusal(body, call.received_at)
    if wrong is not None:
        return as_error(422, wrong)
    of_users = (event for event in insights_rules.events_of(body) if not insights_rules.is_usage_report(event))
    call.events.extend(ReceivedEvent.of(event, call.received_at) for event in of_users)
    return as_json({"status": 200, "message": "OK"})


@_on("DELETE", "/1/usertokens/{token}")
def delete_user_token(api: Api, call: Call, token: str) -> Reply:
    api.received.forget_user(token)
    return Reply(200, b"")


@_on("DELETE", "/1/profiles/{token}")
def delete_user_profile(api: Api, call: Call, token: str) -> Reply:
    """There are no profiles here to delete, https://www.algolia.com/doc/rest-api/personalization/delete-user-profile."""
    return as_json({"userToken": token, "deletedUntil": now()})


# -- Logs -------------------------------------------------------------------------------------------------------------


@_on("GET", "/1/logs")
def logs(api: Api, call: Call) -> Reply:
    """The newest requests of the Search API first, https://www.algolia.com/doc/rest-api/search/get-logs."""
    if call.restrictions:
        raise Refused(403, "Method not allowed with this API key")
    offset, length = _whole(call.in_query("offset")) or 0, _whole(call.in_query("length")) or 10
    kept = [request for request in reversed(api.received.requests()) if request.path.startswith("/1/indexes")]
    return as_json({"logs": [_log_entry(request) for request in kept[offset : offset + length]]})


def _log_entry(request: ReceivedRequest) -> dict[str, Any]:
    hidden = {name: "********" for name in request.headers if name.lower() == "x-algolia-api-key"}
    headers = {**request.headers, **hidden}
    return {
        "timestamp": written(request.received_at),
        "method": request.method,
        "answer_code": str(request.status or 0),
        "query_body": request.body.decode(errors="replace"),
        "answer": "",
        "url": f"{request.path}?{request.query_string}".rstrip("?"),
        "ip": request.client_ip,
        "query_headers": "\n".join(f"{name}: {value}" for name, value in headers.items()),
        "sha1": "",
        "processing_time_ms": "1",
    }


# Most requests are for few paths.
_find = lru_cache(maxsize=256)(_ROUTES.find)


def _requests(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    requests = body.get("requests")
    if not isinstance(requests, list) or not all(isinstance(request, dict) for request in requests):
        raise Refused(400, "requests: expected an array of objects")
    return requests


def _index_name(request: Mapping[str, Any]) -> str:
    name = request.get("indexName")
    if not isinstance(name, str) or not name:
        raise Refused(400, "indexName: expected the name of an index")
    return name


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 16 else None


def _updated(task: int) -> Reply:
    return as_json({"updatedAt": now(), "taskID": task})


def _deleted(task: int) -> Reply:
    return as_json({"deletedAt": now(), "taskID": task})


def _no_constant(name: str) -> Any:
    # Python reads NaN and Infinity; JSON has neither.
    raise ValueError(f"{name} is not JSON")
