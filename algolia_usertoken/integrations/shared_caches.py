"""What may stand on a response that a shared cache may keep and hand to others: no cookie of ours, and no token.

`Set-Cookie` keeps no cache from storing a response: https://www.rfc-editor.org/rfc/rfc9111#section-7.3. These functions
do no I/O and know no framework; header names may be in any case, values are strings as in WSGI.
"""

from __future__ import annotations

import enum
import functools
import re
import time
from collections.abc import Iterable, Sequence

Headers = list[tuple[str, str]]
Directive = tuple[str, "str | None", str]  # the name in lower case, the argument without its quotes, both as written

# Headers that speak to some caches alone, and win over Cache-Control there: https://www.rfc-editor.org/rfc/rfc9213. Any
# name that ends in -Cache-Control is one too.
_TARGETED = frozenset({"surrogate-control", "edge-control", "x-accel-expires"})
_OTHERS = frozenset({"expires", "etag", "last-modified"})
_NAMES = _TARGETED | _OTHERS
_NAMES_AS_BYTES = frozenset(name.encode("ascii") for name in _NAMES)

_FORBID_STORING = frozenset({"no-store", "private", "bypass-cache"})  # the last: Akamai's Edge-Control
_ALLOW_REUSE_FOR = frozenset({"max-age", "stale-while-revalidate", "stale-if-error"})  # so many seconds
_MEAN_NOTHING_TO_A_BROWSER = frozenset({"public", "s-maxage", "proxy-revalidate"})
_HTML = frozenset({"text/html", "application/xhtml+xml"})

# Quoted strings stand after an equals sign, and are all of the argument.
_is_well_formed = re.compile(r'(?:[^"]|(?<==)"(?:[^"\\]|\\.)*"\s*(?=,|$))*', re.DOTALL).fullmatch
_elements = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")+', re.DOTALL).findall


class CookieVerdict(enum.Enum):
    """Whether a response may give its visitor a cookie."""

    NO = "no cookie on this response; the visitor's next page will do"
    YES = "the cookie"
    YES_AND_PRIVATE = "the cookie, and `private` has to be added (with_private)"


def is_about_caching(name: str) -> bool:
    """Whether a header of this name, in lower case, matters to `verdict`. Where none does, see `NOTHING_SAID`."""
    return name in _NAMES or name.endswith("cache-control")


def is_about_caching_as_bytes(name: bytes) -> bool:
    """The same for ASGI, where names are bytes, in lower case."""
    return name in _NAMES_AS_BYTES or name.endswith(b"cache-control")


def verdict(status: int, headers: Iterable[tuple[str, str]]) -> CookieVerdict:
    """Whether a response may give its visitor a cookie, now that caches may stand between.

    The first rule that fits: a 304 gets none, as it would renew a stored page. Nor does a response that a header for
    some caches alone lets them store, nor one whose Cache-Control cannot be read. One that is `private` or `no-store`
    as a whole gets it. One that caches are told to store (`public`, `s-maxage`, a `max-age` above 0, an `Expires` to
    come, a permission to use it stale) gets none. A response of which nothing is said, or that has to be asked for
    again each time, gets the cookie and becomes private; but one that has a validator only (`ETag`, `Last-Modified`)
    and is no HTML gets none: it is a style sheet or a picture, which everybody may share.

    Args:
        status: The status code of the response.
        headers: Its headers; several of one name count as one, as https://www.rfc-editor.org/rfc/rfc9110#section-5.2
            has it.
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
    # A cache that knows must-understand disregards the no-store beside it: RFC 9111, 5.2.2.3.
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
    """The headers, with `private` in Cache-Control; what else it says stays."""
    values = [value for name, value in headers if name.lower() == "cache-control"]
    if _says_private_once(_directives(",".join(values)) or ()):
        return list(headers)
    return _replaced(headers, ["private", *(text for name, _, text in _read(values) if name != "private")])


def for_one_visitor(headers: Headers, *, vary: Sequence[str]) -> Headers:
    """The headers of a page that names its visitor, so that no shared cache keeps it and no browser shows it to others.

    It becomes `private`, and what lets shared caches store it is taken off, in Cache-Control and beside it. A header
    that forbids some caches to store it stays. Where `Expires` said that the page is stale, `max-age=0` does now.

    Args:
        headers: The headers of the response.
        vary: The request headers by which visitors are told apart, as `Cookie`; a `Vary: *` says more, and stays.
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
    """Whether `private` is said of the whole, and not of a field beside it: some caches believe what comes last."""
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
    """The headers with these directives as their Cache-Control, in one line, where the first line of it was."""
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
    """Whether caches that a header speaks to may store the response. An empty one says nothing: RFC 9213, 2.1."""
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
    """https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_cache_valid: seconds, or @ and a Unix time."""
    if value.startswith("@"):
        return _seconds(value[1:]) > time.time()
    return _seconds(value) > 0


@functools.lru_cache(maxsize=256)
def _directives(value: str) -> tuple[Directive, ...] | None:
    """What a Cache-Control header, or one that is like it, says; None where quotes are not where they belong.

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
    """What Cache-Control says, or seems to say where quotes are not where they belong."""
    value = ",".join(values)
    directives = _directives(value)
    return (_directives(value.replace('"', "")) or ()) if directives is None else directives


def _seconds(argument: str | None) -> int:
    """A number of seconds; what is none counts as 0, as RFC 9111, 4.2.1 encourages: the response is stale."""
    if argument is None or not argument.isascii() or not argument.isdigit():
        return 0
    # More digits than these are longer than anything lasts, and Python refuses to read thousands of them.
    return int(argument.lstrip("0")[:18] or 0)


def _is_to_come(expires: str, date: str) -> bool:
    """Whether an Expires is later than the response's Date, or now where it has none. An invalid one is in the past."""
    expiry = _timestamp(expires)
    if expiry is None:
        return False
    sent = _timestamp(date)
    return expiry > (time.time() if sent is None else sent)


def _timestamp(date: str) -> float | None:
    from email.utils import mktime_tz, parsedate_tz  # seldom needed, and not light

    try:
        parsed = parsedate_tz(date)
        # Where it names no zone, as in the oldest of the three formats, it is GMT: RFC 9110, 5.6.7.
        return None if parsed is None else mktime_tz((*parsed[:9], parsed[9] or 0))
    except (IndexError, OverflowError, TypeError, ValueError):
        return None
