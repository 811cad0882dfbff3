"""The script in a page carries the nonce of Django's own policy and of django-csp's, which are made when first read."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import django
import probe_django  # noqa: F401 - sets Django up
import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.template import engines
from django.test import Client, override_settings
from django.urls import path

from algolia_usertoken import browser

pytestmark = pytest.mark.oldest_versions

OURS = "algolia_usertoken.integrations.django.IdentityMiddleware"
REQUEST = "django.template.context_processors.request"
TAG = "{% load algolia_usertoken %}{% algolia_user_token %}"


def policy_of_django() -> dict[str, Any]:
    from django.utils.csp import CSP

    return {"SECURE_CSP": {"script-src": [CSP.SELF, CSP.NONCE]}}


def policy_of_django_csp() -> dict[str, Any]:
    if importlib.util.find_spec("csp.constants") is None:  # before its version 4
        return {"CSP_SCRIPT_SRC": ["'self'"], "CSP_INCLUDE_NONCE_IN": ["script-src"]}
    from csp.constants import NONCE, SELF

    return {"CONTENT_SECURITY_POLICY": {"DIRECTIVES": {"script-src": [SELF, NONCE]}}}


from_django_6 = pytest.mark.skipif(django.VERSION < (6,), reason="Django has a policy of its own from version 6")
POLICIES = [
    pytest.param(
        (
            "django.middleware.csp.ContentSecurityPolicyMiddleware",
            policy_of_django,
            "django.template.context_processors.csp",
        ),
        id="Django's own",
        marks=from_django_6,
    ),
    pytest.param(
        ("csp.middleware.CSPMiddleware", policy_of_django_csp, "csp.context_processors.nonce"), id="django-csp"
    ),
]


@pytest.fixture(params=POLICIES)
def site(request: pytest.FixtureRequest) -> Any:
    middleware, settings, processor = request.param

    def serving(view: Any, *processors: str, with_processor: bool = False) -> Any:
        used = [*processors, *([processor] if with_processor else [])]
        return override_settings(
            ROOT_URLCONF=(path("", view),),
            MIDDLEWARE=[middleware, OURS],
            ALGOLIA_USERTOKEN={},
            TEMPLATES=[
                {
                    "BACKEND": "django.template.backends.django.DjangoTemplates",
                    "OPTIONS": {"context_processors": used},
                },
                {"BACKEND": "django.template.backends.jinja2.Jinja2", "OPTIONS": {"context_processors": used}},
            ],
            **settings(),
        )

    return serving


def nonce_of(request: Any) -> Any:
    """As the policy's middleware has it: not read yet, and false until then."""
    return request.csp_nonce if hasattr(request, "csp_nonce") else request._csp_nonce


def nonce_in_script(text: str) -> str | None:
    found = re.search(r'<script nonce="([^"]+)">', text)
    return found and found[1]


def nonce_in_policy(response: Any) -> str | None:
    found = re.search(r"'nonce-([^']+)'", response["Content-Security-Policy"])
    return found and found[1]


@pytest.mark.parametrize("with_processor", [True, False], ids=["with its context processor", "without"])
@pytest.mark.parametrize("source", [TAG, "{% load algolia_usertoken %}{% algolia_user_token nonce=NONE %}"])
def test_the_script_has_the_nonce_of_a_page_on_which_nothing_else_has_read_it(
    site: Any, source: str, with_processor: bool
) -> None:
    def view(request: Any) -> HttpResponse:
        return HttpResponse(engines["django"].from_string(source).render({"NONE": None}, request))

    with site(view, REQUEST, with_processor=with_processor):
        response = Client().get("/")

    assert nonce_in_script(response.content.decode()) == nonce_in_policy(response) is not None


def test_the_script_has_the_nonce_in_a_template_that_does_not_know_the_request(site: Any) -> None:
    with site(lambda request: HttpResponse(engines["django"].from_string(TAG).render())):
        response = Client().get("/")

    assert nonce_in_script(response.content.decode()) == nonce_in_policy(response) is not None


def test_the_script_has_the_nonce_that_a_jinja_template_is_given(site: Any) -> None:
    def view(request: Any) -> HttpResponse:
        template = engines["jinja2"].from_string("{{ script(nonce=nonce) }}")
        return HttpResponse(template.render({"script": browser.script, "nonce": nonce_of(request)}, request))

    with site(view):
        response = Client().get("/")

    assert nonce_in_script(response.content.decode()) == nonce_in_policy(response) is not None


def test_no_nonce_is_made_for_a_page_without_the_tag(site: Any) -> None:
    with site(lambda request: HttpResponse("the same for all"), REQUEST, with_processor=True):
        assert nonce_in_policy(Client().get("/")) is None


class TestAStreamedPage:
    @staticmethod
    def stream(request: Any, source: str = TAG) -> StreamingHttpResponse:
        template = engines["django"].from_string(source)

        def body() -> Iterator[str]:
            yield "<html>"
            yield template.render({"given": nonce_of(request)}, request)
            yield "</html>"

        return StreamingHttpResponse(body())

    @pytest.mark.parametrize(
        "source", [TAG, "{% load algolia_usertoken %}{% algolia_user_token nonce=given %}"], ids=["found", "given"]
    )
    def test_comes_whole_where_the_policy_has_gone_without_it(self, site: Any, source: str) -> None:
        with site(lambda request: self.stream(request, source), REQUEST, with_processor=True):
            response = Client().get("/")
            page = response.getvalue().decode()

        assert re.fullmatch(r"<html><script[^>]*>[^<]*</script></html>", page)
        assert nonce_in_policy(response) is None

    @pytest.mark.parametrize("processors", [[REQUEST], []], ids=["that knows the request", "that does not"])
    def test_has_the_nonce_where_the_view_has_read_it(self, site: Any, processors: list[str]) -> None:
        def view(request: Any) -> StreamingHttpResponse:
            str(nonce_of(request))
            return self.stream(request)

        with site(view, *processors):
            response = Client().get("/")
            page = response.getvalue().decode()

        assert nonce_in_script(page) == nonce_in_policy(response) is not None
