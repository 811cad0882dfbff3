"""Keeps the visitor's cookie and token off responses that a shared cache may store and send to other visitors.

A cache may store a response although it has a `Set-Cookie`: https://www.rfc-editor.org/rfc/rfc9111#section-7.3. These
functions do no I/O and depend on no framework; header names may be in any case, values are strings as in WSGI.
"""

from __future__ import annotations

import enum
import functools
import re
import time
from collections.abc import Iterable, Sequence

Headers = list[tuple[str, str]]
Directive = tuple[str, "str | None", str]  # name in lower case, argument without quotes, the directive as written

# Headers for some caches only, which obey them instead of Cache-Control: https://www.rfc-editor.org/rfc/rfc9213. Each
# header whose name ends in -Cache-Control is one too.
_TARGETED = frozenset({"surrogate-control", "edge-control", "x-accel-expires"})
_OTHERS = frozenset({"expires", "etag", "last-modified"})
_NAMES = _TARGETED | _OTHERS
_NAMES_AS_BYTES = frozenset(name.encode("ascii") for name in _NAMES)

_FORBID_STORING = frozenset({"no-store", "private", "bypass-cache"})  # bypass-cache is from Akamai's Edge-Control
_ALLOW_REUSE_FOR = frozenset({"max-age", "stale-while-revalidate", "stale-if-error"})  # each for a number of seconds
_MEAN_NOTHING_TO_A_BROWSER = frozenset({"public", "s-maxage", "proxy-revalidate"})
_HTML = frozenset({"text/html", "application/xhtml+xml"})

# A quoted string must follow an equals sign, and must be the whole argument.
_is_well_formed = re.compile(r'(?:[^"]|(?<==)"(?:[^"\\]|\\.)*"\s*(?=,|$))*', re.DOTALL).fullmatch
_elements = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+', re.DOTALL).findall


class CookieVerdict(enum.Enum):
    """Whether a response may give its visitor a cookie."""

    NO = "no cookie on this response; the visitor's next page will do"
    YES = "the cookie"
    YES_AND_PRIVATE = "the cookie, and `private` has to be added (with_private)"


def is_about_caching(name: str) -> bool:
    """Whether a header of this name (in lower case) affects `verdict`. If a response has none, see `NOTHING_SAID`."""
    return name in _NAMES or name.endswith("cache-control")


def is_about_caching_as_bytes(name: bytes) -> bool:
    """The same as `is_about_caching`, for ASGI, where names are bytes in lower case."""
    return name in _NAMES_AS_BYTES or name.endswith(b"cache-control")


def verdict(status: int, headers: Iterable[tuple[str, str]]) -> CookieVerdict:
    """Whether a response may give its visitor a cookie, although caches may store the response.

    The first rule that applies decides. A 304 gets no cookie, as it would renew a stored page. A response gets none if
    a header for some caches only lets these store it, or if its Cache-Control cannot be read. A response that is
    `private` or `no-store` as a whole gets the cookie. A response that caches are told to store (`public`, `s-maxage`,
    a `max-age` above 0, an `Expires` in the future, a permission to use it stale) gets none. A response with only a
    validator (`ETag`, `Last-Modified`) that is not HTML gets none: it is a style sheet or a picture, which all visitors
    may share. Any other response says nothing or must be revalidated each time: it gets the cookie, becoming private.

    Args:
        status: The status code of the response.
        headers: Its headers. Several headers of one name are combined into one, as in
            https://www.rfc-editor.org/rfc/rfc9110#section-5.2.
    """
    if status == 304:
        return CookieVerdict.NO
    said: dict[str, list[str]] = {}
    content_type = date = ""
    for name, value in headers:
        name = name.lower()
        if is_about_caching(name):
            said.setdefault(name, []).append(value)
        elif name == "content-type":
            content_type = value
        elif name == "date":
            date = value
    if not said:
        return NOTHING_SAID
    if any(_allows_storing(name, values) for name, values in said.items() if _is_targeted(name)):
        return CookieVerdict.NO
    directives = _directives(",".join(said.get("cache-control", ())))
    if directives is None:
        return CookieVerdict.NO
    whole = {name for name, argument, _ in directives if argument is None}  # private="x-cart" is about x-cart alone
    if "private" in whole:
        return CookieVerdict.YES if _says_private_once(directives) else CookieVerdict.YES_AND_PRIVATE
    # A cache that supports must-understand ignores a no-store beside it: RFC 9111, 5.2.2.3.
    if "no-store" in whole and "must-understand" not in whole:
        return CookieVerdict.YES
    names = {name for name, _, _ in directives}
    if "public" in names or "s-maxage" in names:
        return CookieVerdict.NO
    if any(name in _ALLOW_REUSE_FOR and _seconds(argument) for name, argument, _ in directives):
        return CookieVerdict.NO
    # max-age beats Expires: RFC 9111, 5.3.
    if "max-age" not in names and any(_is_to_come(expires, date) for expires in said.get("expires", ())):
        return CookieVerdict.NO
    is_stale = "max-age" in names or "no-cache" in whole or "expires" in said
    has_validator = "etag" in said or "last-modified" in said
    if has_validator and not is_stale and content_type.partition(";")[0].strip().lower() not in _HTML:
        return CookieVerdict.NO
    return CookieVerdict.YES_AND_PRIVATE


# The verdict on a response without a header that is about caching, unless it is a 304.
NOTHING_SAID = CookieVerdict.YES_AND_PRIVATE


def with_private(headers: Headers) -> Headers:
    """The headers, with `private` in Cache-Control, whose other directives stay."""
    values = [value for name, value in headers if name.lower() == "cache-control"]
    if _says_private_once(_directives(",".join(values)) or ()):
        return list(headers)
    return _replaced(headers, ["private", *(text for name, _, text in _read(values) if name != "private")])


