"""Django's caches, and all that is around a page: each page names its own visitor or nobody."""

from __future__ import annotations

import datetime
import functools
import io
import json
import pathlib
import re
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import django
import httpx
import probe_django  # noqa: F401 - sets Django up
import pytest
import serving
from django.core.cache import cache
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseNotModified,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_control, cache_page, never_cache
from django.views.decorators.http import last_modified
from django.views.decorators.vary import vary_on_cookie
from django.views.generic import TemplateView
from ports import free_port
from waiting import PATIENCE

from algolia_usertoken import browser, identity_scope, set_user_token
from algolia_usertoken.context import current_identity

pytestmark = [pytest.mark.oldest_versions, pytest.mark.slow]

OURS = "algolia_usertoken.integrations.django.IdentityMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
UPDATE, FETCH = (f"django.middleware.cache.{name}CacheMiddleware" for name in ("Update", "FetchFrom"))
CONDITIONAL = "django.middleware.http.ConditionalGetMiddleware"
GZIP = "django.middleware.gzip.GZipMiddleware"
LOCALE = "django.middleware.locale.LocaleMiddleware"

JANE, JOHN = (f"anonymous-{uuid.UUID(int=number)}" for number in (1, 2))
DOCS = pathlib.Path(__file__).parents[2] / "docs" / "django.md"
NEW = ""  # a visitor without a cookie
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.locmem.Loader",
                    {
                        "page.html": "{% load algolia_usertoken %}<html>{% algolia_user_token %}</html>",
                        "500.html": "{% load algolia_usertoken %}<h1>Sorry</h1>{% algolia_user_token %}",
                    },
                )
            ]
        },
    }
]
TEMPLATE = "{% load algolia_usertoken %}{% algolia_user_token %}"
LATER = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}


def serving_view(view: Any, *middleware: str, **others: Any) -> Any:
    """A site of one view, with a cache of its own."""
    return override_settings(
        **{
            "ROOT_URLCONF": (path("", view),),
            "MIDDLEWARE": middleware or (OURS,),
            "TEMPLATES": TEMPLATES,
            "CACHES": memory(),
            "ALGOLIA_USERTOKEN": {"SET_COOKIE": True, "HEADER": "X-Token"},
            **others,
        }
    )


