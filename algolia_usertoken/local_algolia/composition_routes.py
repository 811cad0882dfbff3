"""The requests of the Composition API: https://www.algolia.com/doc/rest-api/composition.

A composition searches the index that its main source names; a composition that was not saved searches the index that
has its own name. Items are not injected, and the rules of compositions do not exist here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .application import Application
from .calls import Call, Reply, as_json, whole
from .errors import ApiError
from .index import to_json
from .parameters import text_of
from .record_routes import get_app_task
from .records import object_id_of
from .routes import on
from .search_routes import facet_hits_of, search


class _Source(NamedTuple):
    """The index and the parameters with which a composition, or one feed of it, searches."""

    feed: str | None
    index_name: str
    params: Mapping[str, Any]


@on("POST", "/1/compositions/{composition}/run", for_pages=True)
def run(app: Application, call: Call, composition: str) -> Reply:
    body = call.object()
    asked = _object(body, "params")
    injected = to_json({"compositions": {composition: {"injectedItems": []}}})[1:-1]
    results = []
    for source in _sources(app, composition, body.get("feedsOrder")):
        answer = search(app, call, "search", source.index_name, _together(source.params, asked))
        feed = "" if source.feed is None else f',"feedID":{to_json(source.feed)}'
        results.append(f"{answer.text[:-1]}{feed},{injected}}}")
    compositions = to_json({"run": [{"objectID": composition}]})
    return Reply(200, f'{{"compositions":{compositions},"results":[{",".join(results)}]}}'.encode())


@on("POST", "/1/compositions/{composition}/facets/{facet}/query", for_pages=True)
def facet_values(app: Application, call: Call, composition: str, facet: str) -> Reply:
    asked = _object(call.object(), "params")
    results = []
    for source in _sources(app, composition, None):
        params = _together(source.params, _object(asked, "searchQuery"))
        params["facetQuery"] = text_of(asked, "query")
        params["maxFacetHits"] = asked.get("maxFacetHits")
        text = facet_hits_of(app, call, source.index_name, facet, params)
        results.append(f'{text[:-1]},"indexName":{to_json(source.index_name)}}}')
    return Reply(200, f'{{"results":[{",".join(results)}]}}'.encode())


@on("GET", "/1/compositions")
def list_all(app: Application, call: Call) -> Reply:
    page, per_page = whole(call.in_query("page")) or 0, whole(call.in_query("hitsperpage")) or 100
    found = list(app.compositions.values())
    return as_json(
        {
            "items": found[page * per_page : (page + 1) * per_page],
            "page": page,
            "nbPages": -(-len(found) // per_page),
            "hitsPerPage": per_page,
            "nbHits": len(found),
        }
    )


@on("GET", "/1/compositions/{composition}")
def get(app: Application, call: Call, composition: str) -> Reply:
    found = app.compositions.get(composition)
    if found is None:
        raise _missing(composition)
    return as_json(found)


@on("PUT", "/1/compositions/{composition}")
def save(app: Application, call: Call, composition: str) -> Reply:
    body = {**call.object(), "objectID": composition}
    list(_sources_in(body, None))
    app.compositions[composition] = body
    return as_json({"taskID": app.records.task()})


@on("DELETE", "/1/compositions/{composition}")
def delete(app: Application, call: Call, composition: str) -> Reply:
    app.compositions.pop(composition, None)
    return as_json({"taskID": app.records.task()})


@on("POST", "/1/compositions/*/batch")
def batch(app: Application, call: Call) -> Reply:
    changes: dict[str, dict[str, Any] | None] = {}
    for request in call.requests():
        body = _object(request, "body")
        if request.get("action") not in ("upsert", "delete"):
            raise ApiError(400, 'action: expected "upsert" or "delete"')
        upsert = request["action"] == "upsert"
        if upsert:
            list(_sources_in(body, None))
        changes[object_id_of(body)] = body if upsert else None
    for name, change in changes.items():
        if change is None:
            app.compositions.pop(name, None)
        else:
            app.compositions[name] = change
    return as_json({"taskID": {name: app.records.task() for name in changes}})


@on("GET", "/1/compositions/{composition}/task/{task}", acl=None)
def get_task(app: Application, call: Call, composition: str, task: str) -> Reply:
    return get_app_task(app, call, task)


def _sources(app: Application, composition: str, order: Any) -> list[_Source]:
    saved = app.compositions.get(composition)
    if saved is not None:
        return list(_sources_in(saved, order))
    if composition not in app.records.names():
        raise _missing(composition)
    return [_Source(None, composition, {})]


def _sources_in(saved: Mapping[str, Any], order: Any) -> Iterator[_Source]:
    """The source of a composition, or of each of its feeds, in the requested order or else in its own order."""
    behavior = _object(saved, "behavior")
    if "multifeed" not in behavior:
        yield _source(None, behavior)
        return
    multifeed = _object(behavior, "multifeed")
    feeds = _object(multifeed, "feeds")
    wanted = order or multifeed.get("feedsOrder") or list(feeds)
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise ApiError(400, "feedsOrder: expected an array of strings")
    for name in wanted:
        if name in feeds:
            yield _source(name, _object(feeds, name))


def _source(feed: str | None, behavior: Mapping[str, Any]) -> _Source:
    source = _object(_object(_object(behavior, "injection"), "main"), "source")
    recommends = "recommend" in source
    main = _object(source, "recommend" if recommends else "search")
    index = main.get("indexName" if recommends else "index")
    if not isinstance(index, str) or not index:
        raise ApiError(400, "behavior: the main source needs the name of an index")
    return _Source(feed, index, _object(main, "queryParameters" if recommends else "params"))


def _together(own: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a composition and of a request to it: the request's win, but the filters of both must hold."""
    filters = tuple(text for text in (own.get("filters"), asked.get("filters")) if text)
    return {**own, **asked, **({"filters": filters if len(filters) > 1 else filters[0]} if filters else {})}


def _object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = {} if body.get(name) is None else body[name]
    if not isinstance(value, dict):
        raise ApiError(400, f"{name}: expected an object")
    return value


def _missing(composition: str) -> ApiError:
    return ApiError(404, f"Composition {composition} does not exist")
