"""Secured API keys: whether one was made from the stand-in's key, and what it restricts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from urllib.parse import parse_qsl


def restrictions(secured: str, api_key: str) -> dict[str, str] | None:
    """
    The restrictions in a secured API key, or None if it was not made from `api_key`.

    Such a key is the base64 of an HMAC-SHA256 in hexadecimal and the restrictions it signs, URL-encoded
    (https://www.algolia.com/doc/guides/security/api-keys/how-to/user-restricted-access-to-data).
    """
    signature, signed = _parts(secured)
    expected = hmac.new(api_key.encode(), signed.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        return None
    return dict(parse_qsl(signed, keep_blank_values=True))


def signed_in(key: str) -> dict[str, str]:
    """What a key restricts if it is a secured one, whichever it was made from; for other keys nothing."""
    signature, signed = _parts(key)
    return dict(parse_qsl(signed)) if re.fullmatch("[0-9a-f]{64}", signature) else {}


def _parts(secured: str) -> tuple[str, str]:
    """The signature of a secured key, and what it signs; both empty if it is none."""
    try:
        text = base64.b64decode(secured, validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    return text[:64], text[64:]
