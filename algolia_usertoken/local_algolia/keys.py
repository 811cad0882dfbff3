"""API keys and what they allow: the application's own key, the keys added to it, and secured keys made from these."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from .errors import ApiError

# https://www.algolia.com/doc/guides/security/api-keys#access-control-list-acl
ACL = (
    "addObject",
    "analytics",
    "browse",
    "deleteIndex",
    "deleteObject",
    "editSettings",
    "inference",
    "listIndexes",
    "logs",
    "nluReadAnswers",
    "nluReadEntity",
    "nluReadProject",
    "nluWriteEntity",
    "nluWriteProject",
    "personalization",
    "recommendation",
    "search",
    "seeUnretrievableAttributes",
    "settings",
    "usage",
)
ADMIN = "admin"
# With Algolia, a secured key is never made from an Admin API key. Here there is only one key at first, so a secured key
# made from it allows as much as one made from a search-only key, and exports too.
_OF_A_SECURED_KEY = frozenset({"search", "browse"})
# The parts of a secured key that are not search parameters.
_NO_PARAMETERS = {"validUntil", "restrictIndices", "restrictSources", "userToken", "referers"}
# For these parameters, the filters of the key and those of the caller must both hold. For all others, the key's win.
_FILTERS = ("facetFilters", "numericFilters", "tagFilters")

_WRONG_KEY = "Invalid Application-ID or API key"
_NOT_WITH_THIS_KEY = "Method not allowed with this API key"
_NO_SUCH_KEY = "Key does not exist"


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights that a key grants.

    `indices` has lists of names with wildcards; in each list, at least one name must fit. `params` are the search
    parameters that apply to every search.
    """

    acl: frozenset[str] = frozenset()
    indices: tuple[tuple[str, ...], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    user_token: str | None = None

    def check_acl(self, acl: str) -> None:
        """Raise `ApiError` with 403 unless the key has this permission."""
        if acl not in self.acl and ADMIN not in self.acl:
            raise ApiError(403, _NOT_WITH_THIS_KEY)

    def allows_index(self, name: str) -> bool:
        """Whether the key may use this index."""
        return all(any(_fits(name, pattern) for pattern in patterns) for patterns in self.indices)

    def check_index(self, name: str) -> None:
        """Raise `ApiError` with 403 unless the key may use this index."""
        if not self.allows_index(name):
            raise ApiError(403, "Index not allowed with this API key")


@dataclass(slots=True)
class _Key:
    value: str
    created_at: float
    settings: dict[str, Any]  # as the client sent them

    @property
    def grant(self) -> Grant:
        indexes = tuple(self.settings.get("indexes") or ())
        return Grant(
            acl=frozenset(self.settings["acl"]),
            indices=(indexes,) if indexes else (),
            params=_parameters(self.settings.get("queryParameters") or ""),
        )

    def expired(self, now: float) -> bool:
        validity = self.settings.get("validity") or 0
        return validity > 0 and self.created_at + validity < now

    def as_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "createdAt": int(self.created_at),
            "validity": 0,
            **{name: value for name, value in self.settings.items() if value is not None},
        }


_EVERYTHING = Grant(acl=frozenset({ADMIN}))


class Keys:
    """The keys of one application.

    Args:
        api_key: The application's own key, which allows everything.
    """

    def __init__(self, api_key: str) -> None:
        self._own = api_key
        own = _Key(api_key, time.time(), {"acl": list(ACL), "description": "The key of LocalAlgolia"})
        self._keys = {api_key: own}
        self._deleted: dict[str, _Key] = {}

    def grant(self, key: str, now: float) -> Grant:
        """The rights of a key at the time `now`, in seconds since the epoch. Raises `ApiError` with 403 if invalid."""
        if key == self._own:
            return _EVERYTHING
        known = self._keys.get(key)
        if known is not None and not known.expired(now):
            return known.grant
        signature, signed = _parts(key)
        for parent in list(self._keys.values()):
            expected = hmac.new(parent.value.encode(), signed.encode(), hashlib.sha256).hexdigest()
            if hmac.compare_digest(signature.encode(), expected.encode()) and not parent.expired(now):
                return _restricted(parent.grant, signed, now, own=parent.value == self._own)
        raise ApiError(403, _WRONG_KEY)

    def all(self) -> list[dict[str, Any]]:
        return [key.as_json() for key in list(self._keys.values())]

    def get(self, key: str) -> dict[str, Any]:
        return self._known(key).as_json()

    def add(self, settings: Mapping[str, Any]) -> str:
        """Make a key, and return it."""
        value = secrets.token_hex(16)
        self._keys[value] = _Key(value, time.time(), _checked(settings))
        return value

    def update(self, key: str, settings: Mapping[str, Any]) -> None:
        self._changeable(key).settings = _checked(settings)

    def delete(self, key: str) -> None:
        self._deleted[key] = self._changeable(key)
        del self._keys[key]

    def restore(self, key: str) -> None:
        deleted = self._deleted.pop(key, None)
        if deleted is None:
            raise ApiError(404, _NO_SUCH_KEY)
        self._keys[key] = deleted

    def _known(self, key: str) -> _Key:
        known = self._keys.get(key)
        if known is None:
            raise ApiError(404, _NO_SUCH_KEY)
        return known

    def _changeable(self, key: str) -> _Key:
        if key == self._own:
            raise ApiError(400, "The key of LocalAlgolia itself can't be changed")
        return self._known(key)


