"""The requests for profiles and the strategy of Personalization. The strategy is stored, but affects no search.

https://www.algolia.com/doc/rest-api/personalization
"""

from __future__ import annotations

from typing import Any

from .application import Application
from .calls import Call, Reply, as_json
from .errors import ApiError
from .index import now, written
from .routes import on

_FIELDS: dict[str, type] = {"eventsScoring": list, "facetsScoring": list, "personalizationImpact": int}
_NONE: dict[str, Any] = {"eventsScoring": [], "facetsScoring": [], "personalizationImpact": 0}


@on("GET", "/1/profiles/personalization/{token}", acl="recommendation")
def get_profile(app: Application, call: Call, token: str) -> Reply:
    """The profile of a user who sent events. It has no scores, as only Algolia can compute them."""
    last = max((event.received_at for event in app.received.events() if event.user_token == token), default=None)
    if last is None:
        raise ApiError(404, "userToken not found")
    return as_json({"userToken": token, "lastEventAt": written(last), "scores": {}})


@on("DELETE", "/1/profiles/{token}", acl="recommendation")
def delete_profile(app: Application, call: Call, token: str) -> Reply:
    return as_json({"userToken": token, "deletedUntil": now()})


@on("GET", "/1/strategies/personalization", acl="recommendation")
def get_strategy(app: Application, call: Call) -> Reply:
    return as_json({**_NONE, **app.strategy})


@on("POST", "/1/strategies/personalization", acl="recommendation")
def set_strategy(app: Application, call: Call) -> Reply:
    body = call.object()
    for name, kind in _FIELDS.items():
        if not isinstance(body.get(name), kind) or isinstance(body[name], bool):
            raise ApiError(400, f"{name}: expected {'an integer' if kind is int else 'an array'}")
    app.strategy.update(body)
    return as_json({"message": "Strategy was successfully updated"})
