"""Under aiohttp's own server, on loopback, asked by aiohttp's own client."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import logging
import pathlib
import typing
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import hostile
import pytest
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from algolia_usertoken import (
    Identity,
    browser,
    current_identity,
    identity_scope,
    set_authenticated_user_token,
    set_user_token,
)
from algolia_usertoken.context import current_request
from algolia_usertoken.integrations.aiohttp import identity_middleware

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"
AS_VISITOR = {"Cookie": f"theme=dark; _ALGOLIA={TOKEN}"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def say_who(request: web.Request) -> web.Response:
    """Answers with the identity that the handler sees, and names nobody as far as caches are concerned."""
    return web.json_response(repr(current_identity()))


def new_app(handler: Handler = say_who, *around: Any, **keywords: Any) -> web.Application:
    """An application with one handler; `around` are middlewares around ours."""
    app = web.Application(middlewares=[*around, identity_middleware(**keywords)])
    app.router.add_get("/", handler)
    return app


@asynccontextmanager
async def client_of(app: web.Application) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield client


async def get(app: web.Application, path: str = "/", **options: Any) -> tuple[Any, Any]:
    """The response to one request, and its body."""
    async with client_of(app) as client, client.get(path, allow_redirects=False, **options) as response:
        return response, (await response.json() if response.content_type == "application/json" else None)


def set_cookies(response: Any) -> list[str]:
    return typing.cast("list[str]", response.headers.getall("Set-Cookie", []))


class TestEachRequest:
    async def test_is_served_as_its_visitor(self) -> None:
        _, seen = await get(new_app(), headers=AS_VISITOR)

        assert seen == repr(Identity(TOKEN))
        assert current_identity() is None

    async def test_is_served_as_nobody_where_there_is_nothing(self) -> None:
        with identity_scope("who-started-the-server"):
            _, seen = await get(new_app())

        assert seen == repr(Identity())

    async def test_may_bring_a_cookie(self) -> None:
        response, seen = await get(new_app(set_cookie=True))

        (cookie,) = set_cookies(response)
        token = cookie.partition(";")[0].removeprefix("_ALGOLIA=")
        assert cookie == f"_ALGOLIA={token}; Max-Age=15552000; Path=/"
        assert seen == repr(Identity(token))
        assert response.headers["Cache-Control"] == "private"

    async def test_of_a_visitor_with_a_cookie_brings_none_and_is_left_as_it_is(self) -> None:
        response, _ = await get(new_app(set_cookie=True), headers=AS_VISITOR)

        assert {"Set-Cookie", "Cache-Control"}.isdisjoint(response.headers)

    async def test_brings_a_secure_cookie_where_it_is_encrypted(self) -> None:
        @web.middleware
        async def behind_a_proxy(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await handler(request.clone(scheme="https", remote="203.0.113.7"))

        response, seen = await get(new_app(say_who, behind_a_proxy, set_cookie=True, client_ip=True))

        assert set_cookies(response)[0].endswith("; Path=/; Secure")
        assert "203.0.113." in seen

    async def test_takes_cookies_in_pieces(self) -> None:
        _, seen = await get(new_app(), headers=[("Cookie", "a=1"), ("Cookie", f"_ALGOLIA={TOKEN}")])

        assert seen == repr(Identity(TOKEN))

    async def test_takes_a_header_that_was_opted_in_to_and_came_once(self) -> None:
        once, twice = [("X-Algolia-UserToken", "app-1")], [("X-Algolia-UserToken", name) for name in ("app-1", "app-2")]

        assert (await get(new_app(), headers=once))[1] == repr(Identity())
        app = new_app(header="X-Algolia-UserToken")
        async with client_of(app) as client:
            answers = [await (await client.get("/", headers=headers)).json() for headers in (once, twice)]
        assert answers == [repr(Identity("app-1")), repr(Identity())]

    async def test_notes_no_address_that_is_not_of_the_internet(self, caplog: pytest.LogCaptureFixture) -> None:
        _, seen = await get(new_app(client_ip=True))

        assert seen == repr(Identity())
        ours = [record.getMessage() for record in caplog.records if record.name.startswith("algolia_usertoken")]
        assert len(ours) == 1
        assert "proxy" in ours[0]
        assert "127.0.0.1" not in ours[0]

    async def test_is_not_seen_by_the_next_on_the_same_connection(self) -> None:
        async with client_of(new_app()) as client:
            answers = [
                await (await client.get("/", headers=headers)).json() for headers in (AS_VISITOR, {}, AS_VISITOR, {})
            ]

        assert answers == [repr(Identity(TOKEN)), repr(Identity())] * 2

    async def test_leaves_no_more_to_the_garbage_collector_than_aiohttp_does(self) -> None:
        """Which is nothing, with today's aiohttp."""
        left: list[weakref.ref[Any]] = []

        async def handler(request: web.Request) -> web.Response:
            left.extend(map(weakref.ref, [request, request.writer, current_request() or request]))
            return await say_who(request)

        without = web.Application()
        without.router.add_get("/", handler)
        gc.disable()
        try:
            for app in (without, new_app(handler, set_cookie=True)):
                await get(app)
            by_aiohttp = [reference() is not None for reference in left[:3]]
            by_us = [reference() is not None for reference in left[3:]]
        finally:
            gc.enable()

        assert by_us == by_aiohttp

    async def test_asks_functions_of_the_request_plain_and_async(self) -> None:
        async def login(request: web.Request) -> str | None:
            await asyncio.sleep(0)
            return request.query.get("user")

        plain = new_app(authenticated_user_token=lambda request: request.query["user"])
        assert (await get(new_app(authenticated_user_token=login), "/?user=u-1"))[1] == repr(Identity(None, "u-1"))
        assert (await get(plain, "/?user=u-1"))[1] == repr(Identity(None, "u-1"))
        refused, seen = await get(new_app(opted_out=lambda request: True, set_cookie=True), headers=AS_VISITOR)
        assert seen == repr(Identity(opted_out=True))
        assert set_cookies(refused) == []

    async def test_survives_functions_that_fail(self, caplog: pytest.LogCaptureFixture) -> None:
        async def login(request: web.Request) -> str:
            raise web.HTTPFound(request.query["next"])

        app = new_app(authenticated_user_token=login, set_cookie=lambda request: True)
        response, _ = await get(app, "/?next=jane@example.com")

        assert (response.status, len(set_cookies(response))) == (200, 1)
        ours = [record for record in caplog.records if record.name.startswith("algolia_usertoken")]
        assert [record.levelno for record in ours] == [logging.ERROR]
        assert "jane" not in ours[0].getMessage()

    @pytest.mark.parametrize("value", hostile.VALUES, ids=hostile.IDS)
    async def test_is_never_an_error_of_ours_whatever_the_visitor_sends(self, value: bytes) -> None:
        app = web.Application(
            middlewares=[identity_middleware(set_cookie=True, header="X-Algolia-UserToken", client_ip=True)],
            handler_args={"max_field_size": 32_768, "max_line_size": 32_768},
        )
        app.router.add_get("/", say_who)
        lines = [b"Cookie: _ALGOLIA=" + value, b"Cookie: " + value, b"X-Algolia-UserToken: " + value + b"!"]
        async with client_of(app) as client:
            reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(b"\r\n".join([b"GET / HTTP/1.1", b"Host: shop", b"Connection: close", *lines, b"", b""]))
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"Set-Cookie: _ALGOLIA=anonymous-") == 1