def signed_in(key: str) -> dict[str, str]:
    """The restrictions in a secured key, whichever key it was made from; empty for other keys."""
    signature, signed = _parts(key)
    return _parameters(signed) if re.fullmatch("[0-9a-f]{64}", signature) else {}


def with_restrictions(params: Mapping[str, Any], restricted: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a search under a key: the key's parameters win, but the filters of both must hold.

    Two texts of `filters` become a tuple of both: joined to one text, they could mean something else.
    """
    if not restricted:
        return params
    joined: dict[str, Any] = {**params, **restricted}
    if restricted.get("filters") and params.get("filters"):
        joined["filters"] = (*_texts(restricted["filters"]), *_texts(params["filters"]))
    for name in _FILTERS:
        if restricted.get(name) and params.get(name):
            joined[name] = [*_listed(restricted[name]), *_listed(params[name])]
    return joined


def _texts(filters: Any) -> tuple[Any, ...]:
    return filters if isinstance(filters, tuple) else (filters,)


def _restricted(parent: Grant, signed: str, now: float, *, own: bool) -> Grant:
    said = _parameters(signed)
    if "validUntil" in said and not _is_later(said["validUntil"], now):
        raise ApiError(403, '"validUntil" parameter expired (less than current date)')
    indices = parent.indices
    if said.get("restrictIndices"):
        indices = (*indices, tuple(map(str, _listed(said["restrictIndices"]))))
    params = {name: value for name, value in said.items() if name not in _NO_PARAMETERS}
    return Grant(
        acl=_OF_A_SECURED_KEY if own else parent.acl,
        indices=indices,
        params=with_restrictions(params, parent.params),
        user_token=said.get("userToken") or None,
    )


def _is_later(text: str, now: float) -> bool:
    try:
        return float(text) >= now
    except ValueError:
        return False


def _parameters(text: str) -> dict[str, str]:
    return dict(parse_qsl(text.removeprefix("?"), keep_blank_values=True))


def _listed(value: Any) -> list[Any]:
    """A list that may be written as JSON, or as text with commas."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ApiError(400, "Expected an array") from None
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value if isinstance(value, list) else [value]


def _fits(name: str, pattern: str) -> bool:
    """Whether the name of an index fits a pattern, which may begin and end with `*`."""
    inner = pattern.strip("*")
    if pattern.startswith("*") and (pattern.endswith("*") or not inner):
        return inner in name
    if pattern.startswith("*"):
        return name.endswith(inner)
    return name.startswith(inner) if pattern.endswith("*") else name == pattern


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    acl = settings.get("acl")
    if not isinstance(acl, list) or not all(isinstance(each, str) and each in ACL for each in acl):
        raise ApiError(400, "acl: expected an array of permissions")
    for name, kind in (("indexes", list), ("referers", list), ("queryParameters", str), ("description", str)):
        if not isinstance(settings.get(name), (kind, type(None))):
            raise ApiError(400, f"{name}: expected {'an array of strings' if kind is list else 'a string'}")
    for name in ("indexes", "referers"):
        if not all(isinstance(each, str) for each in settings.get(name) or ()):
            raise ApiError(400, f"{name}: expected an array of strings")
    for name in ("validity", "maxHitsPerQuery", "maxQueriesPerIPPerHour"):
        number = settings.get(name)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
            raise ApiError(400, f"{name}: expected an integer, at least 0")
    return {name: value for name, value in settings.items() if name not in ("value", "createdAt")}


def _parts(secured: str) -> tuple[str, str]:
    """The signature of a secured key, and the text that it signs; both are empty if it is not a secured key.

    Such a key is the base64 of an HMAC-SHA256 in hexadecimal and the restrictions that it signs, URL-encoded
    (https://www.algolia.com/doc/guides/security/api-keys/how-to/user-restricted-access-to-data).
    """
    try:
        text = base64.b64decode(secured, validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    return text[:64], text[64:]
