"""The requests that list and change API keys: https://www.algolia.com/doc/rest-api/search."""

from __future__ import annotations

from .application import Application
from .calls import Call, Reply, as_json
from .index import now
from .keys import ADMIN
from .routes import on


@on("GET", "/1/keys", acl=ADMIN)
def list_keys(app: Application, call: Call) -> Reply:
    return as_json({"keys": app.keys.all()})


@on("POST", "/1/keys", acl=ADMIN)
def add_key(app: Application, call: Call) -> Reply:
    return as_json({"key": app.keys.add(call.object()), "createdAt": now()}, 201)


@on("GET", "/1/keys/{key}", acl=None)
def get_key(app: Application, call: Call, key: str) -> Reply:
    if key != call.named("x-algolia-api-key"):  # every key may read its own settings
        call.grant.check_acl(ADMIN)
    return as_json(app.keys.get(key))


@on("PUT", "/1/keys/{key}", acl=ADMIN)
def update_key(app: Application, call: Call, key: str) -> Reply:
    app.keys.update(key, call.object())
    return as_json({"key": key, "updatedAt": now()})


@on("DELETE", "/1/keys/{key}", acl=ADMIN)
def delete_key(app: Application, call: Call, key: str) -> Reply:
    app.keys.delete(key)
    return as_json({"deletedAt": now()})


@on("POST", "/1/keys/{key}/restore", acl=ADMIN)
def restore_key(app: Application, call: Call, key: str) -> Reply:
    app.keys.restore(key)
    return as_json({"key": key, "createdAt": now()})