class TestTheRestOfTheRequest:
    """What comes after the handler, in aiohttp itself or in what stands around our middleware."""

    async def test_a_body_that_is_made_while_it_is_sent_knows_the_visitor(self) -> None:
        seen: list[Identity | None] = []

        async def handler(request: web.Request) -> web.Response:
            async def body() -> AsyncIterator[bytes]:
                for _ in range(3):
                    seen.append(current_identity())
                    yield b"."
                    await asyncio.sleep(0)

            return web.Response(body=body())

        await get(new_app(handler), headers=AS_VISITOR)

        assert seen == [Identity(TOKEN)] * 3

    async def test_signals_and_the_access_log_know_the_visitor(self) -> None:
        seen: dict[str, Identity | None] = {}

        async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
            seen["signal"] = current_identity()

        class Log(AbstractAccessLogger):
            def log(self, request: Any, response: Any, time: float) -> None:
                seen["log"] = current_identity()

        app = new_app()
        app.on_response_prepare.append(on_prepare)
        runner = web.AppRunner(app, access_log_class=Log)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with aiohttp.ClientSession() as session:
            await session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/", headers=AS_VISITOR)
        await runner.cleanup()

        assert seen == {"signal": Identity(TOKEN), "log": Identity(TOKEN)}

    async def test_an_error_page_of_a_middleware_around_ours_is_the_visitors(self) -> None:
        @web.middleware
        async def with_error_page(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except ZeroDivisionError:
                return web.Response(text=browser.script(), content_type="text/html", status=500)

        async def fail(request: web.Request) -> web.StreamResponse:
            raise ZeroDivisionError

        async with client_of(new_app(fail, with_error_page, set_cookie=True)) as client:
            response = await client.get("/")
            page = await response.text()

        assert set_cookies(response)[0].partition(";")[0].removeprefix("_ALGOLIA=") in page
        assert (response.headers["Cache-Control"], response.headers["Vary"]) == ("private", "Cookie")

    @pytest.mark.parametrize("tries", [1, 2])
    async def test_a_middleware_around_ours_may_run_it_in_another_task(self, tries: int) -> None:
        seen: list[Identity | None] = []

        @web.middleware
        async def in_a_task(request: web.Request, handler: Handler) -> web.StreamResponse:
            for _ in range(tries):
                response = await asyncio.create_task(handler(request))  # type: ignore[arg-type]
            seen.append(current_identity())
            return response

        async def handler(request: web.Request) -> web.Response:
            set_authenticated_user_token(f"user-{next(numbers)}")

            async def body() -> AsyncIterator[bytes]:
                seen.append(current_identity())
                await asyncio.to_thread(set_authenticated_user_token, None)
                seen.append(current_identity())
                yield b"."

            return web.Response(body=body())

        numbers = itertools.count(1)
        response, _ = await get(new_app(handler, in_a_task, set_cookie=True))

        (cookie,) = set_cookies(response)
        token = cookie.partition(";")[0].removeprefix("_ALGOLIA=")
        assert seen == [None, Identity(token, f"user-{tries}"), Identity(token)]

    async def test_a_handler_that_goes_on_after_its_time_is_up_does_not_end_the_request(self) -> None:
        seen: list[Identity | None] = []
        left: list[asyncio.Task[Any]] = []

        @web.middleware
        async def in_time(request: web.Request, handler: Handler) -> web.StreamResponse:
            left.append(asyncio.create_task(handler(request)))  # type: ignore[arg-type]
            await asyncio.sleep(0.01)

            async def body() -> AsyncIterator[bytes]:
                go_on.set()
                seen.append(await left[0])
                seen.append(current_identity())
                yield browser.script().encode()

            return web.Response(body=body(), headers={"Cache-Control": "max-age=60"})

        async def handler(request: web.Request) -> Any:
            await go_on.wait()
            return current_identity()

        go_on = asyncio.Event()
        async with client_of(new_app(handler, in_time)) as client:
            page = await (await client.get("/", headers=AS_VISITOR)).text()

        assert seen == [Identity(TOKEN)] * 2
        assert TOKEN not in page  # its headers had gone, and let caches share it
        assert "<script>" in page

    async def test_a_task_left_behind_changes_only_its_own_context(self) -> None:
        seen: list[Identity | None] = []
        left: list[asyncio.Task[Any]] = []

        async def go_on() -> None:
            await over.wait()
            seen.append(current_identity())
            await asyncio.to_thread(set_user_token, "left-behind-in-a-thread")
            seen.append(current_identity())
            set_user_token("left-behind")
            seen.append(current_identity())

        async def handler(request: web.Request) -> web.Response:
            left.append(asyncio.create_task(go_on()))
            return await say_who(request)

        over = asyncio.Event()
        async with client_of(new_app(handler)) as client:
            await client.get("/", headers=AS_VISITOR)
            over.set()
            await left[0]
            answer = await (await client.get("/", headers=AS_VISITOR)).json()
            await left[1]

        assert seen[:3] == [Identity(TOKEN), Identity(TOKEN), Identity("left-behind")]
        assert answer == repr(Identity(TOKEN))

    async def test_a_request_whose_visitor_hangs_up_ends_as_the_visitors(self) -> None:
        seen: list[Identity | None] = []

        async def handler(request: web.Request) -> web.StreamResponse:
            entered.set()
            try:
                await asyncio.sleep(60)
            finally:
                seen.append(current_identity())
                gone.set()
            raise AssertionError("not cancelled")

        entered, gone = asyncio.Event(), asyncio.Event()
        runner = web.AppRunner(new_app(handler), handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        _, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
        writer.write(f"GET / HTTP/1.1\r\nHost: shop\r\nCookie: _ALGOLIA={TOKEN}\r\n\r\n".encode())
        await entered.wait()
        writer.close()
        await gone.wait()
        await runner.cleanup()

        assert seen == [Identity(TOKEN)]

    async def test_login_and_logout_hold_wherever_they_are_set(self) -> None:
        async def handler(request: web.Request) -> web.Response:
            await asyncio.to_thread(set_authenticated_user_token, "user-42")
            logged_in = current_identity()
            context = contextvars.copy_context()
            await asyncio.get_running_loop().run_in_executor(None, context.run, set_authenticated_user_token, None)
            logged_out = current_identity()
            set_authenticated_user_token("user-43")
            seen = await asyncio.to_thread(current_identity)
            return web.json_response([repr(identity) for identity in (logged_in, logged_out, seen)])

        async with client_of(new_app(handler)) as client:
            answers = [await (await client.get("/", headers=AS_VISITOR)).json() for _ in range(2)]

        assert (
            answers == [[repr(Identity(TOKEN, "user-42")), repr(Identity(TOKEN)), repr(Identity(TOKEN, "user-43"))]] * 2
        )


async def as_json(request: web.Request) -> web.StreamResponse:
    return web.json_response({})


async def as_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b".")
    return response


async def as_redirect(request: web.Request) -> web.StreamResponse:
    redirect = web.HTTPFound("/")
    redirect.set_cookie("theirs", "1")
    raise redirect


async def as_crash(request: web.Request) -> web.StreamResponse:
    raise RuntimeError("meant")


async def as_crash_after_prepare(request: web.Request) -> web.StreamResponse:
    await web.Response(text="half").prepare(request)
    raise RuntimeError("meant")


async def as_returned_nothing(request: web.Request) -> Any:
    return None


class TestHeaders:
    @pytest.mark.parametrize(
        "handler", [as_json, as_stream, as_redirect, as_crash, as_crash_after_prepare, as_returned_nothing]
    )
    async def test_of_every_kind_of_response_bring_the_cookie(self, handler: Handler) -> None:
        response, _ = await get(new_app(handler, set_cookie=True))

        assert [cookie.partition("=")[0] for cookie in set_cookies(response) if "theirs" not in cookie] == ["_ALGOLIA"]
        assert response.headers["Cache-Control"] == "private"
        assert ("theirs=1; Path=/" in set_cookies(response)) == (handler is as_redirect)

    async def test_of_a_page_that_is_not_there_bring_it_too(self) -> None:
        response, _ = await get(new_app(set_cookie=True), "/no-such-page")

        assert (response.status, len(set_cookies(response))) == (404, 1)

    @pytest.mark.parametrize(("name", "cookies"), [("index.html", 1), ("style.css", 0), ("none.html", 1)])
    async def test_of_files_bring_it_where_caches_will_not_share_it(
        self, name: str, cookies: int, tmp_path: pathlib.Path
    ) -> None:
        for existing in ("index.html", "style.css"):
            (tmp_path / existing).write_text("ok")
        app = new_app(set_cookie=True)
        app.router.add_static("/files", tmp_path)
        async with client_of(app) as client:
            response = await client.get(f"/files/{name}")
            again = await client.get(f"/files/{name}", headers={"If-None-Match": response.headers.get("ETag", "")})

        assert len(set_cookies(response)) == cookies
        assert response.headers.get("Cache-Control") == ("private" if cookies else None)
        if name != "none.html":
            assert (again.status, set_cookies(again)) == (304, [])

    @pytest.mark.parametrize("headers", [{}, AS_VISITOR], ids=["new visitor", "returning visitor"])
    async def test_of_a_websocket_bring_it_and_do_not_keep_the_visitor_out(self, headers: dict[str, str]) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            websocket = web.WebSocketResponse()
            await websocket.prepare(request)
            async for _ in websocket:
                await websocket.send_json({"who": repr(current_identity()), "page": browser.script()})
            return websocket

        app = new_app(handler, set_cookie=True)
        async with client_of(app) as client, client.ws_connect("/", headers=headers) as websocket:
            cookie = websocket._response.headers.get("Set-Cookie")
            answers = []
            for _ in range(2):
                await websocket.send_str("who am I?")
                answers.append(await websocket.receive_json())

        assert (cookie is None) == (headers == AS_VISITOR)
        token = cookie.partition(";")[0].removeprefix("_ALGOLIA=") if cookie else TOKEN
        assert [answer["who"] for answer in answers] == [repr(Identity(token))] * 2
        assert token in answers[0]["page"]

    @pytest.mark.parametrize("where", ["handler", "signal"])
    async def test_that_let_caches_share_the_response_bring_no_cookie_whoever_sets_them(self, where: str) -> None:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(headers={"Cache-Control": "max-age=60"} if where == "handler" else {})

        async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
            if where == "signal":
                response.headers["Cache-Control"] = "public"

        app = new_app(handler, set_cookie=True)
        app.on_response_prepare.append(on_prepare)
        response, _ = await get(app)

        assert set_cookies(response) == []
        assert "private" not in response.headers["Cache-Control"]

    async def test_of_a_page_that_names_its_visitor_keep_it_from_shared_caches(self) -> None:
        async def page(request: web.Request) -> web.Response:
            return web.Response(
                text=browser.script(), headers={"Cache-Control": "public, max-age=60", "Vary": "Accept"}
            )

        response, _ = await get(new_app(page, header="X-App"), headers=AS_VISITOR)

        assert response.headers["Cache-Control"] == "private, max-age=60"
        assert response.headers["Vary"] == "Accept, Cookie, X-App"

    @pytest.mark.parametrize("caching", ["private", "max-age=60"])
    async def test_that_have_gone_and_let_caches_share_a_page_keep_the_visitor_out_of_it(self, caching: str) -> None:
        async def page(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Cache-Control": caching})
            await response.prepare(request)
            await response.write(browser.script().encode())
            return response

        async with client_of(new_app(page)) as client:
            text = await (await client.get("/", headers=AS_VISITOR)).text()

        assert (TOKEN in text) == (caching == "private")

    @pytest.mark.parametrize("how", ["set", "delete"])
    async def test_in_which_the_application_sets_the_cookie_itself_stay_so(self, how: str) -> None:
        async def handler(request: web.Request) -> web.Response:
            response = web.Response()
            if how == "set":
                response.set_cookie("_ALGOLIA", "anonymous-theirs")
            else:
                response.del_cookie("_ALGOLIA")
            return response

        response, _ = await get(new_app(handler, set_cookie=True))

        (cookie,) = set_cookies(response)
        assert cookie.startswith("_ALGOLIA=anonymous-theirs" if how == "set" else '_ALGOLIA=""; ')

    async def test_of_the_applications_own_response_stay_as_they_are(self) -> None:
        responses = []

        async def handler(request: web.Request) -> web.Response:
            responses.append(web.Response())
            return responses[0]

        await get(new_app(handler, set_cookie=True))

        assert {"Set-Cookie", "Cache-Control"}.isdisjoint(responses[0].headers)


class TestNested:
    @staticmethod
    def nested(outer: Any, inner: Any) -> web.Application:
        app, sub = web.Application(middlewares=outer), web.Application(middlewares=inner)
        sub.router.add_get("/", say_who)
        app.router.add_get("/", say_who)
        app.add_subapp("/sub", sub)
        return app

    async def test_a_sub_application_adds_only_what_the_outer_one_did_not_know(self) -> None:
        app = self.nested(
            [identity_middleware(set_cookie=True)],
            [identity_middleware(set_cookie=True, authenticated_user_token=lambda request: "user-42")],
        )
        response, seen = await get(app, "/sub/")

        (cookie,) = set_cookies(response)
        token = cookie.partition(";")[0].removeprefix("_ALGOLIA=")
        assert seen == repr(Identity(token, "user-42"))

    async def test_an_opt_out_stays_one(self) -> None:
        app = self.nested([identity_middleware(opted_out=lambda request: True)], [identity_middleware(set_cookie=True)])
        response, seen = await get(app, "/sub/", headers=AS_VISITOR)

        assert seen == repr(Identity(opted_out=True))
        assert set_cookies(response) == []

    async def test_a_sub_application_alone_may_have_a_middleware(self) -> None:
        async with client_of(self.nested([], [identity_middleware()])) as client:
            answers = [await (await client.get(path, headers=AS_VISITOR)).json() for path in ("/", "/sub/", "/")]

        assert answers == ["None", repr(Identity(TOKEN)), "None"]

    async def test_a_middleware_between_may_lose_the_context(self) -> None:
        @web.middleware
        async def lose(request: web.Request, handler: Handler) -> web.StreamResponse:
            nothing = contextvars.Context()
            return await nothing.run(asyncio.ensure_future, handler(request))

        app = self.nested([identity_middleware(set_cookie=True), lose], [identity_middleware(set_cookie=True)])
        response, seen = await get(app, "/sub/")

        (cookie,) = set_cookies(response)
        assert seen == repr(Identity(cookie.partition(";")[0].removeprefix("_ALGOLIA=")))


class TestIdentityMiddleware:
    async def test_works_in_unit_tests_with_mocked_requests(self) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            assert current_identity() == Identity(TOKEN)
            return await as_stream(request)

        middleware = identity_middleware()
        for _ in range(2):
            await middleware(make_mocked_request("GET", "/", headers=AS_VISITOR), handler)

    @pytest.mark.parametrize(
        ("keywords", "error"),
        [
            ({"cookie": "a b"}, ValueError),
            ({"cookie": "AIOHTTP_SESSION"}, ValueError),
            ({"header": "Authorization"}, ValueError),
            ({"set_cookie": "no"}, TypeError),
            ({"client_ip": None}, TypeError),
            ({"cokie": "_ALGOLIA"}, TypeError),
        ],
    )
    def test_refuses_what_cannot_be_meant(self, keywords: dict[str, Any], error: type[Exception]) -> None:
        with pytest.raises(error, match=next(iter(keywords))):
            identity_middleware(**keywords)

    def test_says_the_types_of_its_arguments_to_whoever_asks(self) -> None:
        hints = typing.get_type_hints(identity_middleware)

        assert hints["set_cookie"] == bool | Callable[[web.Request], bool | Awaitable[bool]]
        assert "return" in hints
