"""The requests for rules and synonyms, which are stored and returned, but affect no search.

https://www.algolia.com/doc/rest-api/search/save-rules and https://www.algolia.com/doc/rest-api/search/save-synonyms
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from .application import Application
from .calls import Call, Reply, as_json, deleted, updated
from .errors import ApiError
from .index import Index, KeptKind, now, to_json
from .parameters import MAX_HITS_PER_PAGE, integer_of, is_true, names_of, text_of
from .records import object_id_of
from .routes import on

_SYNONYM_TYPES = frozenset({"synonym", "onewaysynonym", "altcorrection1", "altcorrection2", "placeholder"})


@dataclass(frozen=True, slots=True)
class _Kind:
    """The differences between rules and synonyms."""

    name: KeptKind
    # The parameter of a batch that says to delete the existing ones first.
    replaces: str
    missing: str
    check: Callable[[Mapping[str, Any]], None]
    id_name: str
    after_delete: Callable[[int], Reply]


def _check_rule(rule: Mapping[str, Any]) -> None:
    if not isinstance(rule.get("consequence"), dict):
        raise ApiError(400, "consequence: expected an object")
    conditions = rule.get("conditions")
    if conditions is not None and not (
        isinstance(conditions, list) and all(isinstance(each, dict) for each in conditions)
    ):
        raise ApiError(400, "conditions: expected an array of objects")


def _check_synonym(synonym: Mapping[str, Any]) -> None:
    kind = synonym.get("type")
    if not isinstance(kind, str) or kind.lower() not in _SYNONYM_TYPES:
        raise ApiError(400, f"type: expected one of {', '.join(sorted(_SYNONYM_TYPES))}")


def _save(kind: _Kind, app: Application, call: Call, name: str, object_id: str) -> Reply:
    body = {**call.object(), "objectID": object_id}
    kind.check(body)
    for index in _targets(app, call, name):
        index.kept[kind.name][object_id] = body
    return as_json({"updatedAt": now(), "taskID": app.records.task(), kind.id_name: object_id})


def _save_all(kind: _Kind, app: Application, call: Call, name: str) -> Reply:
    bodies = call.array()
    for body in bodies:
        object_id_of(body)
        kind.check(body)
    for index in _targets(app, call, name):
        if is_true(call.in_query(kind.replaces)):
            index.kept[kind.name].clear()
        index.kept[kind.name].update((object_id_of(body), dict(body)) for body in bodies)
    return updated(app.records.task())


def _get(kind: _Kind, app: Application, call: Call, name: str, object_id: str) -> Reply:
    found = app.records.index(name).kept[kind.name].get(object_id)
    if found is None:
        raise ApiError(404, kind.missing)
    return as_json(found)


def _delete(kind: _Kind, app: Application, call: Call, name: str, object_id: str) -> Reply:
    for index in _targets(app, call, name):
        index.kept[kind.name].pop(object_id, None)
    return kind.after_delete(app.records.task())


def _clear(kind: _Kind, app: Application, call: Call, name: str) -> Reply:
    for index in _targets(app, call, name):
        index.kept[kind.name].clear()
    return updated(app.records.task())


def _search(kind: _Kind, app: Application, call: Call, name: str) -> Reply:
    """A page of the rules or synonyms that have the words; an empty page if the index does not exist."""
    body = call.object()
    kept = app.records.index(name).kept[kind.name] if name in app.records.names() else {}
    words, types = text_of(body, "query").lower(), {each.lower() for each in names_of(body, "type") or ()}
    found = [each for each in kept.values() if words in to_json(each).lower() and _fits(each, body, types)]
    page, per_page = integer_of(body, "page", 0, 0), integer_of(body, "hitsPerPage", 20, 1, MAX_HITS_PER_PAGE)
    return as_json(
        {
            "hits": found[page * per_page : (page + 1) * per_page],
            "nbHits": len(found),
            "page": page,
            "nbPages": -(-len(found) // per_page),
        }
    )


def _fits(kept: Mapping[str, Any], wanted: Mapping[str, Any], types: set[str]) -> bool:
    conditions = kept.get("conditions") or ()
    enabled = wanted.get("enabled")
    return (
        (not types or str(kept.get("type")).lower() in types)
        and all(
            any(condition.get(name) == wanted[name] for condition in conditions)
            for name in ("context", "anchoring")
            if wanted.get(name)
        )
        and (enabled is None or kept.get("enabled", True) is enabled)
    )


def _targets(app: Application, call: Call, name: str) -> list[Index]:
    return app.records.with_replicas(name, is_true(call.in_query("forwardtoreplicas")))


_RULES = _Kind("rules", "clearexistingrules", "ObjectID does not exist", _check_rule, "objectID", updated)
_SYNONYMS = _Kind("synonyms", "replaceexistingsynonyms", "Synonym set does not exist", _check_synonym, "id", deleted)

for _kind in (_RULES, _SYNONYMS):
    _path = f"/1/indexes/{{index}}/{_kind.name}"
    on("POST", f"{_path}/batch")(partial(_save_all, _kind))
    on("POST", f"{_path}/clear")(partial(_clear, _kind))
    on("POST", f"{_path}/search", acl="settings")(partial(_search, _kind))
    on("GET", f"{_path}/{{object}}")(partial(_get, _kind))
    on("PUT", f"{_path}/{{object}}")(partial(_save, _kind))
    on("DELETE", f"{_path}/{{object}}")(partial(_delete, _kind))
