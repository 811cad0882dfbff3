"""What may stand on a response that a shared cache may keep: each rule, and what another HTTP cache makes of it."""

from __future__ import annotations

import time
from email.utils import formatdate

import hishel
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from algolia_usertoken.integrations.shared_caches import (
    NOTHING_SAID,
    CookieVerdict,
    Headers,
    for_one_visitor,
    is_about_caching,
    is_about_caching_as_bytes,
    verdict,
    with_private,
)

pytestmark = pytest.mark.slow

NO, YES, YES_AND_PRIVATE = CookieVerdict
HTML = ("Content-Type", "text/html; charset=utf-8")
CSS = ("Content-Type", "text/css")
PAST, TO_COME = formatdate(0, usegmt=True), formatdate(4_000_000_000, usegmt=True)
ETAG = ("ETag", '"1"')


def cache_control(headers: Headers) -> list[str]:
    return [value for name, value in headers if name.lower() == "cache-control"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", YES_AND_PRIVATE),
        (" , ,", YES_AND_PRIVATE),
        ("must-revalidate", YES_AND_PRIVATE),
        ("no-cache", YES_AND_PRIVATE),
        ("max-age=0", YES_AND_PRIVATE),
        ("max-age=0, no-cache, must-revalidate", YES_AND_PRIVATE),
        # Of a field, not of the whole.
        ('private="x-cart"', YES_AND_PRIVATE),
        ("private=x-cart", YES_AND_PRIVATE),
        ('max-age=0, private="x-cart, public"', YES_AND_PRIVATE),
        ('no-cache="set-cookie, s-maxage=60"', YES_AND_PRIVATE),
        # What is no number of seconds: the response is stale.
        ("max-age=", YES_AND_PRIVATE),
        ("max-age", YES_AND_PRIVATE),
        ("max-age=soon", YES_AND_PRIVATE),
        ("max-age=-60", YES_AND_PRIVATE),
        ("max-age=1.5", YES_AND_PRIVATE),
        ("max-age=²", YES_AND_PRIVATE),
        ("max-age=" + "0" * 5000, YES_AND_PRIVATE),
        # A cache that knows the status code disregards the no-store.
        ("must-understand, no-store", YES_AND_PRIVATE),
        # Words that are part of others.
        ("x-public, unprivate, no-store-really", YES_AND_PRIVATE),
        ("private", YES),
        ("PRIVATE", YES),
        ("max-age=60,\tPrivate ", YES),
        ('private="x-cart", private, max-age=60', YES_AND_PRIVATE),  # some caches believe what comes last
        ("no-store", YES),
        ("no-store, max-age=60", YES),
        ("private, public, s-maxage=60", YES),
        ("private, must-understand, no-store", YES),
        ('no-cache="x, y", private', YES),
        ("public", NO),
        ("Public", NO),
        ("no-cache, public", NO),
        ("s-maxage=60", NO),
        ("s-maxage=0, max-age=0", NO),
        ("max-age=60", NO),
        ("MAX-AGE=60", NO),
        ('max-age="60"', NO),
        ("max-age=0060", NO),
        ("max-age=" + "9" * 5000, NO),
        ("no-cache, max-age=60", NO),
        ("max-age=60, private=x-cart", NO),
        ("must-understand, no-store, max-age=60", NO),
        # Twice: some caches take the one, some the other.
        ("max-age=0, max-age=60", NO),
        ("max-age=60, max-age=0", NO),
        # A cache may keep it, and use it although it is stale.
        ("max-age=0, stale-while-revalidate=600", NO),
        ("stale-if-error=600", NO),
        # Who knows what is quoted here?
        ('x"a, private"', NO),
        ('", private="a\\"b"', NO),
        ('x="a"b, private', NO),
        ('x="a, private', NO),
        ('max-age=0, x="\\"', NO),
    ],
)
def test_cache_control_decides_whether_a_response_has_a_cookie(value: str, expected: CookieVerdict) -> None:
    assert verdict(200, [HTML, ("cache-control", value)]) is expected