def memory() -> dict[str, Any]:
    return {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": str(uuid.uuid4())}}


def get(token: str = NEW, **headers: str) -> Any:
    """The page, as the visitor of this token sees it at their first visit."""
    client = Client(raise_request_exception=False)
    if token:
        client.cookies["_ALGOLIA"] = token
    return client.get("/", headers=headers)


def named_in(response: Any) -> set[str]:
    content = response.getvalue() if response.streaming else response.content
    return set(re.findall(r"anonymous-[0-9a-f-]{36}", content.decode()))


def given_by(response: Any) -> set[str]:
    return {morsel.value for name, morsel in response.cookies.items() if name == "_ALGOLIA" and morsel.value}


def assert_names_its_own(token: str, response: Any) -> None:
    assert response.status_code == 200
    assert named_in(response) <= ({token} if token else given_by(response))


def assert_is_private(response: Any) -> None:
    directives = {part.strip().partition("=")[0] for part in response["Cache-Control"].split(",")}
    assert "private" in directives
    assert not directives & {"public", "s-maxage"}
    assert not response.has_header("Expires")
    assert {"Cookie", "X-Token"} <= {part.strip() for part in response["Vary"].split(",")}


def by_render(request: Any) -> Any:
    return HttpResponse(engines["django"].from_string(TEMPLATE).render({}, request))


def without_the_request(request: Any) -> Any:
    return HttpResponse(engines["django"].from_string(TEMPLATE).render())


def by_template_response(request: Any) -> Any:
    return TemplateResponse(request, "page.html")


def by_json(request: Any) -> Any:
    return JsonResponse(browser.settings())


async def by_async_view(request: Any) -> Any:
    return HttpResponse(browser.script())


class TakenBefore(View):
    """A base class of one's own that has the settings ready for each page."""

    def setup(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.insights = browser.settings()


class Wrapped:
    """A request in another, as Django REST framework has it: what is set on it does not reach the one inside."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def class_based(decorate: Callable[[Any], Any]) -> Any:
    class Page(TemplateView):
        template_name = "page.html"

    return method_decorator(decorate, name="dispatch")(Page).as_view()


def taken_before(decorate: Callable[[Any], Any]) -> Any:
    class Page(TakenBefore):
        def get(self, request: Any) -> Any:
            return JsonResponse(self.insights)

    return method_decorator(decorate, name="get")(Page).as_view()


def wrapped(decorate: Callable[[Any], Any]) -> Any:
    decorated = decorate(by_template_response)
    return lambda request: decorated(Wrapped(request))


def function(view: Any) -> Any:
    return lambda decorate: decorate(view)


PAGES: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "rendered": function(by_render),
    "rendered without the request": function(without_the_request),
    "rendered later": function(by_template_response),
    "JSON": function(by_json),
    **({"async": function(by_async_view)} if django.VERSION >= (5,) else {}),  # no cache_page before that
    "class-based": class_based,
    "settings taken before the cache": taken_before,
    "wrapped request": wrapped,
}
kept = cache_page(60)
public = cache_control(public=True, max_age=60, s_maxage=60)
DECORATORS: dict[str, tuple[Any, ...]] = {
    "nothing": (),
    "cache_page": (kept,),
    "cache_page twice": (kept, kept),
    "vary_on_cookie outside": (vary_on_cookie, kept),
    "vary_on_cookie inside": (kept, vary_on_cookie),
    "public outside": (public, kept),
    "public inside": (kept, public),
    "never_cache outside": (never_cache, kept),
    "never_cache inside": (kept, never_cache),
}
SITES: dict[str, tuple[str, ...]] = {
    "no cache": (SESSIONS, OURS),
    "the site's cache around all": (UPDATE, SESSIONS, OURS, FETCH),
    "the site's cache inside": (SESSIONS, OURS, UPDATE, FETCH),
    "all of Django's": (UPDATE, GZIP, CONDITIONAL, SESSIONS, LOCALE, OURS, FETCH),
}


def decorated_by(decorators: tuple[Any, ...]) -> Callable[[Any], Any]:
    return lambda view: functools.reduce(lambda inner, decorate: decorate(inner), reversed(decorators), view)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("decorators", DECORATORS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_names_its_visitor_names_nobody_else(page: str, decorators: str, site: str) -> None:
    view = PAGES[page](decorated_by(DECORATORS[decorators]))
    with serving_view(view, *SITES[site]):
        for token in (NEW, JANE, NEW, JOHN, JANE):
            response = get(token)

            assert_names_its_own(token, response)
            assert named_in(response), "this kind of page names each of them"
            if "never" not in decorators:
                assert_is_private(response)


@pytest.mark.skipif(django.VERSION < (5,), reason="Django's decorators know async views from version 5")
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("decorators", DECORATORS)
async def test_a_page_that_names_its_visitor_names_nobody_else_under_asgi(decorators: str, site: str) -> None:
    with serving_view(decorated_by(DECORATORS[decorators])(by_async_view), *SITES[site]):
        for token in (JANE, NEW, JOHN, NEW, JANE):
            client = AsyncClient()
            if token:
                client.cookies["_ALGOLIA"] = token
            response = await client.get("/")

            assert_names_its_own(token, response)
            assert named_in(response)


@pytest.mark.parametrize("site", SITES)
def test_a_page_that_names_its_visitor_names_nobody_else_with_the_cache_on_disk(
    site: str, tmp_path: pathlib.Path
) -> None:
    caches = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": str(tmp_path)}}
    with serving_view(kept(by_template_response), *SITES[site], CACHES=caches):
        for token in (NEW, JANE, NEW, JOHN):
            assert_names_its_own(token, get(token))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("site", SITES)
def test_an_ordinary_page_is_kept_as_before_and_brings_nobody_a_cookie(site: str) -> None:
    calls: list[Any] = []

    def view(request: Any) -> HttpResponse:
        calls.append(request)
        return HttpResponse("the same for all")

    with serving_view(kept(view), *SITES[site]):
        responses = [get(token) for token in (NEW, JANE, NEW)]

    assert len(calls) == 1
    assert [given_by(response) for response in responses] == [set()] * 3
    assert {response["Cache-Control"] for response in responses} == {"max-age=60"}


def test_an_ordinary_page_that_brings_a_cookie_is_not_kept_by_the_cache_of_the_site() -> None:
    with serving_view(lambda request: HttpResponse("the same for all"), *SITES["the site's cache around all"]):
        first, second = get(), get()
        cached, after = get(JANE), get()

    assert given_by(first) != given_by(second)
    assert first["Cache-Control"] == second["Cache-Control"] == "private"
    assert cached["Cache-Control"] == "max-age=600"
    assert given_by(after) == set()


def test_what_lets_shared_caches_keep_a_page_is_taken_off_one_that_names_its_visitor() -> None:
    headers = {
        "Cache-Control": "public, max-age=60, s-maxage=600, no-transform",
        "Expires": "Wed, 21 Oct 2099 07:28:00 GMT",
        "CDN-Cache-Control": "max-age=60",
        "Surrogate-Control": "max-age=60",
        "X-Accel-Expires": "60",
        "Vary": "Accept-Language",
        "X-Own": "stays",
    }

    def view(request: Any) -> HttpResponse:
        return HttpResponse(browser.script(), headers=headers)

    with serving_view(view):
        response = get(JANE)

    assert dict(response.items()) == {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "private, max-age=60, no-transform",
        "Vary": "Accept-Language, Cookie, X-Token",
        "X-Own": "stays",
    }


class TestA304:
    """Django's ConditionalGetMiddleware makes one of a response that this package has seen as a whole page."""

    def test_brings_no_cookie(self) -> None:
        with serving_view(lambda request: HttpResponse("the same for all"), CONDITIONAL, OURS):
            etag = get(JANE)["ETag"]
            unchanged = get(**{"If-None-Match": etag})

        assert unchanged.status_code == 304
        assert given_by(unchanged) == set()

    @pytest.mark.parametrize("asked", [{"If-None-Match": '"of-1"'}, {"If-Modified-Since": LATER["Last-Modified"]}])
    def test_is_not_made_of_a_page_with_a_new_token(self, asked: dict[str, str]) -> None:
        def view(request: Any) -> HttpResponse:
            return HttpResponse(browser.script(), headers={"ETag": '"of-1"', **LATER})

        with serving_view(view, CONDITIONAL, OURS):
            response = get(**asked)

        assert response.status_code == 200
        assert named_in(response) == given_by(response) != set()

    def test_is_made_of_a_page_that_names_the_same_visitor_as_before(self) -> None:
        with serving_view(by_render, CONDITIONAL, OURS):
            janes = get(JANE)["ETag"]

            assert get(JANE, **{"If-None-Match": janes}).status_code == 304
            assert_names_its_own(JOHN, get(JOHN, **{"If-None-Match": janes}))

    def test_of_the_view_itself_brings_no_cookie(self) -> None:
        with serving_view(lambda request: HttpResponseNotModified()):
            assert given_by(get()) == set()

    def test_is_not_expected_where_nothing_could_make_one(self) -> None:
        asked = {"If-None-Match": '"of-1"', "If-Modified-Since": LATER["Last-Modified"]}
        with serving_view(lambda request: StreamingHttpResponse(["."]), CONDITIONAL, OURS):
            assert given_by(get(**asked)) != set()
        with serving_view(lambda request: HttpResponse("."), CONDITIONAL, OURS):
            assert given_by(get(**{"If-Modified-Since": LATER["Last-Modified"]})) != set()
            assert given_by(Client().post("/", headers=asked)) != set()

    def test_is_left_to_a_decorator_of_the_view(self) -> None:
        changed_at = datetime.datetime(2015, 10, 21, tzinfo=datetime.timezone.utc)
        with serving_view(last_modified(lambda request: changed_at)(by_render)):
            unchanged = get(**{"If-Modified-Since": "Wed, 21 Oct 2015 00:00:00 GMT"})
            changed = get(**{"If-Modified-Since": "Tue, 20 Oct 2015 00:00:00 GMT"})

        assert (unchanged.status_code, given_by(unchanged)) == (304, set())
        assert named_in(changed) == given_by(changed) != set()


class TestStream:
    """A template that is streamed names its visitor when the headers have gone."""

    @staticmethod
    def view(request: Any, **headers: str) -> StreamingHttpResponse:
        return StreamingHttpResponse((each() for each in (browser.script,)), headers=headers)

    @pytest.mark.parametrize("token", [JANE, NEW])
    def test_names_nobody_where_caches_may_keep_it(self, token: str) -> None:
        with serving_view(lambda request: self.view(request, **{"Cache-Control": "public, max-age=60"})):
            response = get(token)

            assert (named_in(response), given_by(response)) == (set(), set())

    @pytest.mark.parametrize("token", [JANE, NEW])
    def test_names_its_visitor_where_it_is_private(self, token: str) -> None:
        with serving_view(lambda request: self.view(request, **{"Cache-Control": "private"})):
            response = get(token)

            assert named_in(response) == ({token} if token else given_by(response)) != set()

    def test_names_one_who_is_given_a_cookie_with_it(self) -> None:
        with serving_view(self.view):
            response = get()

            assert named_in(response) == given_by(response) != set()

    def test_names_nobody_where_it_may_be_a_304_and_brings_no_cookie(self) -> None:
        headers = {"Cache-Control": "private", **LATER}
        with serving_view(lambda request: self.view(request, **headers)):
            response = get(**{"If-Modified-Since": "Wed, 21 Oct 2014 07:28:00 GMT"})

            assert (named_in(response), given_by(response)) == (set(), set())

    def test_names_nobody_where_a_middleware_around_it_lets_caches_keep_it(self) -> None:
        private = {"Cache-Control": "private"}
        with serving_view(lambda request: self.view(request, **private), f"{__name__}.LetsCachesKeepAll", OURS):
            assert named_in(get(JANE)) == set()

    async def test_that_is_async_keeps_a_scope_from_step_to_step(self) -> None:
        seen: list[Any] = []

        async def view(request: Any) -> StreamingHttpResponse:
            async def body() -> AsyncIterator[bytes]:
                with identity_scope("somebody-else"):
                    for _ in range(2):
                        seen.append(current_identity())
                        yield b"."
                set_user_token("later")
                yield b"."
                seen.append(current_identity())

            return StreamingHttpResponse(body())

        with serving_view(view):
            response: Any = await AsyncClient().get("/")
            async for _ in response:
                assert current_identity() is None

        assert [identity.user_token for identity in seen] == ["somebody-else", "somebody-else", "later"]


class LetsCachesKeepAll:
    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        response = self.get_response(request)
        response["Cache-Control"] = "public, max-age=60"
        return response


class TestOtherResponses:
    def test_an_error_page_names_its_own_visitor(self) -> None:
        with serving_view(lambda request: 1 / 0, *SITES["all of Django's"]):
            for token in (JANE, NEW, JOHN):
                response = get(token)

                assert response.status_code == 500
                assert named_in(response) == ({token} if token else given_by(response)) != set()
                assert_is_private(response)

    @pytest.mark.parametrize("token", [JANE, NEW])
    def test_an_error_page_for_developers_names_its_own_visitor(self, token: str) -> None:
        def view(request: Any) -> HttpResponse:
            raise ZeroDivisionError(browser.script())

        with serving_view(view, DEBUG=True):
            response = get(token)

        assert response.status_code == 500
        assert named_in(response) == ({token} if token else given_by(response)) != set()
        assert_is_private(response)

    def test_a_response_that_is_given_to_all_keeps_nothing_of_any_visitor(self) -> None:
        the_same = HttpResponse("the same for all", headers={"X-Own": "stays"})
        the_same.set_cookie("cart", "1")

        with serving_view(lambda request: the_same):
            first, known, second = get(), get(JANE), get()

        assert given_by(first) != given_by(second) != set()
        assert given_by(known) == set()
        assert [response["X-Own"] for response in (first, known, second)] == ["stays"] * 3
        assert [dict(the_same.items()), set(the_same.cookies)] == [dict(known.items()), {"cart"}]

    def test_a_rendered_response_still_shows_tests_its_context(self) -> None:
        with serving_view(by_template_response):
            response = get()

            assert response.template_name == "page.html"
            assert response.context_data is None
            assert response.resolver_match.func is by_template_response

    @pytest.mark.parametrize(
        ("response", "brings_one"),
        [
            (lambda: HttpResponseRedirect("/elsewhere"), True),
            (lambda: FileResponse(io.BytesIO(b"a file")), True),
            (lambda: FileResponse(io.BytesIO(b"a file"), headers=LATER), False),
            (lambda: HttpResponse(b"a{}", content_type="text/css", headers=LATER), False),
            (lambda: HttpResponse("a page", headers=LATER), True),
            (lambda: HttpResponse("a page", headers={"CDN-Cache-Control": "max-age=60"}), False),
        ],
        ids=["redirect", "file", "dated file", "style sheet", "dated page", "page that a CDN keeps"],
    )
    def test_bring_a_cookie_where_no_cache_shares_them(self, response: Any, brings_one: bool) -> None:
        with serving_view(lambda request: response()):
            found = get()

        assert bool(given_by(found)) == brings_one
        assert (found.get("Cache-Control") == "private") == brings_one


class TestAnOwnCookie:
    @staticmethod
    def sets(response: HttpResponse) -> HttpResponse:
        response.set_cookie("_ALGOLIA", JOHN)
        return response

    @staticmethod
    def deletes(response: HttpResponse) -> HttpResponse:
        response.delete_cookie("_ALGOLIA")
        return response

    def test_that_a_view_sets_or_deletes_has_the_last_word(self) -> None:
        with serving_view(lambda request: self.sets(HttpResponse())):
            assert given_by(get()) == {JOHN}
        with serving_view(lambda request: self.deletes(HttpResponse())):
            response = get()

        assert response.cookies.output(header="").strip().startswith('_ALGOLIA="";')

    def test_that_a_middleware_around_ours_sets_has_the_last_word(self) -> None:
        with serving_view(lambda request: HttpResponse(), f"{__name__}.SetsTheCookie", OURS):
            assert given_by(get()) == {JOHN}

    @pytest.mark.parametrize("name", ["Set-Cookie", "set-cookie"])
    def test_that_is_said_as_a_header_stays(self, name: str) -> None:
        with serving_view(lambda request: HttpResponse(browser.script(), headers={name: "cart=1"})):
            response = get()

            assert response[name] == "cart=1"
            assert given_by(response) == named_in(response) != set()
        with serving_view(lambda request: HttpResponse(headers={name: f"_ALGOLIA={JOHN}"})):
            assert given_by(get()) == set()

    def test_of_another_name_stays(self) -> None:
        def view(request: Any) -> HttpResponse:
            response = HttpResponse()
            response.set_cookie("cart", "1 & 2", max_age=60, samesite="Strict")
            return response

        with serving_view(view):
            response = get()

        assert response.cookies["cart"].OutputString().startswith('cart="1 & 2"; expires=')
        assert set(response.cookies) == {"cart", "_ALGOLIA"}


def SetsTheCookie(get_response: Any) -> Any:  # a middleware, as Django calls it
    return lambda request: TestAnOwnCookie.sets(get_response(request))


def test_a_fragment_of_the_low_level_cache_is_not_seen_and_so_stands_in_the_docs() -> None:
    def view(request: Any) -> HttpResponse:
        return HttpResponse(cache.get_or_set("fragment", browser.script))

    with serving_view(view):
        get(JANE)
        assert named_in(get(JOHN)) == {JANE}


@pytest.mark.skipif(shutil.which("node") is None, reason="the page's script needs Node.js to run here")
@pytest.mark.parametrize(
    ("cookies", "calls"),
    [
        ("", []),
        (f"_ALGOLIA={JANE}", [["setUserToken", JANE]]),
        (f"cart=1; _ALGOLIA={JANE}; consent=yes", [["setUserToken", JANE]]),
        (f"my_ALGOLIA={JOHN}; _ALGOLIA={JANE}; _ALGOLIA={JOHN}", [["setUserToken", JANE]]),
    ],
)
def test_the_script_that_the_docs_show_for_a_kept_page_reads_the_cookie(cookies: str, calls: list[Any]) -> None:
    (script,) = re.findall(r"^```js\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    page = f"const calls = [], document = {{cookie: {json.dumps(cookies)}}}, aa = (...call) => calls.push(call);"

    result = subprocess.run(
        ["node", "--eval", f"{page}{script}console.log(JSON.stringify(calls));"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(result.stdout) == calls


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log"
    with serving.running(serving.gunicorn("probe_django:wsgi", port, "--threads", "4"), port, log):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["cached-page", "cached-settings"])
def test_under_a_real_server_too_each_page_names_its_own_visitor(page: str, server: str) -> None:
    for token in (JANE, NEW, JOHN, NEW, JANE):
        cookies = {"_ALGOLIA": token} if token else {}
        response = httpx.get(f"{server}/{page}", cookies=cookies, timeout=PATIENCE, trust_env=False)
        own = token or response.cookies["_ALGOLIA"]

        assert set(re.findall(r"anonymous-[0-9a-f-]{36}", response.text)) == {own}
        assert response.headers["Cache-Control"] == "private"
