from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import hostile
import probe
import probe_django  # sets Django up
import pytest
from asgiref.sync import sync_to_async
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.test import AsyncClient, Client, RequestFactory, override_settings
from waiting import PATIENCE

from algolia_usertoken import (
    Identity,
    TokenAwareClientSync,
    browser,
    current_identity,
    identity_scope,
    make_token_aware,
    set_authenticated_user_token,
)
from algolia_usertoken.integrations.django import IdentityMiddleware
from algolia_usertoken.integrations.django.checks import check_middleware, check_settings
from algolia_usertoken.integrations.django.middleware import served
from algolia_usertoken.integrations.visitor import VISIT
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.oldest_versions

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"
MIDDLEWARE = "algolia_usertoken.integrations.django.IdentityMiddleware"


@pytest.fixture(autouse=True)
def _shop(algolia: LocalAlgolia, sync_client: TokenAwareClientSync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "algolia", algolia)
    monkeypatch.setattr(probe, "client", sync_client)


@pytest.fixture
def browser_of_a_visitor() -> Client:
    client = Client(raise_request_exception=False)
    client.cookies["_ALGOLIA"] = TOKEN
    return client


def seen_by(identity: Identity) -> dict[str, Any]:
    return {
        "user_token": identity.user_token,
        "authenticated_user_token": identity.authenticated_user_token,
        "client_ip": identity.client_ip,
        "opted_out": identity.opted_out,
    }


def middleware(get_response: Any, **keys: Any) -> IdentityMiddleware:
    with override_settings(ALGOLIA_USERTOKEN=keys):
        return IdentityMiddleware(get_response)


