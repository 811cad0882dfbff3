"""System checks: `manage.py check` says what is wrong before a visitor comes."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .conf import MIDDLEWARE, SETTING, visitor_rules
from .middleware import IdentityMiddleware

# What sets `request.session` and `request.user`, which the application's functions may want.
_BEFORE = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
)


def check_settings(**_: Any) -> list[Any]:
    """Check that the setting `ALGOLIA_USERTOKEN` is right."""
    try:
        visitor_rules()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="algolia_usertoken.E001")]
    return []


def check_middleware(**_: Any) -> list[Any]:
    """Check that the middleware is there, after the ones that put the session and the user into the request."""
    middleware = list(settings.MIDDLEWARE)
    ours = MIDDLEWARE if MIDDLEWARE in middleware else next(filter(_is_subclass, middleware), None)
    if ours is None:
        return [
            Warning(
                "IdentityMiddleware is not in MIDDLEWARE: no request will have an identity",
                hint=f"Add {MIDDLEWARE!r}, or a subclass, after Django's authentication.",
                id="algolia_usertoken.W001",
            )
        ]
    given = getattr(settings, SETTING, {})
    has_functions = isinstance(given, dict) and any(
        callable(value) or isinstance(value, str) for value in given.values()
    )
    late = [name for name in _BEFORE if name in middleware[middleware.index(ours) :]]
    if has_functions and late:
        return [
            Warning(
                f"IdentityMiddleware comes before {late[-1].rpartition('.')[2]} in MIDDLEWARE: "
                f"the functions of {SETTING} find no request.{'user' if 'auth' in late[-1] else 'session'}",
                hint=f"Move {ours!r} below it.",
                id="algolia_usertoken.W002",
            )
        ]
    return []


def _is_subclass(name: str) -> bool:
    try:
        found = import_string(name)
    except Exception:  # whatever it is, Django says so itself
        return False
    return isinstance(found, type) and issubclass(found, IdentityMiddleware)