@pytest.mark.parametrize("line", ["no-cache", "private", "max-age=60"])
@pytest.mark.parametrize("name", ["cache-control", "Cache-Control", "CACHE-CONTROL"])
def test_several_lines_of_one_header_count_as_one(name: str, line: str) -> None:
    assert verdict(200, [(name, "must-revalidate"), HTML, ("Cache-control", line)]) is verdict(200, [(name, line)])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], YES_AND_PRIVATE),
        ([("Content-Type", "application/json")], YES_AND_PRIVATE),
        ([CSS], YES_AND_PRIVATE),
        ([HTML, ETAG], YES_AND_PRIVATE),
        ([HTML, ("Last-Modified", PAST)], YES_AND_PRIVATE),
        ([("content-type", "Application/XHTML+XML"), ETAG], YES_AND_PRIVATE),
        ([("content-type", "TEXT/HTML ;charset=utf-8"), ETAG], YES_AND_PRIVATE),
        ([CSS, ETAG], NO),
        ([CSS, ("Last-Modified", PAST)], NO),
        ([ETAG], NO),
        ([("Content-Type", "text/html5"), ETAG], NO),
        ([CSS, ETAG, ("Cache-Control", "must-revalidate")], NO),
        # A validator is not alone where the response is stale from the start.
        ([CSS, ETAG, ("Cache-Control", "no-cache")], YES_AND_PRIVATE),
        ([CSS, ETAG, ("Cache-Control", 'no-cache="set-cookie"')], NO),
        ([CSS, ETAG, ("Cache-Control", "max-age=0")], YES_AND_PRIVATE),
        ([CSS, ETAG, ("Expires", "0")], YES_AND_PRIVATE),
        ([CSS, ETAG, ("Cache-Control", "private")], YES),
        ([HTML, ETAG, ("Cache-Control", "max-age=60")], NO),
    ],
)
def test_a_style_sheet_with_a_validator_alone_has_no_cookie(headers: Headers, expected: CookieVerdict) -> None:
    assert verdict(200, headers) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("Expires", TO_COME)], NO),
        ([("expires", "Tuesday, 02-Oct-40 07:06:40 GMT")], NO),  # the two older forms of a date
        ([("expires", "Tue Oct  2 07:06:40 2096")], NO),
        ([("Expires", PAST)], YES_AND_PRIVATE),
        ([("Expires", formatdate(time.time() - 60, usegmt=True))], YES_AND_PRIVATE),
        ([("Expires", "0")], YES_AND_PRIVATE),
        ([("Expires", "-1")], YES_AND_PRIVATE),
        ([("Expires", "")], YES_AND_PRIVATE),
        ([("Expires", "tomorrow")], YES_AND_PRIVATE),
        ([("Expires", "Tue, 02 Oct 99999999999999999999 07:06:40 GMT")], YES_AND_PRIVATE),
        ([("Expires", PAST), ("Expires", TO_COME)], NO),
        ([("Cache-Control", "max-age=0"), ("Expires", TO_COME)], YES_AND_PRIVATE),
        ([("Cache-Control", "max-age=soon"), ("Expires", TO_COME)], YES_AND_PRIVATE),
        ([("Cache-Control", "max-age=60"), ("Expires", PAST)], NO),
        ([("Cache-Control", "private"), ("Expires", TO_COME)], YES),
        # Later or not than the response's own Date, where it has one.
        ([("Date", TO_COME), ("Expires", TO_COME)], YES_AND_PRIVATE),
        ([("Date", formatdate(0, usegmt=True)), ("Expires", formatdate(60, usegmt=True))], NO),
        ([("Date", "yesterday"), ("Expires", TO_COME)], NO),
        ([("Date", "yesterday"), ("Expires", formatdate(60, usegmt=True))], YES_AND_PRIVATE),
    ],
)
def test_a_response_that_expires_later_has_no_cookie(headers: Headers, expected: CookieVerdict) -> None:
    assert verdict(200, [HTML, *headers]) is expected


