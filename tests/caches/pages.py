"""What the applications behind the caches answer, and what then has to hold: one table for them and for the tests."""

from __future__ import annotations

import secrets
import time
from email.utils import formatdate
from typing import NamedTuple

ETAG = '"1"'
HOUR = 3600.0


class Rule(NamedTuple):
    """What a page says about caching, and what is right for it.

    Attributes:
        headers: Names and values; where a value is a number, it is so many seconds from now, as a date.
        cookie: The kinds of ordinary pages on which a first visit is given the cookie.
        kept: Whether every cache must hand an ordinary page to the next visitor, so that the test shows it does cache.
    """

    headers: list[tuple[str, str | float]]
    cookie: frozenset[str]
    kept: bool = False


HTML, JSON, CSS, NAMED = "page", "data", "style", "named"
CONTENT_TYPES = {HTML: "text/html; charset=utf-8", JSON: "application/json", CSS: "text/css", NAMED: "text/html"}
ALL, ON_HTML, NONE = frozenset({HTML, JSON, CSS}), frozenset({HTML}), frozenset[str]()


def cache_control(value: str, *more: tuple[str, str | float]) -> list[tuple[str, str | float]]:
    return [("Cache-Control", value), *more]


# By the last part of the page's address.
RULES: dict[str, Rule] = {
    "nothing": Rule([], ALL),
    "no-cache": Rule(cache_control("no-cache"), ALL),
    "max-age-0": Rule(cache_control("max-age=0"), ALL),
    "must-revalidate": Rule(cache_control("must-revalidate"), ALL),
    "max-age-60": Rule(cache_control("max-age=60"), NONE, kept=True),
    "public": Rule(cache_control("public"), NONE),
    "public-max-age-60": Rule(cache_control("public, max-age=60"), NONE, kept=True),
    "s-maxage-60": Rule(cache_control("s-maxage=60"), NONE, kept=True),
    "no-cache-public": Rule(cache_control("no-cache, public"), NONE),
    "stale-while-revalidate": Rule(cache_control("max-age=0, stale-while-revalidate=60"), NONE),
    "max-age-60-vary-cookie": Rule(cache_control("max-age=60", ("Vary", "Cookie")), NONE, kept=True),
    "expires-to-come": Rule([("Expires", HOUR)], NONE, kept=True),
    "expires-past": Rule([("Expires", -HOUR)], ALL),
    "last-modified": Rule([("Last-Modified", -HOUR)], ON_HTML),
    "etag": Rule([("ETag", ETAG)], ON_HTML),
    "no-cache-etag": Rule(cache_control("no-cache", ("ETag", ETAG)), ALL),
    "max-age-0-etag": Rule(cache_control("max-age=0", ("ETag", ETAG)), ALL),
    "max-age-60-etag": Rule(cache_control("max-age=60", ("ETag", ETAG)), NONE, kept=True),
    "private": Rule(cache_control("private"), ALL),
    "private-max-age-60": Rule(cache_control("private, max-age=60"), ALL),
    "no-store": Rule(cache_control("no-store"), ALL),
    "private-field": Rule(cache_control('private="x-foo"'), ALL),
    "private-field-max-age-60": Rule(cache_control('private="x-foo", max-age=60'), NONE),
    "cdn-cache-control": Rule([("CDN-Cache-Control", "max-age=60")], NONE),
    "cdn-cache-control-no-store": Rule([("CDN-Cache-Control", "no-store")], ALL),
    "surrogate-control": Rule([("Surrogate-Control", "max-age=60")], NONE),
    "private-surrogate-control": Rule(cache_control("private", ("Surrogate-Control", "max-age=60")), NONE),
    "x-accel-expires": Rule([("X-Accel-Expires", "60")], NONE),
    "private-x-accel-expires": Rule(cache_control("private", ("X-Accel-Expires", "60")), NONE),
}


def answer(kind: str, rule: str, if_none_match: str | None) -> tuple[int, list[tuple[str, str]]]:
    """The status and headers of an answer; each has an `X-Made` of its own, by which one from a cache is known."""
    headers = [
        (name, value if isinstance(value, str) else formatdate(time.time() + value, usegmt=True))
        for name, value in RULES[rule].headers
    ]
    headers.append(("X-Made", secrets.token_hex(8)))
    if if_none_match == ETAG and ("ETag", ETAG) in headers:
        return 304, headers
    return 200, [*headers, ("Content-Type", CONTENT_TYPES[kind])]


def body(kind: str, script: str) -> str:
    """The body; `script` is what names the visitor, on the pages that do."""
    return {JSON: '{"a": 1}', CSS: "p { color: teal }"}.get(kind, f"<!doctype html><title>Shop</title>{script}")
