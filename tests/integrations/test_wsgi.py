from __future__ import annotations

import contextvars
import io
from collections.abc import Iterator
from typing import Any
from wsgiref.util import FileWrapper

import hostile
import pytest

from algolia_usertoken import Identity, current_identity, identity_scope, set_authenticated_user_token
from algolia_usertoken.integrations.wsgi import IdentityMiddleware

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"


class Recorder:
    """A WSGI application that notes whom it was called as, and answers."""

    def __init__(self, body: Any = (b"ok",), **headers: str) -> None:
        self.seen: list[Identity | None] = []
        self.body = body
        self.headers = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.seen.append(current_identity())
        start_response("200 OK", self.headers)
        return self.body


class Response:
    def __init__(self, app: Any, **environ: Any) -> None:
        self.started: list[tuple[Any, ...]] = []
        self.body = app({"wsgi.url_scheme": "http", **environ}, lambda *args: self.started.append(args))

    @property
    def set_cookies(self) -> list[str]:
        return [value for name, value in self.started[-1][1] if name == "Set-Cookie"]


class TestEachRequest:
    def test_is_served_as_its_visitor(self) -> None:
        app = Recorder()

        Response(IdentityMiddleware(app), HTTP_COOKIE=f"_ALGOLIA={TOKEN}")

        assert app.seen == [Identity(TOKEN)]
        assert current_identity() is None

    def test_is_served_as_nobody_where_there_is_nothing(self) -> None:
        app = Recorder()

        with identity_scope("somebody-else"):
            Response(IdentityMiddleware(app))
            assert current_identity() == Identity("somebody-else")

        assert app.seen == [Identity()]

    def test_may_bring_a_cookie(self) -> None:
        app = Recorder()
        middleware = IdentityMiddleware(app, set_cookie=True)

        response, secure = Response(middleware), Response(middleware, **{"wsgi.url_scheme": "https"})

        assert response.set_cookies == [f"_ALGOLIA={app.seen[0].user_token}; Max-Age=15552000; Path=/"]
        assert secure.set_cookies == [f"_ALGOLIA={app.seen[1].user_token}; Max-Age=15552000; Path=/; Secure"]
        assert app.headers == []

    def test_brings_none_with_what_a_shared_cache_keeps(self) -> None:
        app = IdentityMiddleware(Recorder(Cache_Control="public"), set_cookie=True)

        assert Response(app).set_cookies == []

    def test_takes_the_header_only_where_opted_in_to(self) -> None:
        app = Recorder()

        Response(IdentityMiddleware(app), HTTP_X_ALGOLIA_USERTOKEN="app-1")
        Response(IdentityMiddleware(app, header="X-Algolia-UserToken"), HTTP_X_ALGOLIA_USERTOKEN="app-1")

        assert app.seen == [Identity(), Identity("app-1")]

    def test_notes_the_address(self) -> None:
        app = Recorder()

        for address in ("203.0.113.7", ""):
            Response(IdentityMiddleware(app, client_ip=True), REMOTE_ADDR=address)

        assert app.seen == [Identity(client_ip="203.0.113.7"), Identity()]

    def test_asks_functions_of_the_environ(self) -> None:
        app = Recorder()

        Response(IdentityMiddleware(app, authenticated_user_token=lambda environ: environ["user"]), user="user-42")
        Response(IdentityMiddleware(app, opted_out=lambda environ: environ["no such key"]))

        assert app.seen == [Identity(None, "user-42"), Identity(opted_out=True)]

    def test_hands_on_what_start_response_gives_and_takes(self) -> None:
        error = (ValueError, ValueError("meant"), None)

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])
            assert start_response("500 Sorry", [], error) is None
            return [b""]

        response = Response(IdentityMiddleware(app))

        assert response.started == [("200 OK", []), ("500 Sorry", [], error)]

    def test_leaves_nothing_after_an_error(self) -> None:
        def app(environ: Any, start_response: Any) -> Any:
            set_authenticated_user_token("user-42")
            raise RuntimeError("meant")

        with pytest.raises(RuntimeError, match="meant"):
            Response(IdentityMiddleware(app), HTTP_COOKIE=f"_ALGOLIA={TOKEN}")

        assert current_identity() is None

    @pytest.mark.parametrize("value", hostile.VALUES, ids=hostile.IDS)
    def test_is_never_an_error_by_hostile_input(self, value: bytes) -> None:
        text = value.decode("latin-1")
        app = IdentityMiddleware(Recorder(), set_cookie=True, header="X-Algolia-UserToken", client_ip=True)

        response = Response(app, HTTP_COOKIE=f"_ALGOLIA={text}", HTTP_X_ALGOLIA_USERTOKEN=f"{text}!", REMOTE_ADDR=text)

        assert len(response.set_cookies) == 1

    def test_is_the_outer_middlewares_also_where_the_context_was_lost_between(self) -> None:
        app = Recorder()
        inner = IdentityMiddleware(app, set_cookie=True)

        def lose(environ: dict[str, Any], start_response: Any) -> Any:
            return contextvars.Context().run(inner, environ, start_response)

        response = Response(IdentityMiddleware(lose, authenticated_user_token=lambda environ: "user-42"))

        (identity,) = app.seen
        assert identity.authenticated_user_token == "user-42"
        assert response.set_cookies[0].startswith(f"_ALGOLIA={identity.user_token};")

    def test_whose_context_was_lost_is_streamed_as_its_visitor_and_closed_by_the_outer_middleware(self) -> None:
        closed = []

        def body() -> Iterator[bytes]:
            try:
                yield str(current_identity()).encode()
            finally:
                closed.append(current_identity())

        inner = IdentityMiddleware(Recorder(body()))

        def lose(environ: dict[str, Any], start_response: Any) -> Any:
            return contextvars.Context().run(inner, environ, start_response)

        response = Response(IdentityMiddleware(lose), HTTP_COOKIE=f"_ALGOLIA={TOKEN}")

        assert next(response.body) == str(Identity(TOKEN)).encode()
        response.body.close()
        assert closed == [Identity(TOKEN)]

    def test_cannot_await_a_function(self) -> None:
        async def login(environ: Any) -> str:
            return "user-42"

        with pytest.raises(TypeError, match="authenticated_user_token must be a plain function"):
            IdentityMiddleware(Recorder(), authenticated_user_token=login)