def test_a_date_without_a_zone_is_in_gmt(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = [("Date", "Tue Oct  2 07:06:40 2040"), ("Expires", "Tue, 02 Oct 2040 07:06:41 GMT")]
    try:
        for zone in ["UTC-14", "UTC+12"]:
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert verdict(200, headers) is NO
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("name", "value", "allows"),
    [
        ("CDN-Cache-Control", "max-age=60", True),
        ("cdn-cache-control", "max-age=0", True),  # stored, and asked for again: private would not be seen
        ("CDN-Cache-Control", "no-cache", True),
        ("CDN-Cache-Control", "must-revalidate", True),
        ("CDN-Cache-Control", "private=?0", True),
        ("CDN-Cache-Control", 'private="set-cookie"', True),
        ("CDN-Cache-Control", 'x="no-store', True),
        ("CDN-Cache-Control", "no-store", False),
        ("CDN-Cache-Control", "max-age=60, no-store=?1", False),
        ("CDN-Cache-Control", "private", False),
        ("CDN-Cache-Control", "", False),
        ("CDN-Cache-Control", " , ", False),
        ("Cloudflare-CDN-Cache-Control", "max-age=60", True),
        ("Netlify-CDN-Cache-Control", "public, durable", True),
        ("X-LiteSpeed-Cache-Control", "public,max-age=60", True),
        ("X-LiteSpeed-Cache-Control", "private,max-age=60", False),
        ("Surrogate-Control", "max-age=60", True),
        ("Surrogate-Control", 'content="ESI/1.0"', True),  # Varnish does not look at Cache-Control then
        ("Surrogate-Control", "max-age=60, no-store;one-of-several", True),
        ("Surrogate-Control", 'no-store, content="ESI/1.0"', False),
        ("Edge-Control", "cache-maxage=1d", True),
        ("Edge-Control", "!no-store", True),
        ("Edge-Control", "bypass-cache", False),
        ("X-Accel-Expires", "60", True),
        ("X-Accel-Expires", " 60 ", True),
        ("X-Accel-Expires", "@4000000000", True),
        ("X-Accel-Expires", "@1", False),
        ("X-Accel-Expires", "0", False),
        ("X-Accel-Expires", "", False),
        ("X-Accel-Expires", "soon", False),
    ],
)
def test_a_header_for_some_caches_alone_wins_where_it_lets_them_store(name: str, value: str, allows: bool) -> None:
    for line in ["private", "no-store", "no-cache", "public"]:
        without = verdict(200, [("Cache-Control", line)])
        assert verdict(200, [("Cache-Control", line), (name, value)]) is (NO if allows else without)

    page = for_one_visitor([(name, value)], vary=["Cookie"])
    assert ((name, value) in page) <= (not allows)


def test_one_of_several_headers_for_some_caches_is_enough_to_let_them_store() -> None:
    forbidding, allowing = ("CDN-Cache-Control", "no-store"), ("Surrogate-Control", "max-age=60")

    assert verdict(200, [forbidding, ("Cache-Control", "private"), allowing]) is NO
    assert for_one_visitor([forbidding, allowing], vary=["Cookie"]) == [
        forbidding,
        ("Cache-Control", "private"),
        ("Vary", "Cookie"),
    ]


@pytest.mark.parametrize("headers", [[], [("Cache-Control", "private")], [HTML, ETAG], [("Cache-Control", "public")]])
def test_an_answer_that_renews_a_stored_page_has_no_cookie(headers: Headers) -> None:
    assert verdict(304, headers) is NO


