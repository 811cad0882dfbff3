from __future__ import annotations

import json
import re

import pytest

from algolia_usertoken import Identity, InvalidUserTokenError, TokenProvider, browser, identity_scope

pytestmark = pytest.mark.oldest_versions

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"


class TestSettings:
    def test_of_a_visitor_with_an_anonymous_token(self) -> None:
        assert browser.settings(TOKEN) == {"userToken": TOKEN, "useCookie": True}

    def test_of_one_who_is_logged_in_as_well(self) -> None:
        assert browser.settings(Identity(TOKEN, "user-42")) == {
            "userToken": TOKEN,
            "authenticatedUserToken": "user-42",
            "useCookie": True,
        }

    def test_a_token_of_your_own_is_kept_in_no_cookie(self) -> None:
        assert browser.settings("app-1") == {"userToken": "app-1", "useCookie": False}

    def test_a_login_alone_is_the_user_token_too_as_for_searches_of_the_server(self) -> None:
        assert browser.settings(Identity(None, "user-42")) == {
            "userToken": "user-42",
            "authenticatedUserToken": "user-42",
            "useCookie": False,
        }

    def test_of_nobody_name_no_user(self) -> None:
        assert browser.settings() == {"useCookie": False}
        assert browser.settings(Identity(client_ip="203.0.113.7")) == {"useCookie": False}

    def test_of_nobody_who_consents(self) -> None:
        assert browser.settings(use_cookie=True) == {"useCookie": True}

    def test_of_one_who_opted_out(self) -> None:
        settings = browser.settings(Identity(TOKEN, "user-42", opted_out=True), use_cookie=True)

        assert settings == {"useCookie": False, "userHasOptedOut": True}

    def test_are_those_of_the_current_identity(self) -> None:
        with identity_scope(TOKEN):
            assert browser.settings() == browser.settings(TOKEN)
            assert browser.settings("app-1") == {"userToken": "app-1", "useCookie": False}

    def test_can_be_written_as_json(self) -> None:
        assert json.loads(json.dumps(browser.settings(TOKEN))) == browser.settings(TOKEN)

    def test_of_what_is_no_token(self) -> None:
        with pytest.raises(InvalidUserTokenError):
            browser.settings("jane@example.com")


class TestScript:
    def test_tells_who_the_visitor_is(self) -> None:
        script = browser.script(Identity(TOKEN, "user-42"))

        assert script.startswith("<script>window.")
        assert script.endswith(f'aa("setUserToken","{TOKEN}");aa("setAuthenticatedUserToken","user-42");</script>')

    def test_tells_of_a_logout(self) -> None:
        assert 'aa("setAuthenticatedUserToken",undefined)' in browser.script(TOKEN)

    def test_leaves_the_token_to_search_insights_where_there_is_none(self) -> None:
        assert "setUserToken" not in browser.script()

    def test_tells_of_an_opt_out_and_nothing_else(self) -> None:
        script = browser.script(Identity(TOKEN, "user-42", opted_out=True))

        assert "userHasOptedOut:true" in script
        assert TOKEN not in script
        assert "user-42" not in script

    def test_is_that_of_the_current_identity(self) -> None:
        with identity_scope(TOKEN):
            assert browser.script() == browser.script(TOKEN)

    def test_has_a_nonce(self) -> None:
        assert browser.script(TOKEN, nonce="r4nd0m+/=").startswith('<script nonce="r4nd0m+/=">')
        assert browser.script(TOKEN, nonce="").startswith("<script>")

    @pytest.mark.parametrize("nonce", ['"><script>alert(1)</script>', "'onload=alert(1)", "a&b", "</script>"])
    def test_lets_nothing_out_of_the_nonce(self, nonce: str) -> None:
        script = browser.script(TOKEN, nonce=nonce)

        assert re.fullmatch(r'<script nonce="[^"<>\']*">[^<]*</script>', script)

    def test_works_around_what_no_token_can_have(self) -> None:
        assert browser._literal('</script><!--&"\u2028') == r'"\u003c/script\u003e\u003c!--\u0026\"\u2028"'

    def test_is_taken_as_html_by_template_engines(self) -> None:
        script = browser.script(TOKEN)

        assert script.__html__() == script
        assert isinstance(script, str)


class TestHost:
    @pytest.mark.parametrize(
        ("host", "found"),
        [
            ("https://shop.example", "https://shop.example"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
            ("https://[2001:db8::1]:8443/a/b", "https://[2001:db8::1]:8443/a/b"),
            ("/collect", "/collect"),
            ("/collect/v1/", "/collect/v1"),
        ],
    )
    def test_leads_search_insights_there(self, host: str, found: str) -> None:
        assert browser.settings(TOKEN, host=host) == {"userToken": TOKEN, "useCookie": True, "host": found}
        assert f'aa("init",{{partial:true,host:"{found}"}});aa("setUserToken"' in browser.script(TOKEN, host=host)

    def test_is_said_to_nobody_and_to_who_opted_out_too(self) -> None:
        for identity in (Identity(), Identity(opted_out=True)):
            assert browser.settings(identity, host="/collect")["host"] == "/collect"
            assert 'host:"/collect"' in browser.script(identity, host="/collect")

    @pytest.mark.parametrize(
        "host",
        [
            *("", "/", "//", "//evil.example", "shop.example", "shop.example:8000", "javascript:alert(1)", "https://"),
            *(
                "https:///collect",
                "https://shop.example?x=1",
                "/a?b",
                "/a#b",
                "/a//b",
                "/a b",
                "https://u@shop.example",
            ),
            *(
                '/"+alert(1)+"',
                "/</script>",
                "/\u2028",
                "https://shop.example\n",
                "ftp://shop.example",
                "/\\evil.example",
            ),
        ],
    )
    def test_that_is_no_address_of_a_site_is_refused(self, host: str) -> None:
        for function in (browser.settings, browser.script):
            with pytest.raises(ValueError, match="host must be the address of a site"):
                function(TOKEN, host=host)

    @pytest.mark.parametrize("host", [7, b"/collect", ["/collect"]])
    def test_that_is_no_text(self, host: object) -> None:
        for function in (browser.settings, browser.script):
            with pytest.raises(TypeError, match="host must be a string, not "):
                function(TOKEN, host=host)  # type: ignore[operator]


def test_a_provider_is_asked_so_that_the_page_knows_whom_its_resolve_finds() -> None:
    provider = TokenProvider(resolve=lambda: "anonymous-1")

    assert browser.settings(provider) == {"useCookie": True, "userToken": "anonymous-1"}
    assert '"anonymous-1"' in browser.script(provider)
    assert browser.settings(TokenProvider()) == browser.settings(Identity())
    assert "userToken" not in browser.settings()