class TestEachRequest:
    @pytest.mark.parametrize("kind", ["sync", "async", "error"])
    def test_is_served_as_its_visitor_under_wsgi(self, kind: str, browser_of_a_visitor: Client) -> None:
        response = browser_of_a_visitor.get(f"/1/{kind}/1", headers={"X-Login": "user-42"})

        assert response.json() == seen_by(Identity(TOKEN, "user-42"))
        assert current_identity() is None

    @pytest.mark.parametrize("kind", ["sync", "async", "error"])
    async def test_is_served_as_its_visitor_under_asgi(self, kind: str) -> None:
        client = AsyncClient(raise_request_exception=False)
        client.cookies["_ALGOLIA"] = TOKEN
        try:
            response = await client.get(f"/1/{kind}/1", headers={"X-Login": "user-42"})
        finally:
            await probe.close_async()

        assert response.json() == seen_by(Identity(TOKEN, "user-42"))
        assert current_identity() is None

    def test_searches_and_clicks_as_its_visitor(
        self, browser_of_a_visitor: Client, algolia: LocalAlgolia, sync_client: TokenAwareClientSync
    ) -> None:
        browser_of_a_visitor.get("/1/sync/1")
        sync_client.events.flush()

        assert [search.user_token for search in algolia.searches] == [TOKEN]
        assert [event.user_token for event in algolia.events] == [TOKEN]
        assert algolia.mismatches() == []

    def test_may_bring_a_cookie(self) -> None:
        client = Client()

        first, second = client.get("/settings"), client.get("/settings")

        token = first.json()["userToken"]
        assert second.json()["userToken"] == token
        assert first.cookies["_ALGOLIA"].OutputString() == f"_ALGOLIA={token}; Max-Age=15552000; Path=/"
        assert first.headers["Vary"] == "Cookie, X-Algolia-UserToken"
        assert first.headers["Cache-Control"] == "private"
        assert "_ALGOLIA" not in second.cookies

    def test_brings_a_secure_one_where_it_is_encrypted(self) -> None:
        assert Client().get("/settings", secure=True).cookies["_ALGOLIA"]["secure"] is True

    def test_brings_none_with_what_a_shared_cache_keeps(self) -> None:
        response = HttpResponse(headers={"Cache-Control": "public, max-age=60"})

        serve = middleware(lambda request: response, SET_COOKIE=True)

        assert "_ALGOLIA" not in serve(RequestFactory().get("/")).cookies

    def test_takes_the_header_only_where_opted_in_to(self) -> None:
        request = RequestFactory().get("/", headers={"X-Algolia-UserToken": "app-1"})
        seen: list[Identity | None] = []

        def view(request: Any) -> HttpResponse:
            seen.append(current_identity())
            return HttpResponse()

        middleware(view)(request)
        middleware(view, HEADER="X-Algolia-UserToken")(request)

        assert seen == [Identity(), Identity("app-1")]

    def test_keeps_login_and_logout_for_the_rest_and_the_token_through_both(self, browser_of_a_visitor: Client) -> None:
        client = browser_of_a_visitor
        login = client.post("/login", {"token": "user-42"}).json()
        logged_in = client.get("/1/sync/1").json()
        logout = client.post("/logout").json()
        logged_out = client.get("/1/sync/1").json()

        assert login == logged_in == seen_by(Identity(TOKEN, "user-42"))
        assert logout == logged_out == seen_by(Identity(TOKEN))

    def test_leaves_nothing_of_one_who_refused(self, browser_of_a_visitor: Client, algolia: LocalAlgolia) -> None:
        browser_of_a_visitor.cookies["consent"] = "no"

        response = browser_of_a_visitor.get("/1/sync/1")

        assert response.json() == seen_by(Identity(opted_out=True))
        assert [search.user_token for search in algolia.searches] == [None]

    async def test_runs_functions_for_an_async_request_where_the_orm_may_be_used(self) -> None:
        threads: list[threading.Thread] = []

        def login(request: Any) -> str:
            threads.append(threading.current_thread())
            return "user-42"

        async def view(request: Any) -> HttpResponse:
            return HttpResponse(current_identity().authenticated_user_token)

        response = await middleware(view, AUTHENTICATED_USER_TOKEN=login)(RequestFactory().get("/"))

        assert response.content == b"user-42"
        assert threads[0] is not threading.current_thread()

    async def test_leaves_nothing_when_the_visitor_is_gone_in_the_middle_of_a_sync_view(self) -> None:
        started, go_on = threading.Event(), threading.Event()
        after: list[Identity | None] = []

        def view(request: Any) -> HttpResponse:
            with identity_scope("a-job-on-the-side"):
                started.set()
                go_on.wait(PATIENCE)
            return HttpResponse()

        async def serve() -> None:
            request = RequestFactory().get("/", HTTP_COOKIE=f"_ALGOLIA={TOKEN}")
            try:
                await middleware(sync_to_async(view))(request)
            finally:
                after.append(current_identity())

        task = asyncio.create_task(serve())
        await asyncio.to_thread(started.wait, PATIENCE)
        task.cancel()
        await asyncio.sleep(0.01)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert after == [None]

    @pytest.mark.parametrize("value", hostile.VALUES, ids=hostile.IDS)
    def test_is_never_an_error_by_hostile_input(self, value: bytes) -> None:
        text = value.decode("latin-1")

        response = Client().get(
            "/page", HTTP_COOKIE=f"_ALGOLIA={text}; {text}", HTTP_X_ALGOLIA_USERTOKEN=text + "!", REMOTE_ADDR=text
        )

        assert response.status_code == 200
        assert re.fullmatch(r"<html><script>[^<]*</script></html>", response.content.decode())

    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
    def test_is_over_when_its_response_is_done_or_it_ends_by_an_error(self, error: type[BaseException]) -> None:
        def view(request: Any) -> HttpResponse:
            raise error

        def stream(request: Any) -> StreamingHttpResponse:
            return StreamingHttpResponse(["."])

        done, failed, streamed = (RequestFactory().get("/") for _ in range(3))
        middleware(lambda request: HttpResponse())(done)
        with pytest.raises(error):
            middleware(view)(failed)
        response = middleware(stream)(streamed)

        assert [request.META[VISIT].is_open for request in (done, failed, streamed)] == [False, False, True]
        response.close()
        assert not streamed.META[VISIT].is_open


class TestStream:
    def test_each_step_and_the_close_know_the_visitor_and_who_logged_in(self) -> None:
        seen: list[Identity | None] = []

        def view(request: Any) -> StreamingHttpResponse:
            def body() -> Iterator[bytes]:
                try:
                    for _ in range(3):
                        seen.append(current_identity())
                        yield b"."
                finally:
                    seen.append(current_identity())

            set_authenticated_user_token("user-42")
            return StreamingHttpResponse(body())

        response = middleware(view)(RequestFactory().get("/", HTTP_COOKIE=f"_ALGOLIA={TOKEN}"))
        content = iter(response)
        assert [next(content), next(content)] == [b".", b"."]
        assert current_identity() is None
        response.close()

        assert seen == [Identity(TOKEN, "user-42")] * 3
        assert current_identity() is None

    def test_that_is_read_to_its_end_knows_the_visitor_in_each_step(self) -> None:
        def view(request: Any) -> StreamingHttpResponse:
            return StreamingHttpResponse(str(current_identity() == Identity(TOKEN)) for _ in range(3))

        response = middleware(view)(RequestFactory().get("/", HTTP_COOKIE=f"_ALGOLIA={TOKEN}"))

        assert list(response) == [b"True"] * 3
        assert current_identity() is None

    async def test_each_async_step_knows_the_visitor(self) -> None:
        seen: list[Identity | None] = []

        async def view(request: Any) -> StreamingHttpResponse:
            async def body() -> AsyncIterator[bytes]:
                for _ in range(3):
                    seen.append(current_identity())
                    yield b"."

            return StreamingHttpResponse(body())

        response = await middleware(view)(RequestFactory().get("/", HTTP_COOKIE=f"_ALGOLIA={TOKEN}"))
        async for _ in response:
            assert current_identity() is None

        assert seen == [Identity(TOKEN)] * 3

    def test_a_file_is_left_to_the_server(self) -> None:
        response = FileResponse(io.BytesIO(b"a file"))

        served = middleware(lambda request: response)(RequestFactory().get("/"))

        assert served.file_to_stream is not None
        assert b"".join(served) == b"a file"


