from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import flask
import hostile
import pytest
from werkzeug.middleware.proxy_fix import ProxyFix

from algolia_usertoken import Identity, browser, current_identity, set_authenticated_user_token
from algolia_usertoken.integrations.flask import init_app

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"


def new_app(**keywords: Any) -> flask.Flask:
    app = flask.Flask(__name__)
    app.secret_key = "for tests only"
    init_app(app, **keywords)

    @app.get("/")
    def settings() -> Any:
        return browser.settings()

    return app


def get(app: flask.Flask, path: str = "/", cookie: str | None = f"_ALGOLIA={TOKEN}", **keywords: Any) -> Any:
    client = app.test_client(use_cookies=False)
    headers = {**({} if cookie is None else {"Cookie": cookie}), **keywords.pop("headers", {})}
    return client.get(path, headers=headers, **keywords)


class TestEachRequest:
    def test_is_served_as_its_visitor(self) -> None:
        assert get(new_app()).json == browser.settings(TOKEN)
        assert get(new_app(), cookie=None).json == browser.settings(Identity())
        assert current_identity() is None

    def test_may_bring_a_cookie(self) -> None:
        response = get(new_app(set_cookie=True), cookie=None)

        assert response.headers.getlist("Set-Cookie") == [
            f"_ALGOLIA={response.json['userToken']}; Max-Age=15552000; Path=/"
        ]

    def test_brings_it_with_an_error_page_too(self) -> None:
        assert get(new_app(set_cookie=True), "/no-such-page", cookie=None).headers["Set-Cookie"].startswith("_ALGOLIA=")

    def test_brings_a_secure_one_behind_a_proxy_that_encrypts(self) -> None:
        app = new_app(set_cookie=True, client_ip=True)
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)
        app.add_url_rule("/ip", "ip", lambda: str(current_identity().client_ip))

        response = get(
            app, "/ip", cookie=None, headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
        )

        assert response.headers["Set-Cookie"].endswith("; Secure")
        assert response.text == "203.0.113.7"

    def test_takes_the_header_only_where_opted_in_to(self) -> None:
        headers = {"X-Algolia-UserToken": "app-1"}

        assert get(new_app(), headers=headers).json["userToken"] == TOKEN
        assert get(new_app(header="X-Algolia-UserToken"), headers=headers).json["userToken"] == "app-1"

    def test_asks_functions_of_flasks_request_with_the_session(self) -> None:
        app = new_app(
            authenticated_user_token=lambda request: flask.session.get("token"),
            opted_out=lambda request: request.args.get("tracking") == "no",
        )

        @app.get("/login")
        def login() -> Any:
            flask.session["token"] = "user-42"
            set_authenticated_user_token("user-42")
            return browser.settings()

        client = app.test_client()
        client.set_cookie("_ALGOLIA", TOKEN)

        assert client.get("/").json == browser.settings(TOKEN)
        assert client.get("/login").json == client.get("/").json == browser.settings(Identity(TOKEN, "user-42"))
        assert client.get("/?tracking=no").json == browser.settings(Identity(opted_out=True))

    def test_survives_functions_that_fail(self, caplog: pytest.LogCaptureFixture) -> None:
        app = new_app(authenticated_user_token=lambda request: request.no_such_name)

        assert get(app).json == browser.settings(TOKEN)
        assert "no_such_name" in caplog.text

    def test_is_known_before_anything_else_runs(self) -> None:
        app = flask.Flask(__name__)
        seen: list[Identity | None] = []
        app.before_request(lambda: seen.append(current_identity()))
        init_app(app)
        app.add_url_rule("/", "index", lambda: "ok")

        get(app)

        assert seen == [Identity(TOKEN)]

    def test_is_known_to_streams_teardowns_and_error_handlers(self) -> None:
        app = new_app()
        seen: list[Identity | None] = []

        @app.get("/stream")
        def stream() -> Any:
            def body() -> Iterator[bytes]:
                for _ in range(3):
                    seen.append(current_identity())
                    yield flask.request.path.encode()

            return flask.Response(flask.stream_with_context(body()))

        @app.get("/error")
        def error() -> Any:
            raise ZeroDivisionError

        @app.errorhandler(ZeroDivisionError)
        def on_error(error: Exception) -> Any:
            seen.append(current_identity())
            return "sorry", 500

        @app.teardown_request
        def teardown(error: BaseException | None) -> None:
            seen.append(current_identity())

        assert get(app, "/stream").data == b"/stream" * 3
        assert get(app, "/error").status_code == 500
        assert set(seen) == {Identity(TOKEN)}
        assert len(seen) >= 6

    def test_leaves_a_test_client_its_preserved_context(self) -> None:
        with new_app().test_client() as client:
            client.get("/?q=shoe")
            assert flask.request.args["q"] == "shoe"
        assert current_identity() is None

    @pytest.mark.parametrize("value", hostile.VALUES, ids=hostile.IDS)
    def test_is_never_an_error_by_hostile_input(self, value: bytes) -> None:
        app = new_app(set_cookie=True, header="X-Algolia-UserToken", client_ip=True)
        text = value.decode("latin-1")

        response = get(
            app,
            cookie=None,
            environ_overrides={
                "HTTP_COOKIE": f"_ALGOLIA={text}; {text}",
                "HTTP_X_ALGOLIA_USERTOKEN": text + "!",
                "REMOTE_ADDR": text,
            },
        )

        assert response.status_code == 200
        assert len(response.headers.getlist("Set-Cookie")) == 1


class TestTemplates:
    def test_have_the_script_as_html(self) -> None:
        app = new_app()
        app.add_url_rule("/page", "page", lambda: flask.render_template_string("{{ algolia_user_token(nonce='n') }}"))

        assert get(app, "/page").text == browser.script(TOKEN, nonce="n")

    def test_let_nothing_out(self) -> None:
        app = new_app(header="X-Algolia-UserToken")
        page = "{{ algolia_user_token(nonce=request.args.nonce) }}"
        app.add_url_rule("/page", "page", lambda: flask.render_template_string(page))

        html = get(app, "/page?nonce=%22%3E%3C/script%3E", headers={"X-Algolia-UserToken": "</script>"}).text

        assert re.fullmatch(r'<script nonce="[^"<>]*">[^<]*</script>', html)


class TestInitApp:
    def test_refuses_to_be_called_twice(self) -> None:
        app = new_app()

        with pytest.raises(RuntimeError, match="called twice"):
            init_app(app)

    def test_refuses_wrong_arguments(self) -> None:
        with pytest.raises(TypeError, match="opted_out must be a function of the request, not bool"):
            init_app(flask.Flask(__name__), opted_out=True)
        with pytest.raises(TypeError, match="cokie"):
            init_app(flask.Flask(__name__), cokie="a")