class TestBody:
    def test_each_step_and_the_close_know_the_visitor_and_who_logged_in(self) -> None:
        seen: list[Identity | None] = []

        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            set_authenticated_user_token("user-42")
            return body()

        def body() -> Iterator[bytes]:
            try:
                for _ in range(3):
                    seen.append(current_identity())
                    yield b"."
            finally:
                seen.append(current_identity())

        response = Response(IdentityMiddleware(app), HTTP_COOKIE=f"_ALGOLIA={TOKEN}")
        assert next(response.body) == b"."
        assert next(response.body) == b"."
        assert current_identity() is None
        response.body.close()

        assert seen == [Identity(TOKEN, "user-42")] * 3
        assert current_identity() is None

    def test_an_application_that_starts_late_has_its_cookie(self) -> None:
        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield current_identity().user_token.encode()

        response = Response(IdentityMiddleware(app, set_cookie=True))
        (token,) = response.body

        assert response.set_cookies[0].startswith(f"_ALGOLIA={token.decode()};")

    def test_two_at_once_do_not_meet(self) -> None:
        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            for _ in range(2):
                yield current_identity().user_token.encode()

        middleware = IdentityMiddleware(app)
        one, two = (Response(middleware, HTTP_COOKIE=f"_ALGOLIA=anonymous-{name}").body for name in ("1", "2"))

        assert [next(one), next(two), next(one), next(two)] == [b"anonymous-1", b"anonymous-2"] * 2

    def test_may_be_read_by_another_thread_than_began_it(self) -> None:
        def app(environ: Any, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield current_identity().user_token.encode()

        body = Response(IdentityMiddleware(app), HTTP_COOKIE=f"_ALGOLIA={TOKEN}").body

        assert contextvars.Context().run(next, body) == TOKEN.encode()

    def test_what_needs_no_context_stays_as_it_is(self) -> None:
        whole = [b"all at once"]
        file = FileWrapper(io.BytesIO(b"a file"))

        assert Response(IdentityMiddleware(Recorder(whole))).body is whole
        assert Response(IdentityMiddleware(Recorder(file)), **{"wsgi.file_wrapper": FileWrapper}).body is file

    def test_a_file_wrapper_that_is_no_class_is_no_trouble(self) -> None:
        app = IdentityMiddleware(Recorder(iter([b"a"])))

        assert list(Response(app, **{"wsgi.file_wrapper": lambda file: file}).body) == [b"a"]

    def test_without_a_close_has_none_to_call(self) -> None:
        Response(IdentityMiddleware(Recorder(iter([b"a"])))).body.close()
