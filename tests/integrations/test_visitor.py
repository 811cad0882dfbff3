from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import warnings
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import aiohttp.web
import fastapi
import flask
import hostile
import litestar
import probe_django  # noqa: F401 - sets Django up
import pytest
import quart
import starlette.applications
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from algolia_usertoken import Identity
from algolia_usertoken.integrations import asgi, wsgi
from algolia_usertoken.integrations import visitor as visitors
from algolia_usertoken.integrations.flask import init_app
from algolia_usertoken.integrations.visitor import VisitorRules, drive, drive_async

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"
MADE = re.compile(r"anonymous-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def visit(
    rules: VisitorRules, cookies: str | None = None, claim: str | None = None, address: str | None = None
) -> tuple[Identity, str | None]:
    return drive(rules.flow(cookies, claim, address), "the request")


def fail(request: object) -> Any:
    raise RuntimeError("the database is down")


class TestCookie:
    @pytest.mark.parametrize(
        "cookies",
        [
            f"_ALGOLIA={TOKEN}",
            f"a=1; _ALGOLIA={TOKEN}; b=2",
            f"a=1;_ALGOLIA={TOKEN};b=2",
            f"a=1;    _ALGOLIA={TOKEN}   ;b=2",
            f"   _ALGOLIA={TOKEN}",
            f"x_ALGOLIA=anonymous-other; _ALGOLIA={TOKEN}",
            f"a=_ALGOLIA=anonymous-other; _ALGOLIA={TOKEN}",
            f"_ALGOLIA={TOKEN}; _ALGOLIA=anonymous-other",
        ],
    )
    def test_is_read_as_search_insights_reads_it(self, cookies: str) -> None:
        assert visit(VisitorRules(), cookies) == (Identity(TOKEN), None)

    @pytest.mark.parametrize(
        "cookies", ["", "a=1", "_ALGOLIA", "_ALGOLIA=", "_algolia=anonymous-1", "x_ALGOLIA=anonymous-1"]
    )
    def test_may_be_missing(self, cookies: str, caplog: pytest.LogCaptureFixture) -> None:
        assert visit(VisitorRules(), cookies) == (Identity(), None)
        assert caplog.records == []

    def test_that_is_not_anonymous_is_not_taken(self) -> None:
        assert visit(VisitorRules(), "_ALGOLIA=user-42") == (Identity(), None)

    def test_may_have_another_name(self) -> None:
        assert visit(VisitorRules(cookie="shop.visitor"), f"shopXvisitor=anonymous-1; shop.visitor={TOKEN}") == (
            Identity(TOKEN),
            None,
        )

    def test_is_made_where_allowed(self) -> None:
        identity, new_token = visit(VisitorRules(set_cookie=True))

        assert identity.user_token == new_token
        assert MADE.fullmatch(new_token or "")

    def test_is_made_for_each_visitor_anew(self) -> None:
        rules = VisitorRules(set_cookie=True)

        assert len({visit(rules)[1] for _ in range(100)}) == 100

    def test_is_made_where_the_function_allows_it(self) -> None:
        asked = []
        rules = VisitorRules(set_cookie=lambda request: asked.append(request) or len(asked) == 1)

        assert visit(rules)[1] is not None
        assert visit(rules) == (Identity(), None)
        assert asked == ["the request"] * 2

    def test_is_left_alone_where_there_is_one(self) -> None:
        assert visit(VisitorRules(set_cookie=fail), f"_ALGOLIA={TOKEN}") == (Identity(TOKEN), None)

    def test_has_the_attributes_that_search_insights_gives_it(self) -> None:
        rules = VisitorRules()

        assert rules.set_cookie_value(TOKEN, secure=False) == f"_ALGOLIA={TOKEN}; Max-Age=15552000; Path=/"
        assert rules.set_cookie_value(TOKEN, secure=True) == f"_ALGOLIA={TOKEN}; Max-Age=15552000; Path=/; Secure"