class TestTemplateTag:
    def test_is_the_script_of_the_visitor(self, browser_of_a_visitor: Client) -> None:
        response = browser_of_a_visitor.get("/page")

        assert response.content.decode() == f"<html>{browser.script(TOKEN)}</html>"

    @pytest.mark.parametrize(
        "template",
        [
            "{% algolia_user_token nonce='n0nce' %}",
            "{% with csp_nonce='n0nce' %}{% algolia_user_token %}{% endwith %}",
        ],
    )
    def test_writes_the_nonce_of_the_page(self, template: str, browser_of_a_visitor: Client) -> None:
        response = browser_of_a_visitor.get("/page", {"template": template})

        assert response.content.decode() == f"<html>{browser.script(TOKEN, nonce='n0nce')}</html>"

    def test_has_the_nonce_of_django_csp(self) -> None:
        request = RequestFactory().get("/")
        request.csp_nonce = "n0nce"
        template = engines["django"].from_string("{% load algolia_usertoken %}{% algolia_user_token %}")

        assert template.render({}, request) == browser.script(nonce="n0nce")
        assert template.render() == browser.script()

    @pytest.mark.parametrize(("source", "vary"), [("{% algolia_user_token %}", "Cookie"), ("the same for all", None)])
    def test_keeps_caches_from_handing_the_page_to_others(self, source: str, vary: str | None) -> None:
        def view(request: Any) -> HttpResponse:
            template = engines["django"].from_string("{% load algolia_usertoken %}" + source)
            return HttpResponse(template.render({}, request))

        response = middleware(view)(RequestFactory().get("/", HTTP_COOKIE=f"_ALGOLIA={TOKEN}"))

        assert response.headers.get("Vary") == vary

    @pytest.mark.parametrize("in_context", [{}, {"request": "of another kind"}])
    def test_keeps_caches_away_where_the_template_does_not_know_the_request(self, in_context: dict[str, Any]) -> None:
        def view(request: Any) -> HttpResponse:
            request.csp_nonce = "n0nce"
            template = engines["django"].from_string("{% load algolia_usertoken %}{% algolia_user_token %}")
            return HttpResponse(template.render(in_context))

        response = middleware(view)(RequestFactory().get("/", HTTP_COOKIE=f"_ALGOLIA={TOKEN}"))

        assert response.headers.get("Vary") == "Cookie"
        assert response.content.decode() == browser.script(TOKEN, nonce=None if in_context else "n0nce")
        assert served.get() is None


