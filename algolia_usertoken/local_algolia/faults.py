"""Faults that a test can ask for: the next matching requests get an error, a late answer, or no answer."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

_is_header_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # a token: RFC 9110, 5.6.2

FaultKind = Literal["answer", "delay", "hang", "drop"]


@dataclass(slots=True)
class Fault:
    """One fault for `left` more requests; if `left` is None, for all requests until the faults are cleared."""

    kind: FaultKind
    left: int | None
    path: str | re.Pattern[str] | None
    method: str | None
    delay: float = 0.0
    status: int = 503
    body: bytes = b""
    headers: Mapping[str, str] | None = None
    # Whether a request is carried out before its connection is dropped.
    processed: bool = False

    def fits(self, method: str, path: str) -> bool:
        if self.method is not None and self.method != method:
            return False
        if isinstance(self.path, str):
            return path.startswith(self.path)
        return self.path is None or self.path.search(path) is not None


class Faults:
    """The faults still to come, used in the order in which they were added. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def next_for(self, method: str, path: str) -> Fault | None:
        """The first fault that fits this request; it then has one request less left."""
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults:
                if not fault.fits(method, path):
                    continue
                if fault.left is not None:
                    fault.left -= 1
                    if fault.left == 0:
                        self._faults.remove(fault)
                return fault
        return None


def checked_times(times: Any) -> int | None:
    if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
        raise ValueError(f"times must be an integer of at least 1, or None for every request, not {times!r}")
    return times


def checked_seconds(name: str, seconds: Any) -> float:
    number = not isinstance(seconds, bool) and isinstance(seconds, (int, float))
    if not number or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{name} must be a number of seconds, 0 or more, not {seconds!r}")
    return float(seconds)


def checked_path(path: Any) -> str | re.Pattern[str] | None:
    if path is None or isinstance(path, str):
        return path
    if isinstance(path, re.Pattern) and isinstance(path.pattern, str):
        return path
    raise ValueError(f"path must be a string, the beginning of a path, or a compiled pattern of str, not {path!r}")


def checked_method(method: Any) -> str | None:
    if method is not None and (not isinstance(method, str) or not method.isalpha()):
        raise ValueError(f'method must be the name of an HTTP method, as "POST", not {method!r}')
    return None if method is None else method.upper()


def checked_status(status: Any) -> int:
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"status must be an HTTP status from 200 to 599, not {status!r}")
    return status


def checked_headers(headers: Any) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise ValueError(f"headers must be a mapping of str to str, not {headers!r}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str) or re.search(r"[\r\n\0]", name + value):
            raise ValueError(f"headers must be str to str, and one line each, not {name!r}: {value!r}")
        if not _is_header_name(name):  # the answer would be cut short, and its client would wait for the rest
            raise ValueError(f"headers must be named as in HTTP, with letters, digits and hyphens, not {name!r}")
    return dict(headers)


def checked_body(body: Any, status: int) -> tuple[bytes, str]:
    """The bytes of a body and their content type. For None, it is an error in Algolia's own form."""
    if body is None:
        body = {"message": f"LocalAlgolia was told to answer {status}", "status": status}
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/html; charset=utf-8"
    try:
        return json.dumps(body).encode(), "application/json; charset=UTF-8"
    except (TypeError, ValueError):
        raise ValueError(f"body must be bytes, str, or what json.dumps can write, not {body!r}") from None
