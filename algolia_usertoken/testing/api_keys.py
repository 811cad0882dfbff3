"""Secured API keys: whether one was made from the stand-in's key, and what it restricts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from urllib.parse import parse_qsl


def restrictions(secured: str, api_key: str) -> dict[str, str] | None:
    """
    The restrictions in a secured API key, or None if it was not made from `api_key`.

    Such a key is the base64 of an HMAC-SHA256 in hexadecimal and the restrictions it signs, URL-encoded
    (https://www.algolia.com/doc/guides/security/api-keys/how-to/user-restricted-access-to-data).
    """
    try:
        text = base64.b64decode(secured, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    signature, signed = text[:64], text[64:]
    expected = hmac.new(api_key.encode(), signed.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        return None
    return dict(parse_qsl(signed, keep_blank_values=True))