@pytest.mark.parametrize("status", [200, 201, 206, 301, 302, 400, 404, 500, 503])
def test_any_other_status_follows_the_headers(status: int) -> None:
    assert verdict(status, []) is YES_AND_PRIVATE
    assert verdict(status, [("Cache-Control", "max-age=60")]) is NO
    assert verdict(status, [("Cache-Control", "private")]) is YES


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ["private"]),
        ([""], ["private"]),
        (["no-cache"], ["private, no-cache"]),
        (["max-age=0, Must-Revalidate"], ["private, max-age=0, Must-Revalidate"]),
        (["no-cache", "must-revalidate"], ["private, no-cache, must-revalidate"]),
        (['no-cache="x-a, x-b"'], ['private, no-cache="x-a, x-b"']),
        (['private="x-cart", max-age=0'], ["private, max-age=0"]),
        (["no-store, must-understand"], ["private, no-store, must-understand"]),
        # Never twice.
        (["Private"], ["Private"]),
        (["no-cache", "max-age=0, private"], ["no-cache", "max-age=0, private"]),
        # Some caches believe what comes last.
        (["private", 'private="x-cart"'], ["private"]),
    ],
)
def test_private_is_added_to_what_cache_control_says(before: list[str], after: list[str]) -> None:
    headers = [HTML, *(("cache-control", line) for line in before), ("X-Last", "1")]

    outcome = with_private(headers)

    assert cache_control(outcome) == after
    assert [header for header in outcome if header[0].lower() != "cache-control"] == [HTML, ("X-Last", "1")]
    assert with_private(outcome) == outcome
    assert cache_control(headers) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ["private"]),
        (["public"], ["private"]),
        (["Public, max-age=60, S-MaxAge=600"], ["private, max-age=60"]),
        (["public", "s-maxage=60, proxy-revalidate"], ["private"]),
        (["no-store"], ["private, no-store"]),
        (["public, no-cache, must-revalidate"], ["private, no-cache, must-revalidate"]),
        (['private="x-cart, public", max-age=60'], ["private, max-age=60"]),
        (["private"], ["private"]),
        (["max-age=60, private", "private"], ["private, max-age=60"]),
        (['x="public, s-maxage=60"'], ['private, x="public, s-maxage=60"']),
        (['no-store, x="public'], ["private, no-store, x=public"]),
    ],
)
def test_a_page_that_names_its_visitor_becomes_private(before: list[str], after: list[str]) -> None:
    headers = [HTML, *(("cache-control", line) for line in before)]

    outcome = for_one_visitor(headers, vary=["Cookie"])

    assert cache_control(outcome) == after
    assert verdict(200, outcome) is YES
    assert for_one_visitor(outcome, vary=["Cookie"]) == outcome
    assert cache_control(headers) == before


@pytest.mark.parametrize(
    ("headers", "after"),
    [
        ([("Expires", TO_COME)], "private"),
        # What the browser was told stays true.
        ([("Expires", PAST)], "private, max-age=0"),
        ([("expires", "0")], "private, max-age=0"),
        ([("Expires", "0"), ("Cache-Control", "max-age=60")], "private, max-age=60"),
    ],
)
def test_a_page_that_names_its_visitor_has_no_expires(headers: Headers, after: str) -> None:
    assert for_one_visitor(headers, vary=[]) == [("Cache-Control", after)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ["Cookie, X-Token"]),
        (["Accept"], ["Accept, Cookie, X-Token"]),
        (["cookie"], ["cookie, X-Token"]),
        (["Accept,  COOKIE ,x-token"], ["Accept,  COOKIE ,x-token"]),
        (["Accept", "Cookie"], ["Accept", "Cookie, X-Token"]),
        ([""], ["Cookie, X-Token"]),
        (["*"], ["*"]),
        (["Accept, *"], ["Accept, *"]),
        (["*", "Accept"], ["*", "Accept"]),
    ],
)
def test_a_page_that_names_its_visitor_varies_by_what_tells_visitors_apart(before: list[str], after: list[str]) -> None:
    headers = [("vary", line) for line in before]

    outcome = for_one_visitor(headers, vary=["Cookie", "X-Token"])

    assert [value for name, value in outcome if name.lower() == "vary"] == after
    assert [value for _, value in headers] == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cache-control", True),
        ("cdn-cache-control", True),
        ("surrogate-control", True),
        ("edge-control", True),
        ("x-accel-expires", True),
        ("expires", True),
        ("etag", True),
        ("last-modified", True),
        ("content-type", False),
        ("date", False),
        ("set-cookie", False),
        ("x-dns-prefetch-control", False),
    ],
)
def test_headers_that_matter_are_known_by_name(name: str, expected: bool) -> None:
    assert is_about_caching(name) is expected
    assert is_about_caching_as_bytes(name.encode()) is expected


