"""HitReference: says which hit of which search somebody saw, for an event about this hit in a later request.

Nothing here does I/O. A signed reference is a version, "1", and base64 without padding of:

    4 bytes   when it was signed, in seconds since the epoch
    1 byte    1: the search carried a user token, and 8 bytes of its digest follow;
              + 2: it was signed a minute or more after the search, and the seconds between follow
    the hit   kind of query id (none, 16 bytes, text), the query id, index, position (0: none), object id
    16 bytes  HMAC-SHA256 of everything before, including the version

Numbers without a size are varints (seven bits per byte, lowest bits first). Texts are UTF-8, preceded by their length;
the object id has no length and takes the remaining bytes.
"""

from __future__ import annotations

import base64
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...checks import check_number, check_text, type_name
from ...errors import InvalidReferenceError
from ...identity import Identity, as_identity, checked_user_token, key_of

MAX_AGE = 30 * 24 * 60 * 60  # seconds
COUNTED_FOR = 60 * 60 * 1000  # milliseconds after a search during which an event counts in click analytics
_AT_ONCE = 60  # seconds after a search within which its references are usually signed
_CLOCKS_DIFFER = 60  # seconds by which a signer's clock may be ahead of ours

_VERSION = "1"
_MAC = 16  # bytes
_DIGEST = 8  # bytes
# A pseudonymous token is also an HMAC, of a user's id, perhaps with the same secret. The labels of these keys are not
# valid UTF-8, so that nobody can choose an id whose token is one of these keys.
_SIGNING_KEY = b"\xffalgolia-usertoken HitReference signature"
_DIGEST_KEY = b"\xffalgolia-usertoken HitReference user token"
# The key of a memory of queries. It is not secret: the memory belongs to the visitor, and the digest only tells whether
# the visitor is somebody else now.
_MEMORY_KEY = b"\xffalgolia-usertoken QueryMemory user token"
_NO_QUERY_ID, _HEX_QUERY_ID, _OTHER_QUERY_ID = range(3)
_is_text = re.compile(r"[0-9][A-Za-z0-9_-]{32,}").fullmatch
_is_hex_query_id = re.compile(r"[0-9a-f]{32}").fullmatch