def for_one_visitor(headers: Headers, *, vary: Sequence[str]) -> Headers:
    """The headers of a page that names its visitor, so that no shared cache keeps it and no browser shows it to others.

    The page becomes `private`. All directives and headers that let shared caches store it are removed; a header that
    forbids some caches to store it stays. If `Expires` said that the page is stale, `max-age=0` says so now.

    Args:
        headers: The headers of the response.
        vary: The request headers that tell visitors apart, such as `Cookie`. A `Vary: *` covers them, and stays.
    """
    kept: Headers = []
    expires: list[str] = []
    for name, value in headers:
        lower = name.lower()
        if lower == "expires":
            expires.append(value)
        elif not _is_targeted(lower) or _forbids_storing(lower, value):
            kept.append((name, value))
    directives = _read([value for name, value in headers if name.lower() == "cache-control"])
    texts = [text for name, _, text in directives if name != "private" and name not in _MEAN_NOTHING_TO_A_BROWSER]
    date = next((value for name, value in headers if name.lower() == "date"), "")
    if (
        expires
        and not any(name == "max-age" for name, _, _ in directives)
        and not any(_is_to_come(value, date) for value in expires)
    ):
        texts.append("max-age=0")
    return _varied(_replaced(kept, ["private", *texts]), vary)


def _says_private_once(directives: Iterable[Directive]) -> bool:
    """Whether each `private` is for the whole response, and none for one field: some caches obey the last of them."""
    return {argument for name, argument, _ in directives if name == "private"} == {None}


def _varied(headers: Headers, names: Sequence[str]) -> Headers:
    lines = [index for index, (name, _) in enumerate(headers) if name.lower() == "vary"]
    known = {part.strip().lower() for index in lines for part in headers[index][1].split(",")}
    missing = [name for name in names if name.lower() not in known]
    if "*" in known or not missing:
        return headers
    if not lines:
        return [*headers, ("Vary", ", ".join(missing))]
    name, value = headers[lines[-1]]
    parts = [part for part in map(str.strip, value.split(",")) if part]
    headers[lines[-1]] = (name, ", ".join([*parts, *missing]))
    return headers


def _replaced(headers: Headers, directives: Sequence[str]) -> Headers:
    """The headers with these directives in one Cache-Control line, in the place of the first such line."""
    line = ", ".join(directives)
    found: Headers = []
    for name, value in headers:
        if name.lower() != "cache-control":
            found.append((name, value))
        elif line:
            found.append((name, line))
            line = ""
    return [*found, ("Cache-Control", line)] if line else found


def _is_targeted(name: str) -> bool:
    return name in _TARGETED or name.endswith("-cache-control")


def _allows_storing(name: str, values: Sequence[str]) -> bool:
    """Whether a header lets the caches that it is for store the response. An empty header does not: RFC 9213, 2.1."""
    if name == "x-accel-expires":
        return any(_lets_nginx_store(value.strip()) for value in values)
    value = ",".join(values)
    return bool(value.strip(" \t,")) and not _forbids_storing(name, value)


def _forbids_storing(name: str, value: str) -> bool:
    if name == "x-accel-expires":
        return not _lets_nginx_store(value.strip())
    # ?1 is how a structured field may spell a directive without an argument.
    return any(name in _FORBID_STORING and argument in (None, "?1") for name, argument, _ in _directives(value) or ())


def _lets_nginx_store(value: str) -> bool:
    """Whether nginx may store a response with this X-Accel-Expires: a number of seconds, or @ and a Unix time.

    https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_cache_valid
    """
    if value.startswith("@"):
        return _seconds(value[1:]) > time.time()
    return _seconds(value) > 0


@functools.lru_cache(maxsize=256)
def _directives(value: str) -> tuple[Directive, ...] | None:
    """The directives of a Cache-Control header, or of one with the same syntax; None if its quotes are misplaced.

    https://www.rfc-editor.org/rfc/rfc9111#section-5.2
    """
    if '"' not in value:
        elements = value.split(",")
    elif _is_well_formed(value):
        elements = _elements(value)
    else:
        return None
    found: list[Directive] = []
    for element in map(str.strip, elements):
        name, equals, argument = element.partition("=")
        if element:
            found.append((name.strip().lower(), argument.strip().strip('"') if equals else None, element))
    return tuple(found)


def _read(values: Sequence[str]) -> tuple[Directive, ...]:
    """The directives of Cache-Control; if its quotes are misplaced, it is read without them."""
    value = ",".join(values)
    directives = _directives(value)
    return (_directives(value.replace('"', "")) or ()) if directives is None else directives


def _seconds(argument: str | None) -> int:
    """The number of seconds; an invalid one counts as 0, so the response is stale, as RFC 9111, 4.2.1 encourages."""
    if argument is None or not argument.isascii() or not argument.isdigit():
        return 0
    # 18 digits are more seconds than any response lasts, and Python refuses to read a number of thousands of digits.
    return int(argument.lstrip("0")[:18] or 0)


def _is_to_come(expires: str, date: str) -> bool:
    """Whether an Expires is later than the response's Date, or than now if it has none. An invalid one is not."""
    expiry = _timestamp(expires)
    if expiry is None:
        return False
    sent = _timestamp(date)
    return expiry > (time.time() if sent is None else sent)


def _timestamp(date: str) -> float | None:
    from email.utils import mktime_tz, parsedate_tz  # seldom needed, and slow to import

    try:
        parsed = parsedate_tz(date)
        # A date without a time zone, as in the oldest of the three formats, is in GMT: RFC 9110, 5.6.7.
        return None if parsed is None else mktime_tz((*parsed[:9], parsed[9] or 0))
    except (IndexError, OverflowError, TypeError, ValueError):
        return None