# What a second opinion is asked of: any headers, valid or not, of names that an HTTP cache looks at.
tokens = st.sampled_from(
    ["private", "public", "no-store", "no-cache", "max-age", "s-maxage", "must-understand", "must-revalidate", "x-y"]
)
arguments = st.sampled_from(["", "=0", "=60", '="60"', "=soon", '="private"', '="x, public"', '="a\\"b"', "=private"])
any_elements = st.builds(str.__add__, tokens, arguments)
# A list of fields without quotes is none in RFC 9111, and the other cache reads nothing that comes after it.
elements = any_elements.filter(lambda element: not element.startswith(("private=", "no-cache=")) or '"' in element)
odd_elements = st.one_of(any_elements, st.text(st.sampled_from('abc ",=\\-'), max_size=8))


def lines_of(some: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    separators = st.sampled_from([", ", ",", " ,\t", ",,"])
    return st.builds(lambda separator, parts: separator.join(parts), separators, st.lists(some, max_size=4))


def headers_of(some: st.SearchStrategy[str]) -> st.SearchStrategy[Headers]:
    return st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["Cache-Control", "cache-control"]), lines_of(some)),
            st.tuples(st.just("Expires"), st.sampled_from([PAST, TO_COME, "0", ""])),
            st.sampled_from([HTML, CSS, ETAG, ("Last-Modified", PAST), ("Vary", "Accept")]),
        ),
        max_size=4,
    )


def stored_by_a_shared_cache(headers: Headers) -> bool:
    """What another implementation of RFC 9111 does with a response: https://hishel.com"""
    by_name: dict[str, list[str]] = {}
    for name, value in headers:
        by_name.setdefault(name.lower(), []).append(value)
    miss = hishel.CacheMiss(
        options=hishel.CacheOptions(shared=True),
        request=hishel.Request("GET", "https://shop.example/", hishel.Headers({})),
    )
    response = hishel.Response(200, hishel.Headers(by_name))
    return isinstance(miss.next(response), hishel.StoreAndUse)


@given(headers_of(elements))
@example([])
def test_no_cookie_is_on_what_another_cache_would_store(headers: Headers) -> None:
    answer = verdict(200, headers)

    if answer is YES:
        assert not stored_by_a_shared_cache(headers)
    elif answer is YES_AND_PRIVATE:
        assert not stored_by_a_shared_cache(with_private(headers))
    elif "must-understand" not in str(headers):  # which that cache does not do
        assert stored_by_a_shared_cache(headers)


@given(headers_of(odd_elements))
def test_what_names_its_visitor_is_never_stored_whatever_was_said(headers: Headers) -> None:
    page = for_one_visitor(headers, vary=["Cookie"])

    assert not stored_by_a_shared_cache(page)
    assert verdict(200, page) is YES
    assert for_one_visitor(page, vary=["Cookie"]) == page


@given(headers_of(odd_elements))
def test_headers_that_became_private_stay_as_they_are(headers: Headers) -> None:
    answer, private = verdict(200, headers), with_private(headers)

    assert with_private(private) == private
    if answer is YES_AND_PRIVATE:
        assert verdict(200, private) is YES
        assert not stored_by_a_shared_cache(private)


other_names = st.text(max_size=8).filter(lambda name: not is_about_caching(name.lower()))


@pytest.mark.slow
@given(st.lists(st.tuples(other_names, st.text()), max_size=3))
def test_where_nothing_is_said_the_verdict_is_known(headers: Headers) -> None:
    assert verdict(200, headers) is NOTHING_SAID
