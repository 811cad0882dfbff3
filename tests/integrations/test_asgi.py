from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import fastapi
import hostile
import httpx
import litestar
import pytest
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from algolia_usertoken import (
    EventSender,
    Identity,
    MemoryDelivery,
    TokenProvider,
    browser,
    current_identity,
    identity_scope,
    set_authenticated_user_token,
    set_user_token,
)
from algolia_usertoken.integrations.asgi import IdentityMiddleware

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"


class Recorder:
    """An ASGI application that notes whom it was called as, and answers."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self.seen: list[Identity | None] = []
        self.headers = headers
        self.scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.seen.append(current_identity())
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await send({"type": "http.response.body", "body": b"ok"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.accept"})


async def call(app: Any, *headers: tuple[bytes, bytes], kind: str = "http", **scope: Any) -> list[dict[str, Any]]:
    """The messages that an application sends for one request."""
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": kind, "scheme": "http", "headers": list(headers), **scope}, receive, send)
    return sent


def set_cookies(sent: list[dict[str, Any]]) -> list[bytes]:
    return [value for name, value in sent[0].get("headers", ()) if name == b"set-cookie"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
class TestEachConnection:
    async def test_is_served_as_its_visitor(self, kind: str) -> None:
        app = Recorder()

        await call(IdentityMiddleware(app), (b"cookie", f"_ALGOLIA={TOKEN}".encode()), kind=kind)

        assert app.seen == [Identity(TOKEN)]
        assert current_identity() is None

    async def test_is_served_as_nobody_where_there_is_nothing(self, kind: str) -> None:
        app = Recorder()

        with identity_scope("somebody-else"):
            await call(IdentityMiddleware(app), kind=kind)
            assert current_identity() == Identity("somebody-else")

        assert app.seen == [Identity()]

    async def test_gives_the_identity_to_handlers_outside(self, kind: str) -> None:
        app = Recorder()

        await call(IdentityMiddleware(app), (b"cookie", f"_ALGOLIA={TOKEN}".encode()), kind=kind, state={"theirs": 1})

        assert app.scope["state"] == {"theirs": 1, "algolia_identity": Identity(TOKEN)}

    async def test_may_bring_a_cookie(self, kind: str) -> None:
        app = Recorder()

        sent = await call(IdentityMiddleware(app, set_cookie=True), kind=kind)

        token = app.seen[0].user_token
        assert set_cookies(sent) == [f"_ALGOLIA={token}; Max-Age=15552000; Path=/".encode()]

    @pytest.mark.parametrize("scheme", ["https", "wss"])
    async def test_brings_a_secure_one_where_it_is_encrypted(self, kind: str, scheme: str) -> None:
        sent = await call(IdentityMiddleware(Recorder(), set_cookie=True), kind=kind, scheme=scheme)

        assert set_cookies(sent)[0].endswith(b"; Path=/; Secure")


class TestIdentityMiddleware:
    @pytest.mark.parametrize("kind", ["lifespan", "a kind to come"])
    async def test_gives_what_is_no_request_no_visitor(self, kind: str) -> None:
        app = Recorder()

        await call(IdentityMiddleware(app), kind=kind)

        assert app.seen == [None]
        assert "state" not in app.scope

    async def test_takes_cookies_in_pieces(self) -> None:
        app = Recorder()

        await call(IdentityMiddleware(app), (b"cookie", b"a=1"), (b"cookie", f"_ALGOLIA={TOKEN}".encode()))

        assert app.seen == [Identity(TOKEN)]

    async def test_takes_no_header_without_opt_in(self) -> None:
        app = Recorder()

        await call(IdentityMiddleware(app), (b"x-algolia-usertoken", b"app-1"))

        assert app.seen == [Identity()]

    async def test_takes_the_header_opted_in_to_once(self) -> None:
        app = Recorder()
        middleware = IdentityMiddleware(app, header="X-Algolia-UserToken")

        await call(middleware, (b"x-algolia-usertoken", b"app-1"))
        await call(middleware, (b"x-algolia-usertoken", b"app-1"), (b"x-algolia-usertoken", b"app-2"))

        assert app.seen == [Identity("app-1"), Identity()]

    async def test_gives_no_cookie_with_what_a_shared_cache_keeps(self) -> None:
        app = IdentityMiddleware(Recorder((b"Cache-Control", b"public, max-age=60")), set_cookie=True)

        assert set_cookies(await call(app)) == []

    async def test_changes_no_message_of_the_application(self) -> None:
        app = Recorder((b"content-type", b"text/plain"))

        await call(IdentityMiddleware(app, set_cookie=True))

        assert app.headers == ((b"content-type", b"text/plain"),)

    async def test_notes_the_address(self) -> None:
        app = Recorder()
        middleware = IdentityMiddleware(app, client_ip=True)

        for client in (("203.0.113.7", 50000), None, ("testclient", 50000)):
            await call(middleware, client=client)

        assert app.seen == [Identity(client_ip="203.0.113.7"), Identity(), Identity()]

    async def test_asks_functions_of_the_scope_plain_and_async(self) -> None:
        async def login(scope: Any) -> str:
            await asyncio.sleep(0)
            return scope["user"]

        app = Recorder()
        await call(IdentityMiddleware(app, authenticated_user_token=login), user="user-42")
        await call(IdentityMiddleware(app, authenticated_user_token=lambda scope: scope["user"]), user="user-42")
        await call(IdentityMiddleware(app, opted_out=lambda scope: True), (b"cookie", f"_ALGOLIA={TOKEN}".encode()))

        assert app.seen == [Identity(None, "user-42")] * 2 + [Identity(opted_out=True)]

    async def test_survives_functions_that_fail(self, caplog: pytest.LogCaptureFixture) -> None:
        app = Recorder()

        await call(
            IdentityMiddleware(app, authenticated_user_token=lambda scope: scope["no such key"], set_cookie=True)
        )

        assert app.seen[0].authenticated_user_token is None
        assert app.seen[0].user_token
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    async def test_restores_the_context_after_an_error(self) -> None:
        async def fail(scope: Any, receive: Any, send: Any) -> None:
            set_user_token("another")
            raise RuntimeError("meant")

        with identity_scope("before"):
            with pytest.raises(RuntimeError, match="meant"):
                await call(IdentityMiddleware(fail))
            assert current_identity() == Identity("before")

    async def test_restores_the_context_when_the_visitor_is_gone(self) -> None:
        async def wait(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(60)

        async def serve() -> Identity | None:
            try:
                await call(IdentityMiddleware(wait), (b"cookie", f"_ALGOLIA={TOKEN}".encode()))
            except asyncio.CancelledError:
                return current_identity()
            raise AssertionError("not cancelled")

        task = asyncio.create_task(serve())
        await asyncio.sleep(0.01)
        task.cancel()

        assert await task is None

    @pytest.mark.parametrize("value", hostile.VALUES, ids=hostile.IDS)
    async def test_hostile_input_is_never_an_error(self, value: bytes) -> None:
        app = Recorder()
        middleware = IdentityMiddleware(app, set_cookie=True, header="X-Algolia-UserToken", client_ip=True)

        sent = await call(
            middleware,
            (b"cookie", b"_ALGOLIA=" + value),
            (b"cookie", value),
            (b"x-algolia-usertoken", value + b"!"),
            client=(value.decode("latin-1"), 1),
        )

        assert sent[0]["status"] == 200
        assert len(set_cookies(sent)) == 1

    @pytest.mark.parametrize("keywords", [{"cookie": "a b"}, {"header": ""}])
    def test_refuses_what_can_be_no_name(self, keywords: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=next(iter(keywords))):
            IdentityMiddleware(Recorder(), **keywords)

    def test_refuses_unknown_keywords(self) -> None:
        with pytest.raises(TypeError, match="cokie"):
            IdentityMiddleware(Recorder(), cokie="_ALGOLIA")


def client_of(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://shop", cookies={"_ALGOLIA": TOKEN})


class TestStarlette:
    async def test_views_streams_background_tasks_and_error_handlers_know_the_visitor(self) -> None:
        seen: dict[str, Identity | None] = {}

        def note(name: str) -> None:
            seen[name] = current_identity()

        def sync_view(request: Request) -> Any:
            note("sync view")
            return PlainTextResponse("ok")

        async def view(request: Request) -> Any:
            note("async view")

            async def body() -> AsyncIterator[bytes]:
                for step in range(2):
                    note(f"step {step}")
                    yield b"."

            return StreamingResponse(body(), background=BackgroundTask(note, "background task"))

        async def crash(request: Request) -> Any:
            raise RuntimeError("meant")

        async def on_crash(request: Request, error: Exception) -> Any:
            note("handler for Exception, by the context")
            seen["handler for Exception, by the request"] = request.state.algolia_identity
            return PlainTextResponse("sorry", status_code=500)

        app = Starlette(
            routes=[Route("/sync", sync_view), Route("/", view), Route("/crash", crash)],
            middleware=[Middleware(IdentityMiddleware)],
            exception_handlers={Exception: on_crash},
        )
        async with client_of(app) as client:
            for path in ("/", "/sync", "/crash"):
                await client.get(path)

        assert seen.pop("handler for Exception, by the context") is None
        assert set(seen.values()) == {Identity(TOKEN)}
        assert len(seen) == 6

    async def test_login_and_logout_hold_for_the_rest_of_the_request(self) -> None:
        async def login(request: Request) -> Any:
            set_authenticated_user_token("user-42")
            logged_in = browser.settings()
            set_authenticated_user_token(None)
            return JSONResponse([logged_in, browser.settings()])

        async with client_of(IdentityMiddleware(Starlette(routes=[Route("/", login)]))) as client:
            logged_in, logged_out = (await client.get("/")).json()

        assert logged_in == browser.settings(Identity(TOKEN, "user-42"))
        assert logged_out == browser.settings(TOKEN)


class TestLitestar:
    @pytest.mark.parametrize("where", ["around", "inside"])
    async def test_views_know_the_visitor(self, where: str) -> None:
        @litestar.get("/", sync_to_thread=True)
        def sync_view() -> dict[str, Any]:
            return browser.settings()

        @litestar.get("/async")
        async def async_view(request: litestar.Request[Any, Any, Any]) -> dict[str, Any]:
            assert request.scope["state"]["algolia_identity"] == Identity(TOKEN)
            return browser.settings()

        middleware = [DefineMiddleware(IdentityMiddleware, set_cookie=True)] if where == "inside" else []
        app: Any = litestar.Litestar([sync_view, async_view], middleware=middleware)
        async with client_of(app if where == "inside" else IdentityMiddleware(app)) as client:
            answers = [(await client.get(path)).json() for path in ("/", "/async")]

        assert answers == [browser.settings(TOKEN)] * 2


class Uninspectable:
    """An application without a signature, as some that are written in C."""

    __signature__ = "none"

    async def __call__(self, *arguments: Any) -> None:
        pass


def test_an_application_that_does_not_say_what_it_takes_is_believed() -> None:
    IdentityMiddleware(Uninspectable())


async def test_what_the_server_does_while_it_reads_a_body_is_done_as_before_the_request() -> None:
    seen: list[Identity | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current_identity())
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        seen.append(current_identity())
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        seen.append(current_identity())

    headers = [(b"cookie", f"_ALGOLIA={TOKEN}".encode())]
    await IdentityMiddleware(app)({"type": "http", "method": "POST", "headers": headers}, receive, send)

    assert seen == [Identity(TOKEN), None, None]


async def test_an_address_that_the_outer_one_knows_stays_where_the_inner_one_gives_a_cookie() -> None:
    seen: list[Identity | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current_identity())

    nested = IdentityMiddleware(IdentityMiddleware(app, set_cookie=True), client_ip=True)
    await nested({"type": "http", "method": "GET", "headers": [], "client": ("203.0.113.7", 1)}, None, None)  # type: ignore[arg-type]

    assert seen[0] is not None
    assert seen[0].client_ip == "203.0.113.7"
    assert str(seen[0].user_token).startswith("anonymous-")


class TestAFunctionThatNeedsAnotherMiddleware:
    """Where that middleware is inside this one, it has not run yet."""

    ADVICE = "must be outside IdentityMiddleware. In FastAPI and Starlette, call add_middleware() with it after"

    @staticmethod
    def fastapi_shop(*middlewares: tuple[Any, dict[str, Any]]) -> fastapi.FastAPI:
        app = fastapi.FastAPI()
        for middleware, options in middlewares:
            app.add_middleware(middleware, **options)

        @app.get("/")
        def index() -> str:
            identity = current_identity()
            return str(identity and identity.authenticated_user_token)

        return app

    @pytest.mark.parametrize(
        ("function", "middleware"),
        [
            (lambda scope: scope["session"]["token"], "SessionMiddleware"),
            (lambda scope: Request(scope).session["token"], "SessionMiddleware"),
            (lambda scope: scope["user"].token, "AuthenticationMiddleware"),
            (lambda scope: Request(scope).user.token, "AuthenticationMiddleware"),
            (lambda scope: Request(scope).auth.token, "AuthenticationMiddleware"),
            (lambda scope: litestar.Request(scope).session["token"], "SessionMiddleware"),
            (lambda scope: litestar.Request(scope).user.token, "AuthenticationMiddleware"),
        ],
    )
    @pytest.mark.parametrize("option", ["authenticated_user_token", "set_cookie", "opted_out"])
    async def test_the_log_names_it_and_says_where_it_must_be(
        self, option: str, function: Any, middleware: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = self.fastapi_shop((SessionMiddleware, {"secret_key": "s"}), (IdentityMiddleware, {option: function}))

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:
            assert (await client.get("/")).status_code == 200

        assert f"{middleware} {self.ADVICE}" in caplog.text

    async def test_added_as_the_log_says_it_finds_what_it_needs(self, caplog: pytest.LogCaptureFixture) -> None:
        def token(scope: Any) -> Any:
            scope["session"].setdefault("token", "user-1")
            return scope["session"]["token"]

        app = self.fastapi_shop(
            (IdentityMiddleware, {"authenticated_user_token": token}), (SessionMiddleware, {"secret_key": "s"})
        )

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:
            assert (await client.get("/")).json() == "user-1"

        assert "failed" not in caplog.text

    @pytest.mark.parametrize(
        ("look", "middleware"),
        [
            (lambda request: request.scope["session"], "SessionMiddleware"),
            (lambda request: request.session, "SessionMiddleware"),
            (lambda request: request.user, "AuthenticationMiddleware"),
        ],
    )
    async def test_where_resolve_needs_it_the_refused_event_says_so(
        self, look: Any, middleware: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        served: ContextVar[Request] = ContextVar("served")
        provider = TokenProvider(resolve=lambda: look(served.get())["token"])
        events = EventSender(delivery=MemoryDelivery(), token_provider=provider, background=False)
        app = fastapi.FastAPI()

        @app.get("/")
        def index(request: fastapi.Request) -> bool:
            served.set(request)
            return events.viewed_object_ids("Seen", "products", ["1"])

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:
            assert (await client.get("/")).json() is False
        events.close()

        assert f"If it needs what {middleware} puts into the request, that must have run before" in caplog.text

    @pytest.mark.parametrize(
        "error", [KeyError("token"), KeyError(), KeyError(7), AssertionError(), AssertionError("no session"), OSError()]
    )
    async def test_of_any_other_error_nothing_is_guessed(
        self, error: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(scope: Any) -> str:
            raise error

        await call(IdentityMiddleware(Recorder(), authenticated_user_token=fail))

        assert "authenticated_user_token failed" in caplog.text
        assert "outside IdentityMiddleware" not in caplog.text
