"""The requests that read and write records, settings and indices: https://www.algolia.com/doc/rest-api/search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .application import Application
from .calls import Call, Reply, as_json, deleted, index_name, updated, whole
from .errors import ApiError
from .index import now, with_attributes
from .matching import filters_of, matching_records, passes
from .parameters import is_true, merged_params
from .records import object_id_of
from .routes import on


@on("POST", "/1/indexes/*/batch", records=True, acl="addObject")
def multi_batch(app: Application, call: Call) -> Reply:
    by_index: dict[str, list[Mapping[str, Any]]] = {}
    for request in call.requests():
        name = index_name(request)
        call.grant.check_index(name)
        by_index.setdefault(name, []).append(request)
    tasks, object_ids = {}, []
    for name, requests in by_index.items():
        tasks[name], changed = app.records.write(name, requests)
        object_ids += changed
    return as_json({"taskID": tasks, "objectIDs": object_ids})


@on("POST", "/1/indexes/*/objects", for_pages=True)
def get_objects(app: Application, call: Call) -> Reply:
    found = []
    for request in call.requests():
        name = index_name(request)
        call.grant.check_index(name)
        found.append(_get(app, call, name, object_id_of(request), request.get("attributesToRetrieve")))
    return as_json({"results": found})


def _get(app: Application, call: Call, name: str, object_id: str, attributes: Iterable[str] | None) -> Any:
    """The record, or None if there is none, or if the filters of the key hide it."""
    index = app.records.index(name)
    record = index.records.get(object_id)
    if record is None or not passes(record.data, call.grant.params):
        return None
    return with_attributes(record.data, attributes, index.settings.get("unretrievableAttributes") or ())


@on("POST", "/1/indexes/{index}/batch", records=True, acl="addObject")
def batch(app: Application, call: Call, name: str) -> Reply:
    task, object_ids = app.records.write(name, call.requests())
    return as_json({"taskID": task, "objectIDs": object_ids})


@on("POST", "/1/indexes/{index}/clear", acl="deleteIndex")
def clear(app: Application, call: Call, name: str) -> Reply:
    return updated(app.records.write(name, [{"action": "clear"}])[0])


@on("POST", "/1/indexes/{index}/deleteByQuery", acl="deleteIndex")
def delete_by_query(app: Application, call: Call, name: str) -> Reply:
    matching = matching_records(app.records.index(name), (), filters_of(merged_params(call.object())))
    gone = [{"action": "deleteObject", "body": {"objectID": record.object_id}} for record in matching]
    return updated(app.records.write(name, gone)[0])


@on("POST", "/1/indexes/{index}/operation", acl="addObject")
def operation(app: Application, call: Call, name: str) -> Reply:
    body = call.object()
    kind, destination, scope = body.get("operation"), body.get("destination"), body.get("scope")
    if kind not in ("copy", "move"):
        raise ApiError(400, 'operation: expected "copy" or "move"')
    if not isinstance(destination, str) or not destination:
        raise ApiError(400, "destination: expected the name of an index")
    call.grant.check_index(destination)
    if scope is not None and not isinstance(scope, list):
        raise ApiError(400, "scope: expected an array")
    return updated(app.records.copy(name, destination, scope, move=kind == "move"))


@on("GET", "/1/indexes/{index}/settings")
def get_settings(app: Application, call: Call, name: str) -> Reply:
    return as_json(app.records.settings(name))


@on("PUT", "/1/indexes/{index}/settings")
def set_settings(app: Application, call: Call, name: str) -> Reply:
    return updated(app.records.set_settings(name, call.object(), is_true(call.in_query("forwardtoreplicas"))))


@on("GET", "/1/indexes/{index}/task/{task}", acl=None)
def get_task(app: Application, call: Call, name: str, task: str) -> Reply:
    return get_app_task(app, call, task)


@on("GET", "/1/task/{task}", acl=None)
def get_app_task(app: Application, call: Call, task: str) -> Reply:
    if not task.isdecimal():
        raise ApiError(400, "taskID: expected an integer")
    return as_json({"status": "published", "pendingTask": False})


@on("GET", "/1/indexes", acl="listIndexes")
def list_indices(app: Application, call: Call) -> Reply:
    items = []
    for name in filter(call.grant.allows_index, app.records.names()):
        index = app.records.index(name)
        size = sum(len(record.json) for record in index.records.values())
        items.append(
            {
                "name": name,
                "createdAt": index.created_at,
                "updatedAt": index.contents.updated_at,
                "entries": len(index.records),
                "dataSize": size,
                "fileSize": size,
                "lastBuildTimeS": 0,
                "numberOfPendingTasks": 0,
                "pendingTask": False,
                **({} if index.primary is None else {"primary": index.primary}),
                **({"replicas": index.replicas} if index.replicas else {}),
            }
        )
    page, per_page = whole(call.in_query("page")), whole(call.in_query("hitsperpage")) or 100
    if page is None:
        return as_json({"items": items, "nbPages": 1})
    start = page * per_page
    return as_json({"items": items[start : start + per_page], "nbPages": -(-len(items) // per_page)})


@on("POST", "/1/indexes/{index}", records=True, acl="addObject")
def add_object(app: Application, call: Call, name: str) -> Reply:
    task, (object_id,) = app.records.write(name, [{"action": "addObject", "body": call.object()}])
    return as_json({"createdAt": now(), "taskID": task, "objectID": object_id}, 201)


@on("DELETE", "/1/indexes/{index}", acl="deleteIndex")
def delete_index(app: Application, call: Call, name: str) -> Reply:
    return deleted(app.records.delete_index(name))


@on("POST", "/1/indexes/{index}/{object}/partial", records=True, acl="addObject")
def partial_update(app: Application, call: Call, name: str, object_id: str) -> Reply:
    create = is_true(call.in_query("createifnotexists") or "true")
    task = app.records.partial(name, object_id, call.object(), create)
    return as_json({"updatedAt": now(), "taskID": task, "objectID": object_id})


@on("GET", "/1/indexes/{index}/{object}", for_pages=True)
def get_object(app: Application, call: Call, name: str, object_id: str) -> Reply:
    wanted = call.in_query("attributestoretrieve")
    found = _get(app, call, name, object_id, None if wanted is None else wanted.split(","))
    if found is None:
        raise ApiError(404, "ObjectID does not exist")
    return as_json(found)


@on("PUT", "/1/indexes/{index}/{object}", records=True, acl="addObject")
def save_object(app: Application, call: Call, name: str, object_id: str) -> Reply:
    body = {**call.object(), "objectID": object_id}
    task, _ = app.records.write(name, [{"action": "updateObject", "body": body}])
    return as_json({"updatedAt": now(), "taskID": task, "objectID": object_id})


@on("DELETE", "/1/indexes/{index}/{object}", acl="deleteObject")
def delete_object(app: Application, call: Call, name: str, object_id: str) -> Reply:
    return deleted(app.records.write(name, [{"action": "deleteObject", "body": {"objectID": object_id}}])[0])
