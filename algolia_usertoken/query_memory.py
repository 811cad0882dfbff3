"""A memory of queries: it knows which search led a visitor to an object that they put into the cart or buy later.

It is kept in a session as JSON, with a text for each object:

    {"products": {"p-01": "7.Z7VxX1ffVZbcnG4G.ASNFZ4mrze8BI0VniavN7w"}}

The text has three parts: the position (0: nobody knows); in base64, 4 bytes of when the search was, in seconds since
the epoch, and 8 bytes of a digest of whose it was; and the query id, in base64 if it is hexadecimal, else after a "~".
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterable, MutableMapping
from typing import Any

from .checks import check_number, check_text, check_type, wrong_type
from .context import current_identity
from .events.hits.reference import MAX_AGE, HitReference, from_kept, to_keep
from .events.model import ObjectID
from .events.plain import may_be_list
from .events.plain import object_id as plain_object_id
from .identity import Identity, as_identity

BYTES_PER_ITEM = 87  # of JSON, on average: the usual 40 stay under 3.5 kB

_is_item = re.compile(r"([0-9]{1,9})\.([A-Za-z0-9_-]{16})\.(?:([A-Za-z0-9_-]{22})|~(.+))", re.DOTALL).fullmatch
_is_hex_query_id = re.compile(r"[0-9a-f]{32}").fullmatch


class QueryMemory:
    """Remembers, in a session or any other mapping, which search led a visitor to an object that they may buy later.

        memory = QueryMemory(request.session)
        memory.remember([reference])  # they clicked it, or put it into the cart
        client.events.purchased("Purchased", *memory.recall("products", object_ids), object_data=data)
        memory.forget("products", object_ids)

    It does on the server what search-insights does in the browser (`inferQueryID`). If several searches led to an
    object, the one that was remembered last is used. If there is no room, the oldest search is forgotten first. A login
    changes nothing. If the visitor now has another user token, their events have no query id, as with any
    `HitReference`.

    Args:
        mapping: The mapping that holds the memory: the session of Django, Flask or Starlette, a dict, or a mapping in a
            cache. Each call reads `mapping[key]`. A call that changes it assigns all of it again, so that a session
            notices the change.
        max_items: How many objects to remember at most. One takes 87 bytes of JSON on average, so that 40 take less
            than 3.5 kB, and fit into a session that is stored in a cookie. If they take more on average, fewer are
            remembered.
        key: The key of the memory in the mapping.

    Raises:
        TypeError: `mapping` can't be written to, or another argument is of the wrong type.
        ValueError: `max_items` is below 1, or `key` is empty.

    https://github.com/algolia/search-insights.js
    """

    def __init__(self, mapping: MutableMapping[str, Any], *, max_items: int = 40, key: str = "algolia_queries") -> None:
        # This does not ask for a Mapping, as Django's session is none.
        if not (hasattr(mapping, "__setitem__") and hasattr(mapping, "get")) or isinstance(mapping, type):
            raise wrong_type("mapping", "a mapping that can be written to", mapping)
        check_number("max_items", max_items, 1, whole=True)
        check_text("key", key)
        self._mapping = mapping
        self._max_items = max_items
        self._key = key

    def remember(self, references: Iterable[HitReference], *, identity: Identity | str | None = None) -> None:
        """Remember which search led to these objects. This replaces what was remembered about them before.

        A reference is not remembered if it has no query id, or if its search had no user token. A reference that was
        verified is not remembered either if its search was made for another user. Events with such references would
        have no query id anyway. For a visitor who opted out, nothing is remembered.

        Args:
            references: The references, in a list or another iterable, which `EventSender.references`,
                `HitReference.verify` or `recall` returned.
            identity: The visitor, an `Identity` or a user token. By default, the identity that the context names. Give
                it if only the `resolve` function of the client's token provider knows the visitor.

        Raises:
            TypeError: `references` is no iterable, or has an item that is not a HitReference.
            InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.
        """
        if not may_be_list(references):
            raise wrong_type("references", "a list of HitReference objects", references)
        who = current_identity() if identity is None else as_identity(identity)
        items = self._items()
        changed = False
        is_opted_out = who is not None and who.opted_out
        for reference in references:
            check_type("each of references", reference, HitReference, "a HitReference")
            kept = None if is_opted_out else to_keep(reference, who)
            if kept is None or kept[0] < time.time() - MAX_AGE:
                continue
            place = reference.index_name, reference.object_id
            items.pop(place, None)  # so that it is the last
            items[place] = _Item(reference.query_id or "", reference.position, *kept)
            changed = True
        if changed:
            self._write(items)

    def recall(self, index_name: str, object_ids: Iterable[ObjectID]) -> list[HitReference]:
        """Make a reference for each object.

        Args:
            index_name: The index that the objects are in.
            object_ids: The objectIDs.

        Returns:
            A reference for each object, in the same order, for `EventSender.purchased`, `added_to_cart`, `clicked` and
            `converted`. If no search is remembered for an object, its reference has no query id.

        Raises:
            TypeError, ValueError: An argument is of the wrong type, or is empty.
        """
        wanted = _unknown(index_name, object_ids)
        items = self._items()
        return [
            reference if item is None else item.reference(index_name, reference.object_id)
            for reference in wanted
            for item in [items.get((index_name, reference.object_id))]
        ]

    def forget(self, index_name: str, object_ids: Iterable[ObjectID]) -> None:
        """Forget which search led to these objects, after they were bought.

        Args:
            index_name: The index that the objects are in.
            object_ids: The objectIDs.

        Raises:
            TypeError, ValueError: An argument is of the wrong type, or is empty.
        """
        items = self._items()
        gone = [items.pop((index_name, each.object_id), None) for each in _unknown(index_name, object_ids)]
        if any(gone):
            self._write(items)

    def _items(self) -> dict[tuple[str, str], _Item]:
        """Return what is remembered, the oldest first. Other entries of the mapping are left out."""
        found = self._mapping.get(self._key)
        items: dict[tuple[str, str], _Item] = {}
        oldest = time.time() - MAX_AGE
        for index_name, texts in found.items() if isinstance(found, dict) else ():
            for object_id, text in texts.items() if isinstance(texts, dict) else ():
                item = _Item.of(text) if index_name and object_id else None
                if item is not None and item.searched_at >= oldest:
                    items[index_name, object_id] = item
        return dict(sorted(items.items(), key=lambda item: item[1].searched_at))

    def _write(self, items: dict[tuple[str, str], _Item]) -> None:
        # Where two searches were in the same second, their order stays.
        oldest_first = sorted(items.items(), key=lambda item: item[1].searched_at)
        kept: dict[str, dict[str, str]] = {}
        room = self._max_items * BYTES_PER_ITEM - len("{}")
        for number, ((index_name, object_id), item) in enumerate(reversed(oldest_first)):
            text = item.text
            size = len(f"{json.dumps(object_id)}: {json.dumps(text)}, ")
            if index_name not in kept:
                size += len(f"{json.dumps(index_name)}: {{}}, ")
            if number == self._max_items:
                break
            if size <= room:
                room -= size
                kept.setdefault(index_name, {})[object_id] = text
        self._mapping[self._key] = {
            index_name: dict(reversed(texts.items())) for index_name, texts in reversed(kept.items())
        }


class _Item:
    __slots__ = ("digest", "position", "query_id", "searched_at")

    def __init__(self, query_id: str, position: int | None, searched_at: int, digest: bytes) -> None:
        self.query_id = query_id
        self.position = position
        self.searched_at = searched_at
        self.digest = digest

    def reference(self, index_name: str, object_id: str) -> HitReference:
        return from_kept(self.query_id, index_name, object_id, self.position, self.searched_at, self.digest)

    @property
    def text(self) -> str:
        is_hex = _is_hex_query_id(self.query_id)
        query = _to_base64(bytes.fromhex(self.query_id)) if is_hex else f"~{self.query_id}"
        return f"{self.position or 0}.{_to_base64(self.searched_at.to_bytes(4, 'big') + self.digest)}.{query}"

    @classmethod
    def of(cls, text: object) -> _Item | None:
        """Return the item that this text describes; None if it describes none."""
        found = _is_item(text) if isinstance(text, str) else None
        if found is None:
            return None
        position, whose, query, other = found.groups()
        decoded = base64.urlsafe_b64decode(whose)
        query_id = other or base64.urlsafe_b64decode(f"{query}==").hex()
        return cls(query_id, int(position) or None, int.from_bytes(decoded[:4], "big"), decoded[4:])


def _unknown(index_name: str, object_ids: Iterable[ObjectID]) -> list[HitReference]:
    """References to objects that no search led to."""
    if not may_be_list(object_ids):
        raise wrong_type("object_ids", "a list", object_ids)
    return [HitReference(None, index_name, plain_object_id(object_id)) for object_id in object_ids]


def _to_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