class TestHeader:
    def test_is_ignored_without_opt_in(self) -> None:
        assert visit(VisitorRules(), None, "app-1") == (Identity("app-1"), None)  # whoever drives it gives none
        assert VisitorRules().header is None

    def test_wins_over_the_cookie(self) -> None:
        assert visit(VisitorRules(header="X-Token"), f"_ALGOLIA={TOKEN}", "app-1") == (Identity("app-1"), None)

    def test_that_is_invalid_leaves_it_to_the_cookie(self) -> None:
        assert visit(VisitorRules(header="X-Token"), f"_ALGOLIA={TOKEN}", "a,b") == (Identity(TOKEN), None)

    def test_brings_no_cookie(self) -> None:
        assert visit(VisitorRules(header="X-Token", set_cookie=True), None, "app-1") == (Identity("app-1"), None)


class TestLogin:
    def test_stands_beside_the_token(self) -> None:
        rules = VisitorRules(authenticated_user_token=lambda request: "user-42")

        assert visit(rules, f"_ALGOLIA={TOKEN}") == (Identity(TOKEN, "user-42"), None)
        assert visit(rules) == (Identity(None, "user-42"), None)

    @pytest.mark.parametrize("answer", [None, ""])
    def test_may_be_missing(self, answer: object, caplog: pytest.LogCaptureFixture) -> None:
        assert visit(VisitorRules(authenticated_user_token=lambda request: answer)) == (Identity(), None)
        assert caplog.records == []

    @pytest.mark.parametrize("answer", ["jane@example.com", 42, b"user-42", "u" * 129, True, object()])
    def test_that_is_no_token_is_logged_without_its_value(
        self, answer: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        rules = VisitorRules(authenticated_user_token=lambda request: answer)

        assert visit(rules, f"_ALGOLIA={TOKEN}") == (Identity(TOKEN), None)
        assert "pseudonymous_user_token()" in caplog.text
        assert "jane" not in caplog.text

    def test_function_that_fails_means_not_logged_in(self, caplog: pytest.LogCaptureFixture) -> None:
        rules = VisitorRules(authenticated_user_token=fail)

        assert visit(rules, f"_ALGOLIA={TOKEN}") == (Identity(TOKEN), None)
        assert "treated as not logged in" in caplog.text
        assert "the database is down" in caplog.text


class TestOptedOut:
    def test_leaves_nothing(self) -> None:
        rules = VisitorRules(
            authenticated_user_token=fail,
            set_cookie=fail,
            header="X-Token",
            client_ip=True,
            opted_out=lambda request: True,
        )

        assert visit(rules, f"_ALGOLIA={TOKEN}", "app-1", "203.0.113.7") == (Identity(opted_out=True), None)

    @pytest.mark.parametrize("answer", [False, None, 0, ""])
    def test_takes_an_answer_of_any_type(self, answer: object) -> None:
        assert visit(VisitorRules(opted_out=lambda request: answer), f"_ALGOLIA={TOKEN}") == (Identity(TOKEN), None)

    def test_is_assumed_where_the_function_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        assert visit(VisitorRules(opted_out=fail), f"_ALGOLIA={TOKEN}") == (Identity(opted_out=True), None)
        assert "treated as opted out" in caplog.text

    def test_no_cookie_where_the_function_for_consent_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        assert visit(VisitorRules(set_cookie=fail)) == (Identity(), None)
        assert "given no cookie" in caplog.text

    def test_an_answer_that_nobody_awaits_is_no_consent(self, caplog: pytest.LogCaptureFixture) -> None:
        async def consent(request: object) -> bool:
            raise AssertionError

        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it is closed
            assert visit(VisitorRules(set_cookie=lambda request: consent(request))) == (Identity(), None)
        assert "given no cookie" in caplog.text
        assert "the function is async, but it cannot be awaited here" in caplog.text

        with contextlib.closing(asyncio.new_event_loop()) as loop:
            rules = VisitorRules(opted_out=lambda request: loop.create_future())
            assert visit(rules, f"_ALGOLIA={TOKEN}") == (Identity(opted_out=True), None)


class TestAddress:
    @pytest.mark.parametrize(
        ("address", "client_ip"),
        [
            ("203.0.113.7", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("::FFFF:203.0.113.7", "203.0.113.7"),
            ("::ffff:cb00:7107", "203.0.113.7"),
            ("0:0:0:0:0:ffff:203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:4711", "203.0.113.7"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[::ffff:203.0.113.7]:4711", "203.0.113.7"),
            ("2001:db8::1:4711", "2001:db8::1:4711"),  # without brackets it is a part of the address
            ("", None),
            ("203.0.113.7:", None),
            ("203.0.113.7:http", None),
            ("203.0.113.7:4711:4711", None),
            ("203.0.113:4711", None),
            ("[203.0.113.7", None),
            ("[]:4711", None),
            ("[fe80::1%eth0]:4711", None),
            (":4711", None),
            (None, None),
            ("testclient", None),
            ("fe80::1%eth0", None),
            ("203.0.113.7, 10.0.0.1", None),
            (b"/run/shop.socket", None),
            (7, None),
        ],
    )
    def test_is_noted_where_it_is_one(self, address: str | None, client_ip: str | None) -> None:
        assert visit(VisitorRules(client_ip=True), None, None, address) == (Identity(client_ip=client_ip), None)

    def test_is_not_noted_without_opt_in(self) -> None:
        assert visit(VisitorRules(), None, None, "203.0.113.7") == (Identity(), None)

    def test_stands_beside_the_token(self) -> None:
        rules = VisitorRules(client_ip=True, set_cookie=True, authenticated_user_token=lambda request: "user-42")

        identity, new_token = visit(rules, None, None, "203.0.113.7")

        assert identity == Identity(new_token, "user-42", "203.0.113.7")


class TestPrivateAddress:
    """Behind a proxy that the server does not know, all visitors have the proxy's address."""

    @pytest.mark.parametrize(
        "address",
        [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.0.1",
            "0.0.0.0",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fdff::1",
            "::ffff:10.0.0.1",
            "::ffff:a00:1",
            "10.0.0.1:4711",
            "[fc00::1]:4711",
            "[::ffff:10.0.0.1]",
        ],
    )
    def test_is_nobodys_on_the_internet(self, address: str, caplog: pytest.LogCaptureFixture) -> None:
        rules = VisitorRules(client_ip=True, set_cookie=False)

        for _ in range(3):
            assert visit(rules, f"_ALGOLIA={TOKEN}", None, address) == (Identity(TOKEN), None)

        (record,) = caplog.records
        assert "forwarded-allow-ips" in record.getMessage()
        assert "ProxyFix" in record.getMessage()
        assert address not in record.getMessage()

    @pytest.mark.parametrize(
        "address", ["172.15.0.1", "172.32.0.1", "100.128.0.1", "11.0.0.1", "203.0.113.7", "2001:db8::1", "fec0::1"]
    )
    def test_others_of_the_internet_are_taken(self, address: str, caplog: pytest.LogCaptureFixture) -> None:
        assert visit(VisitorRules(client_ip=True), None, None, address) == (Identity(client_ip=address), None)
        assert caplog.records == []


class TestConsent:
    @pytest.mark.parametrize("answer", ["no", "", "True", 1, 0, 1.0, [True], {}, object(), Mock(return_value=True)])
    def test_is_true_and_nothing_else(self, answer: object, caplog: pytest.LogCaptureFixture) -> None:
        rules = VisitorRules(set_cookie=lambda request: answer)

        for _ in range(3):
            assert visit(rules) == (Identity(), None)

        (record,) = caplog.records  # once
        assert f"set_cookie returned {type(answer).__name__}, but only True" in record.getMessage()

    @pytest.mark.parametrize("answer", [False, None])
    def test_refused_is_nothing_to_log(self, answer: object, caplog: pytest.LogCaptureFixture) -> None:
        assert visit(VisitorRules(set_cookie=lambda request: answer)) == (Identity(), None)
        assert caplog.records == []

    async def test_of_a_coroutine_is_what_it_returns(self, caplog: pytest.LogCaptureFixture) -> None:
        async def consent(answer: object) -> object:
            return answer

        for answer, is_given in ((True, True), (False, False), ("yes", False), (1, False)):
            rules = VisitorRules(set_cookie=lambda request, answer=answer: consent(answer), allow_async=True)
            assert ((await drive_async(rules.flow(None, None, None), None))[1] is not None) == is_given
        assert len(caplog.records) == 2


class TestSecretNames:
    """What these hold would go to Algolia, as somebody's token."""

    @pytest.mark.parametrize(
        "name", ["session", "sessionid", "Session", "connect.sid", "csrftoken", "XSRF-TOKEN", "remember_token"]
    )
    def test_are_refused_for_the_cookie(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"^cookie '{re.escape(name)}' holds a secret of the visitor"):
            VisitorRules(cookie=name)

    @pytest.mark.parametrize("name", ["Authorization", "authorization", "Cookie", "X-CSRFToken", "Proxy-Authorization"])
    def test_are_refused_for_the_header(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"^header '{name}' holds a secret of the visitor"):
            VisitorRules(header=name)

    def test_of_a_framework_are_refused_too(self) -> None:
        with pytest.raises(ValueError, match=r"^cookie 'Shop-Session' holds a secret"):
            VisitorRules(cookie="Shop-Session", secret_cookies=["shop-session", "other"])

    @pytest.mark.parametrize("name", ["_ALGOLIA", "visitor", "session_visitor"])
    def test_other_names_are_not(self, name: str) -> None:
        assert VisitorRules(cookie=name, header="X-Session").cookie == name

    def test_of_flasks_settings_are_refused(self) -> None:
        app = flask.Flask("shop")
        app.config["SESSION_COOKIE_NAME"] = "shop_login"
        with pytest.raises(ValueError, match=r"^cookie 'shop_login' holds a secret"):
            init_app(app, cookie="shop_login")


class TestApplication:
    """What a middleware is put around."""

    @pytest.mark.parametrize(
        ("app", "message"),
        [
            (None, "app must be an ASGI application, which is called with scope, receive, send, not NoneType"),
            ("shop:app", "app must be an ASGI application, .*, not str"),
            (lambda environ, start_response: [], "app must be an ASGI application, .*, not function"),
            (lambda: None, "app must be an ASGI application, .*, not function"),
            (WSGIHandler(), "app must be an ASGI application, .*, not WSGIHandler"),
            (DispatcherMiddleware(None, {}), "app must be an ASGI application, .*, not DispatcherMiddleware"),  # type: ignore[arg-type]
            (flask.Flask("shop"), "app must not be a flask application: use .*integrations.flask.init_app"),
            (aiohttp.web.Application, "app must be an ASGI application"),
        ],
    )
    def test_must_be_one_for_asgi(self, app: Any, message: str) -> None:
        with pytest.raises(TypeError, match=f"^{message}"):
            asgi.IdentityMiddleware(app)

    @pytest.mark.parametrize(
        ("app", "message"),
        [
            (None, "app must be a WSGI application, which is called with environ, start_response, not NoneType"),
            (lambda environ: [], "app must be a WSGI application, .*, not function"),
            (fastapi.FastAPI(), "app must not be a fastapi application: it is an ASGI application; use .*asgi"),
            (starlette.applications.Starlette(), "app must not be a starlette application: it is an ASGI"),
            (litestar.Litestar(), "app must not be a litestar application: it is an ASGI"),
            (quart.Quart("shop"), "app must not be a quart application: it is an ASGI"),
            (ASGIHandler(), "app must be a WSGI application, .*, not ASGIHandler"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_must_be_one_for_wsgi(self, app: Any, message: str) -> None:
        with pytest.raises(TypeError, match=f"^{message}"):
            wsgi.IdentityMiddleware(app)

    async def test_of_aiohttp_has_a_middleware_of_its_own(self) -> None:
        for middleware in (asgi.IdentityMiddleware, wsgi.IdentityMiddleware):
            with pytest.raises(TypeError, match=r"use algolia_usertoken\.integrations\.aiohttp\.identity_middleware"):
                middleware(aiohttp.web.Application())  # type: ignore[arg-type]

    def test_of_tornado_has_none(self) -> None:
        class Application:
            def __call__(self, request: object) -> None: ...

        Application.__module__ = "tornado.web"
        for middleware in (asgi.IdentityMiddleware, wsgi.IdentityMiddleware):
            with pytest.raises(TypeError, match=r"Tornado runs no middleware; enter identity_scope\(\)"):
                middleware(Application())  # type: ignore[arg-type]

    def test_of_an_async_function_is_none_for_wsgi(self) -> None:
        async def app(scope: Any, receive: Any = None, send: Any = None) -> None: ...

        with pytest.raises(TypeError, match="not a coroutine function"):
            wsgi.IdentityMiddleware(app)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "app",
        [
            Mock(),
            lambda *args: None,
            functools.partial(print),
            fastapi.FastAPI(),
            starlette.applications.Starlette(),
            litestar.Litestar(),
            quart.Quart("shop"),  # its base class is Flask's
            type("Shop", (quart.Quart,), {})("shop"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_may_be_anything_that_is_called_so(self, app: Any) -> None:
        assert asgi.IdentityMiddleware(app).app is app

    @pytest.mark.parametrize("app", [Mock(), lambda *args: [], flask.Flask("shop"), WSGIHandler()])
    def test_may_be_any_wsgi_application(self, app: Any) -> None:
        assert wsgi.IdentityMiddleware(app).app is app

    @pytest.mark.parametrize("app", [None, "shop:app", fastapi.FastAPI(), quart.Quart("shop")])
    def test_must_be_flasks_for_flask(self, app: Any) -> None:
        with pytest.raises(TypeError, match=f"^app must be a Flask application, not {type(app).__name__}"):
            init_app(app)


class TestShortWay:
    @pytest.mark.parametrize("set_cookie", [True, False])
    @pytest.mark.parametrize("cookies", [None, f"_ALGOLIA={TOKEN}", "_ALGOLIA=no"])
    @pytest.mark.parametrize("claim", [None, "app-1", "a,b"])
    @pytest.mark.parametrize("address", [None, "203.0.113.7", "testclient"])
    def test_decides_as_the_long_way_does(
        self, set_cookie: bool, cookies: str | None, claim: str | None, address: str | None
    ) -> None:
        rules = VisitorRules(set_cookie=set_cookie, header="X-Token", client_ip=True)

        long, short = visit(rules, cookies, claim, address), rules.decide(cookies, claim, address)

        assert (long[1] is None) == (short[1] is None)
        assert long[0] == short[0] or (long[1] is not None and long[0].client_ip == short[0].client_ip)

    def test_is_open_only_where_nothing_is_asked(self) -> None:
        assert not VisitorRules(set_cookie=True, header="X-Token", client_ip=True).asks
        assert VisitorRules(set_cookie=bool).asks
        assert VisitorRules(opted_out=bool).asks
        assert VisitorRules(authenticated_user_token=str).asks


class TestHostileInput:
    @pytest.mark.parametrize("value", hostile.VALUES, ids=hostile.IDS)
    def test_is_never_an_error_and_never_a_token(self, value: bytes) -> None:
        rules = VisitorRules(header="X-Token", client_ip=True)
        text = value.decode("latin-1")

        for cookies in (
            text,
            f"_ALGOLIA={text}",
            f"a=1; _ALGOLIA={text}; _ALGOLIA={text}",
            f"{text}; _ALGOLIA={TOKEN}",
        ):
            identity, _ = visit(rules, cookies, None, text)
            assert identity.user_token in (None, TOKEN)

    @pytest.mark.parametrize("value", hostile.VALUES, ids=hostile.IDS)
    def test_in_the_header_is_never_an_error_and_never_a_token(self, value: bytes) -> None:
        text = value.decode("latin-1")

        identity, _ = visit(VisitorRules(header="X-Token"), None, f"{text},{text}")

        assert identity == Identity()

    def test_is_logged_once_each_and_without_its_value(self, caplog: pytest.LogCaptureFixture) -> None:
        rules = VisitorRules(header="X-Token", client_ip=True)

        for _ in range(3):
            visit(rules, "_ALGOLIA=jane@example.com", "jane@example.com", "jane@example.com")

        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
        assert [word for word in ("cookie", "header", "address") if word in caplog.text] == [
            "cookie",
            "header",
            "address",
        ]
        assert "jane" not in caplog.text


class TestComplaints:
    def test_of_a_function_come_at_most_once_a_minute(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rules = VisitorRules(opted_out=fail)
        for now in (1000.0, 1001.0, 1059.9, 1060.0, 1061.0):
            # In this module alone: other threads of the process need the real time.
            monkeypatch.setattr(visitors, "time", SimpleNamespace(monotonic=lambda now=now: now))
            visit(rules)

        assert len(caplog.records) == 2

    def test_do_not_swallow_what_ends_a_process(self) -> None:
        def leave(request: object) -> Any:
            raise SystemExit

        with pytest.raises(SystemExit):
            visit(VisitorRules(opted_out=leave))

    def test_a_function_may_raise_anything_else(self) -> None:
        def stop(request: object) -> Any:
            raise StopIteration

        assert visit(VisitorRules(opted_out=stop)) == (Identity(opted_out=True), None)


class TestArguments:
    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            (
                {"authenticated_user_token": "user-42"},
                "authenticated_user_token must be a function of the request, not str",
            ),
            ({"opted_out": True}, "opted_out must be a function of the request, not bool"),
            ({"set_cookie": "yes"}, "set_cookie must be True, False or a function of the request, not str"),
            ({"set_cookie": None}, "set_cookie must be True, False or a function of the request, not NoneType"),
            ({"client_ip": "203.0.113.7"}, "client_ip must be True or False, not str"),
            ({"cookie": None}, "cookie must be a string, not NoneType"),
            ({"header": b"X-Token"}, "header must be a string, not bytes"),
            ({"cokie": "_ALGOLIA"}, "cokie"),
        ],
    )
    def test_of_the_wrong_type_are_named(self, keywords: dict[str, Any], message: str) -> None:
        with pytest.raises(TypeError, match=message):
            VisitorRules(**keywords)

    @pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "é", "a\r\nb", "a\n", "a:b"])
    @pytest.mark.parametrize("argument", ["cookie", "header"])
    def test_that_can_be_no_name_are_refused(self, argument: str, name: str) -> None:
        with pytest.raises(ValueError, match=f"^{argument} "):
            VisitorRules(**{argument: name})

    @pytest.mark.parametrize("argument", ["authenticated_user_token", "set_cookie", "opted_out"])
    def test_coroutine_functions_only_where_they_can_be_awaited(self, argument: str) -> None:
        async def function(request: object) -> None:
            pass

        class Callable:
            async def __call__(self, request: object) -> None:
                pass

        VisitorRules(**{argument: function}, allow_async=True)
        for value in (function, Callable()):
            with pytest.raises(TypeError, match=f"{argument} must be a plain function here"):
                VisitorRules(**{argument: value})

    def test_a_coroutine_that_nobody_awaits_is_no_login(self, caplog: pytest.LogCaptureFixture) -> None:
        async def token(request: object) -> str:
            return "user-42"

        assert visit(VisitorRules(authenticated_user_token=lambda request: token(request))) == (Identity(), None)
        assert "the function is async, but it cannot be awaited here" in caplog.text


async def test_async_functions_of_the_rules_are_awaited() -> None:
    async def token(request: object) -> str:
        return "user-42"

    async def consent(request: object) -> bool:
        raise RuntimeError("no answer")

    rules = VisitorRules(
        authenticated_user_token=token, set_cookie=consent, opted_out=lambda request: False, allow_async=True
    )

    assert await drive_async(rules.flow(None, None, None), None) == (
        Identity(None, "user-42"),
        None,
    )
