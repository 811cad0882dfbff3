"""The settings of the example shop. `ALGOLIA_USERTOKEN` and one line in `MIDDLEWARE` are what tells visitors apart."""

from __future__ import annotations

from django.http import HttpRequest
from shop import backend

from algolia_usertoken import pseudonymous_user_token

SECRET_KEY = backend.SECRET
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "urls"

INSTALLED_APPS = ["algolia_usertoken.integrations.django"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "algolia_usertoken.integrations.django.IdentityMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"  # the shop has no database


def consented(request: HttpRequest) -> bool:
    return request.COOKIES.get("consent") == "yes"


def refused(request: HttpRequest) -> bool:
    return request.COOKIES.get("consent") == "no"


def who_is_logged_in(request: HttpRequest) -> str | None:
    user = request.session.get("user")
    return pseudonymous_user_token(user, secret=SECRET_KEY) if user and consented(request) else None


ALGOLIA_USERTOKEN = {
    "AUTHENTICATED_USER_TOKEN": who_is_logged_in,
    "SET_COOKIE": consented,
    "OPTED_OUT": refused,
    "CLIENT_IP": True,
}
