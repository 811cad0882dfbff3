"""One request to the stand-in and the answer to it, without the network: a `Call` goes in, a `Reply` comes out."""

from __future__ import annotations

import functools
import gzip
import io
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from .errors import ApiError
from .index import now, to_json
from .keys import Grant
from .received import ReceivedEvent, ReceivedRequest, ReceivedSearch

JSON = "application/json; charset=UTF-8"
HTML = "text/html; charset=utf-8"

# The deepest nesting of a body. It is far deeper than real ones; deeper than Python's stack would raise RecursionError.
_DEEPEST = 100
# The most objects and arrays in a body. In a batch of the smallest records each takes 20 bytes, in memory 100 or more.
_MOST_VALUES = 3_000_000
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_without_strings = functools.partial(re.compile(rb'"[^"]*"').sub, b"")


@dataclass(slots=True)
class Call:
    """One request, and the searches and events that were found in it."""

    method: str
    path: str
    query_string: str
    # Header names are found in any case, as in the headers of aiohttp.
    headers: Mapping[str, str]
    body: bytes
    client_ip: str
    received_at: float
    grant: Grant = field(default_factory=Grant)
    searches: list[ReceivedSearch] = field(default_factory=list)
    events: list[ReceivedEvent] = field(default_factory=list)

    def received(self, status: int | None) -> ReceivedRequest:
        """The request as it is kept, with the status of its answer; None if a fault left the client without answer."""
        return ReceivedRequest(
            method=self.method,
            path=self.path,
            query_string=self.query_string,
            headers=self.headers,
            body=self.body,
            status=status,
            client_ip=self.client_ip,
            received_at=self.received_at,
        )

    def in_query(self, name: str) -> str | None:
        """A parameter of the query string, with its name in any case: browsers send the key there."""
        if not self.query_string:
            return None
        for key, value in parse_qsl(self.query_string, keep_blank_values=True):
            if key.lower() == name:
                return value
        return None

    def named(self, name: str) -> str | None:
        """A header, or the parameter of that name in the query string, where browsers put it."""
        return self.headers.get(name) or self.in_query(name)

    def decoded(self) -> Any:
        """The body as JSON, an empty one as `{}`.

        Raises:
            ValueError: The body is not JSON.
            ApiError: The body is nested too deeply, or has too many objects in it.
        """
        if not self.body:
            return {}
        _check_nesting(self.body)
        # The bytes are decoded here as UTF-8, because json would also try UTF-16.
        try:
            return _from_json(self.body.decode())
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises `ApiError` with 400 if it is not one."""
        try:
            body = self.decoded()
        except ValueError:
            raise ApiError(400, "Invalid JSON in the request body") from None
        if not isinstance(body, dict):
            raise ApiError(400, "Expected a JSON object in the request body")
        return body

    def array(self) -> list[dict[str, Any]]:
        """The body as a JSON array of objects. Raises `ApiError` with 400 if it is not one."""
        try:
            body = self.decoded()
        except ValueError:
            raise ApiError(400, "Invalid JSON in the request body") from None
        if not isinstance(body, list) or not all(isinstance(each, dict) for each in body):
            raise ApiError(400, "Expected an array of JSON objects in the request body")
        return body

    def requests(self) -> list[Mapping[str, Any]]:
        """The `requests` of a body that holds several. Raises `ApiError` with 400 if it has none."""
        requests = self.object().get("requests")
        if not isinstance(requests, list) or not all(isinstance(request, dict) for request in requests):
            raise ApiError(400, "requests: expected an array of objects")
        return requests


@dataclass(slots=True)
class Reply:
    """The answer to a call."""

    status: int
    body: bytes
    content_type: str = JSON


def decompressed(body: bytes, encoding: str, most: int) -> bytes:
    """The decompressed body. Raises `ApiError` if it exceeds `most` bytes, or if `encoding` is not its encoding."""
    if encoding.lower() == "gzip":
        try:
            # One byte more than allowed shows that the body is too large. No small body can expand beyond that.
            body = gzip.GzipFile(fileobj=io.BytesIO(body)).read(most + 1)
        except (OSError, EOFError, zlib.error):
            raise ApiError(400, "Content-Encoding: the body is not gzip") from None
    elif encoding.lower() != "identity":
        raise ApiError(400, "Content-Encoding: only gzip is understood")
    if len(body) > most:
        raise ApiError(413, "Request Entity Too Large")
    return body


def as_json(value: Any, status: int = 200) -> Reply:
    return Reply(status, to_json(value).encode())


def as_error(error: ApiError) -> Reply:
    return as_json({"message": error.message, "status": error.status}, error.status)


def updated(task: int) -> Reply:
    return as_json({"updatedAt": now(), "taskID": task})


def deleted(task: int) -> Reply:
    return as_json({"deletedAt": now(), "taskID": task})


def index_name(request: Mapping[str, Any]) -> str:
    """The `indexName` of one of several requests. Raises `ApiError` with 400 if there is none."""
    name = request.get("indexName")
    if not isinstance(name, str) or not name:
        raise ApiError(400, "indexName: expected the name of an index")
    return name


def whole(text: str | None) -> int | None:
    """A number of at most 15 digits in a query string, or None if the text is not one."""
    return int(text) if text is not None and text.isdecimal() and len(text) < 16 else None


def _no_constant(name: str) -> Any:
    # Python reads NaN and Infinity; JSON has neither.
    raise ValueError(f"{name} is not JSON")


# One decoder for all bodies: json.loads would make a new one for each.
_from_json = json.JSONDecoder(parse_constant=_no_constant).decode


def _check_nesting(body: bytes) -> None:
    """Raise `ApiError` if JSON is nested too deeply or holds too many objects and arrays. Takes linear time."""
    if body.count(b"[") + body.count(b"{") <= _DEEPEST:
        return
    without_escapes = body.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets = _without_strings(without_escapes.translate(None, _NO_BRACKETS))
    if len(brackets) > 2 * _MOST_VALUES:
        raise ApiError(413, "Request Entity Too Large")
    for _ in range(_DEEPEST):
        inside_out = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(inside_out) == len(brackets):
            return  # the rest is empty, or is not JSON
        brackets = inside_out
    if brackets:
        raise ApiError(400, "The request body is nested too deeply")
