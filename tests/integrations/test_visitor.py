from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import warnings
from typing import Any

import hostile
import pytest

from algolia_usertoken import Identity
from algolia_usertoken.integrations import visitor as visitors
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
    def test_takes_any_answer(self, answer: object) -> None:
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
        assert "it is async, and nobody awaits its answer here" in caplog.text

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
            ("", None),
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


class TestShortWay:
    @pytest.mark.parametrize("set_cookie", [True, False])
    @pytest.mark.parametrize("cookies", [None, f"_ALGOLIA={TOKEN}", "_ALGOLIA=no"])
    @pytest.mark.parametrize("claim", [None, "app-1", "a,b"])
    @pytest.mark.parametrize("address", [None, "203.0.113.7", "testclient"])
    def test_decides_the_same(
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
    def test_nor_is_it_in_the_header(self, value: bytes) -> None:
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
            monkeypatch.setattr(visitors.time, "monotonic", lambda now=now: now)
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
    def test_of_the_wrong_type(self, keywords: dict[str, Any], message: str) -> None:
        with pytest.raises(TypeError, match=message):
            VisitorRules(**keywords)

    @pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "é", "a\r\nb", "a\n", "a:b"])
    @pytest.mark.parametrize("argument", ["cookie", "header"])
    def test_that_can_be_no_name(self, argument: str, name: str) -> None:
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
        assert "it is async, and nobody awaits its answer here" in caplog.text


async def test_async_functions_are_awaited() -> None:
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