class TestSettings:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (["COOKIE"], "ALGOLIA_USERTOKEN must be a dict, not list"),
            ({"COKIE": "a"}, "unknown key 'COKIE': did you mean 'COOKIE'"),
            ({"set_cookie": True}, "unknown key 'set_cookie': did you mean 'SET_COOKIE'"),
            ({"ALLOW_ASYNC": True}, "unknown key 'ALLOW_ASYNC': its keys are"),
            ({7: True}, "unknown key: its keys are"),
            ({"CLIENT_IP": 1}, "client_ip must be True or False, not int"),
            ({"COOKIE": "a b"}, "cookie cannot be the name of a cookie"),
            ({"OPTED_OUT": "jane@example.com"}, r"\['OPTED_OUT'\]: it does not look like the dotted path"),
            ({"OPTED_OUT": "probe_django.no_such_name"}, "OPTED_OUT.*no_such_name"),
            ({"SET_COOKIE": "no_such_module.name"}, "SET_COOKIE.*no_such_module"),
            ({"AUTHENTICATED_USER_TOKEN": "probe_django.HERE"}, "authenticated_user_token must be a function"),
            ({"OPTED_OUT": probe.search_async}, "opted_out must be a plain function"),
            ({"COOKIE": "own-session"}, r"ALGOLIA_USERTOKEN\['COOKIE'\]: .*'own-session' holds a secret"),
            ({"COOKIE": "own-csrf"}, r"ALGOLIA_USERTOKEN\['COOKIE'\]: .*'own-csrf' holds a secret"),
            ({"COOKIE": "sessionid"}, r"ALGOLIA_USERTOKEN\['COOKIE'\]: .*'sessionid' holds a secret"),
        ],
    )
    def test_that_are_wrong_are_found_by_the_check_and_at_the_start(self, given: Any, message: str) -> None:
        names = {"SESSION_COOKIE_NAME": "own-session", "CSRF_COOKIE_NAME": "own-csrf"}
        with override_settings(ALGOLIA_USERTOKEN=given, **names):
            (error,) = check_settings()
            for view in (probe_django.in_sync_view, probe_django.in_async_view):
                with pytest.raises(ImproperlyConfigured, match=message):
                    IdentityMiddleware(view)

        assert error.id == "algolia_usertoken.E001"
        assert re.search(message, error.msg)

    def test_may_be_missing(self) -> None:
        with override_settings():
            del probe_django.settings.ALGOLIA_USERTOKEN
            assert check_settings() == []
            IdentityMiddleware(lambda request: HttpResponse())

    def test_are_checked_by_manage_py(self) -> None:
        with override_settings(ALGOLIA_USERTOKEN={"COKIE": "a"}, MIDDLEWARE=[]):
            found = {message.id for message in checks.run_checks()}

        assert {"algolia_usertoken.E001", "algolia_usertoken.W001"} <= found

    @pytest.mark.parametrize(
        ("order", "keys", "ids"),
        [
            (["sessions.middleware.Session", "auth.middleware.Authentication", None], {"OPTED_OUT": bool}, []),
            (["sessions.middleware.Session", None, "auth.middleware.Authentication"], {"OPTED_OUT": bool}, ["W002"]),
            ([None, "sessions.middleware.Session"], {"AUTHENTICATED_USER_TOKEN": "probe_django.login_of"}, ["W002"]),
            ([None, "sessions.middleware.Session"], {"SET_COOKIE": True}, []),
            (["sessions.middleware.Session"], {}, ["W001"]),
        ],
    )
    @pytest.mark.parametrize("ours", [MIDDLEWARE, f"{__name__}.Subclass"])
    def test_are_checked_together_with_the_place_of_the_middleware(
        self, order: list[str | None], keys: Any, ids: list[str], ours: str
    ) -> None:
        names = [ours if name is None else f"django.contrib.{name}Middleware" for name in order]
        with override_settings(MIDDLEWARE=names, ALGOLIA_USERTOKEN=keys):
            messages = check_middleware()

        assert [message.id for message in messages] == [f"algolia_usertoken.{id}" for id in ids]
        assert all(message.hint == f"Move {ours!r} below it." for message in messages if "W002" in message.id)

    def test_a_middleware_that_is_none_is_left_to_django(self) -> None:
        with override_settings(MIDDLEWARE=["no_such_module.Middleware", f"{__name__}.PATIENCE"]):
            (message,) = check_middleware()

        assert message.id == "algolia_usertoken.W001"


class Subclass(IdentityMiddleware):
    pass


class Product(models.Model):
    name = models.CharField(max_length=100)

    class Meta:
        app_label = "products"


def test_the_engine_of_algoliasearch_django_becomes_token_aware(
    algolia: LocalAlgolia, browser_of_a_visitor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from algoliasearch.search.config import SearchConfig

    monkeypatch.setattr(
        SearchConfig, "set_default_hosts", lambda config: setattr(config, "hosts", algolia.search_config().hosts)
    )
    from algoliasearch_django import AlgoliaIndex
    from algoliasearch_django.registration import AlgoliaEngine

    class ProductIndex(AlgoliaIndex):
        fields = ("name",)
        index_name = "products"

    engine = AlgoliaEngine({"APPLICATION_ID": algolia.app_id, "API_KEY": algolia.api_key, "AUTO_INDEXING": False})
    engine.register(Product, ProductIndex)
    make_token_aware(engine.client)  # before or after a model is registered: it is the same client

    def view(request: Any) -> HttpResponse:
        response = engine.raw_search(Product, "shoe", {"clickAnalytics": True})
        return HttpResponse(str(response["nbHits"]))

    response = middleware(view)(RequestFactory().get("/", HTTP_COOKIE=f"_ALGOLIA={TOKEN}"))

    assert response.content == b"2"
    assert [(search.index, search.user_token) for search in algolia.searches] == [("products", TOKEN)]