@dataclass(frozen=True, slots=True, init=False)
class HitReference:
    """A reference to a hit of a search, for the events about the hit later: clicks, additions to a cart, purchases.

    `EventSender.references` makes references from search results. Its methods `clicked`, `converted`, `added_to_cart`
    and `purchased` send events about them. Until then a reference can be kept as it is, or go through a page as the
    text that `sign` makes. It can be pickled; after `verify` it contains a key that is made from the secret.

    A reference knows the user and the time of its search. The time is when the reference was made, not when it was
    signed. Comparisons ignore both, and `repr`, which is safe to log, does not show them.

    Args:
        query_id: The `queryID` of the search, from its response. None: no search led to the object.
        index_name: The index that the object is in.
        object_id: The `objectID` of the hit.
        position: The position of the hit in the results, from 1, counted over all pages. None: not known.
        user_token: The user token of the search. None: the search had no user token.

    Raises:
        TypeError, ValueError: An argument has a wrong type or a wrong value, or is empty.
        InvalidUserTokenError: Algolia does not accept `user_token`.

    https://support.algolia.com/hc/en-us/articles/9671338778385
    """

    query_id: str | None
    index_name: str
    object_id: str
    position: int | None
    # Whose search it was: a user token, or for a verified reference a key and a digest of the token; None for nobody.
    _owner: str | tuple[bytes, bytes] | None = field(init=False, repr=False, compare=False)
    _searched_at: int = field(init=False, repr=False, compare=False)  # seconds since the epoch; at the search or later

    def __init__(
        self,
        query_id: str | None,
        index_name: str,
        object_id: str,
        position: int | None = None,
        *,
        user_token: str | None = None,
    ) -> None:
        if query_id is not None:
            check_text("query_id", query_id)
        check_text("index_name", index_name)
        check_text("object_id", object_id)
        if position is not None:
            check_number("position", position, 1, whole=True, hint="it counts from 1, over all pages")
        if user_token is not None:
            user_token = checked_user_token(user_token, "user_token")
        self._set(query_id, index_name, object_id, position, user_token, int(time.time()))

    def _set(self, *values: object) -> None:
        for name, value in zip(HitReference.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    def made_for(self, identity: Identity | str | None) -> bool:
        """Tell whether the search was made for this identity.

        Args:
            identity: The identity; a string is a user token. None: nobody.

        Returns:
            True if the search had the same user token as `identity`, or if both have none.

        Raises:
            InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.
        """
        token = token_of(as_identity(identity))
        owner = self._owner
        if token is None or owner is None:
            return owner is token
        if isinstance(owner, str):
            return owner == token
        key, digest = owner
        return hmac.compare_digest(digest, _digest(key, token, self._packed()))

    def sign(self, secret: str | bytes) -> str:
        """Make a signed text of the reference, for a link, a form or a session. Nobody can forge it without the secret.

        The text has letters, digits, `-` and `_`: 81 characters for the object "1234" of the index "products". Anybody
        can decode all fields and the time, but nobody without the secret can tell whose search it was.

        Args:
            secret: A key of your own that stays on the server, of at least one character.

        Returns:
            The text, which `verify` takes.

        Raises:
            TypeError: `secret` is neither a string nor bytes.
            ValueError: `secret` is empty, or this reference was verified with another secret, and can be signed with
                that secret only.

        https://www.rfc-editor.org/rfc/rfc2104
        """
        signing_key, digest_key = _keys(secret)
        packed = self._packed()
        owner = self._owner
        if owner is None:
            digest = b""
        elif isinstance(owner, str):
            digest = _digest(digest_key, owner, packed)
        elif owner[0] == digest_key:
            digest = owner[1]
        else:
            raise ValueError("secret is not the one that this reference was verified with: sign it with that one")
        now = int(time.time())
        age = now - self._searched_at
        is_later = age >= _AT_ONCE
        flags = bytes([(owner is not None) + 2 * is_later])
        body = now.to_bytes(4, "big") + flags + digest + (_varint(age) if is_later else b"") + packed
        return _VERSION + _to_base64(body + _mac(signing_key, body))

    @classmethod
    def verify(cls, text: str | None, secret: str | bytes, *, max_age: float | None = MAX_AGE) -> HitReference:
        """Make the reference from the text that `sign` made.

        Args:
            text: The text that came back. None, if a form or a link lacks it, raises an `InvalidReferenceError`.
            secret: The secret that the text was signed with.
            max_age: How many seconds ago the text may have been signed. None: any number. By default 30 days, because
                Algolia does not accept older events.

        Returns:
            The reference.

        Raises:
            InvalidReferenceError: The text is not a reference, its signature does not match (the text was changed, or
                signed with another secret), or it is too old, from the future, or of another version.
            TypeError: `secret` is neither a string nor bytes, or `max_age` is no number.
            ValueError: `secret` is empty, or `max_age` is below 0.

        https://www.rfc-editor.org/rfc/rfc2104
        """
        signing_key, digest_key = _keys(secret)
        if max_age is not None:
            check_number("max_age", max_age, 0, unit="seconds")
        if not isinstance(text, str):
            is_missing = text is None
            raise InvalidReferenceError(
                "the reference is missing: it must be a text that sign() made"
                if is_missing
                else f"the reference must be a text that sign() made, not {type_name(text)}"
            )
        if not _is_text(text):
            raise InvalidReferenceError(_not_signed(text))
        if text[0] != _VERSION:
            raise InvalidReferenceError(
                f"the reference has version {text[0]}: this package reads and makes version {_VERSION}"
            )
        signed = _from_base64(text[1:])
        body, mac = signed[:-_MAC], signed[-_MAC:]
        if not hmac.compare_digest(mac, _mac(signing_key, body)):
            raise InvalidReferenceError(
                "the signature does not match: the text was changed, or it was signed with another secret"
            )
        signed_at = int.from_bytes(body[:4], "big")
        _check_age(signed_at, max_age)
        at = 5 + _DIGEST if body[4] & 1 else 5
        owner = (digest_key, body[5:at]) if body[4] & 1 else None
        age, at = _number_at(body, at) if body[4] & 2 else (0, at)
        reference = object.__new__(cls)
        reference._set(*_unpacked(body[at:]), owner, signed_at - age)
        return reference

    def _packed(self) -> bytes:
        if self.query_id is None:
            query_id = bytes([_NO_QUERY_ID])
        elif _is_hex_query_id(self.query_id):
            query_id = bytes([_HEX_QUERY_ID]) + bytes.fromhex(self.query_id)
        else:
            query_id = bytes([_OTHER_QUERY_ID]) + _with_length(_utf8(self.query_id))
        index_name, position = _with_length(_utf8(self.index_name)), _varint(self.position or 0)
        return query_id + index_name + position + _utf8(self.object_id)


def _set_state(reference: HitReference, state: Sequence[object]) -> None:
    # An earlier version pickled no time, so the search gets the present time; it was certainly not later.
    for name, value in zip(HitReference.__slots__, [*state, int(time.time())], strict=False):
        object.__setattr__(reference, name, value)


HitReference.__setstate__ = _set_state  # type: ignore[attr-defined]  # set here, as Python 3.10 would replace it


def to_keep(reference: HitReference, identity: Identity | None) -> tuple[int, bytes] | None:
    """The time of the search, in seconds since the epoch, and a digest of its user token, for a memory of queries.

    None if no search led to the object, if the search had no user token, or if the token is not known: a verified
    reference only tells whether it was made for `identity`.
    """
    if reference.query_id is None:
        return None
    owner = reference._owner
    if isinstance(owner, tuple):
        key, digest = owner
        if key == _MEMORY_KEY:
            return reference._searched_at, digest
        owner = token_of(identity) if reference.made_for(identity) else None
    if owner is None:
        return None
    return reference._searched_at, _digest(_MEMORY_KEY, owner, reference._packed())


def from_kept(
    query_id: str, index_name: str, object_id: str, position: int | None, searched_at: int, digest: bytes
) -> HitReference:
    """The reference for which `to_keep` returned `searched_at` and `digest`."""
    reference = object.__new__(HitReference)
    reference._set(query_id, index_name, object_id, position, (_MEMORY_KEY, digest), searched_at)
    return reference


def is_old(reference: HitReference, now: int) -> bool:
    """Whether the search was more than one hour before `now` (milliseconds since the epoch)."""
    return now - reference._searched_at * 1000 > COUNTED_FOR


def token_of(identity: Identity | None) -> str | None:
    """The user token that searches and events of `identity` carry."""
    if identity is None or identity.opted_out:
        return None
    return identity.user_token if identity.user_token is not None else identity.authenticated_user_token


def _unpacked(packed: bytes) -> tuple[str | None, str, str, int | None]:
    kind, at = packed[0], 1
    query_id = None
    if kind == _HEX_QUERY_ID:
        query_id, at = packed[1:17].hex(), 17
    elif kind == _OTHER_QUERY_ID:
        query_id, at = _text_at(packed, at)
    index_name, at = _text_at(packed, at)
    position, at = _number_at(packed, at)
    return query_id, index_name, packed[at:].decode("utf-8", "surrogatepass"), position or None


def _check_age(signed_at: int, max_age: float | None) -> None:
    age = int(time.time()) - signed_at
    if age < -_CLOCKS_DIFFER:
        raise InvalidReferenceError(
            f"the reference is from the future: it was signed {-age} seconds from now, by a server with another clock"
        )
    if max_age is not None and age > max_age:
        raise InvalidReferenceError(
            f"the reference is too old: it was signed {age} seconds ago, and max_age is {max_age} seconds"
        )


def _keys(secret: str | bytes) -> tuple[bytes, bytes]:
    key = key_of(secret, "sign references")
    return hmac.digest(key, _SIGNING_KEY, "sha256"), hmac.digest(key, _DIGEST_KEY, "sha256")


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, _VERSION.encode() + body, "sha256")[:_MAC]


def _digest(key: bytes, user_token: str, packed: bytes) -> bytes:
    # The digest includes the hit, so that nobody can tell whether two links belong to the same user.
    return hmac.digest(key, user_token.encode() + b"\0" + packed, "sha256")[:_DIGEST]


def _to_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _from_base64(text: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        data = b""
    # For some lengths, the last character has unused bits. A text that differs only in these must not be accepted.
    if _to_base64(data) != text:
        raise InvalidReferenceError(_not_signed(text))
    return data


def _not_signed(text: str) -> str:
    return f"the text is no reference: sign() has not made it (it has {len(text)} characters)"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _with_length(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _number_at(data: bytes, at: int) -> tuple[int, int]:
    """The varint at this offset, and the offset after it."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte <= 0x7F:
            return number, at


def _text_at(data: bytes, at: int) -> tuple[str, int]:
    length, at = _number_at(data, at)
    return data[at : at + length].decode("utf-8", "surrogatepass"), at + length
