"""The settings, under the one name `ALGOLIA_USERTOKEN`: the keywords of the other integrations, in upper case."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..visitor import VisitorRules

SETTING = "ALGOLIA_USERTOKEN"
MIDDLEWARE = "algolia_usertoken.integrations.django.IdentityMiddleware"
KEYS = ("AUTHENTICATED_USER_TOKEN", "COOKIE", "SET_COOKIE", "HEADER", "CLIENT_IP", "OPTED_OUT")
_FUNCTIONS = ("AUTHENTICATED_USER_TOKEN", "SET_COOKIE", "OPTED_OUT")


def visitor_rules(*, in_thread: bool = False) -> VisitorRules:
    """The rules that the settings mean.

    Args:
        in_thread: For async requests: run the functions in Django's thread for sync code.

    Raises:
        ImproperlyConfigured: They mean none; the text says which key is wrong.
    """
    given = getattr(settings, SETTING, {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{SETTING} must be a dict, not {type(given).__name__}")
    for key in given:
        if key not in KEYS:
            close = get_close_matches(str(key).upper(), KEYS, 1)
            raise ImproperlyConfigured(
                f"{SETTING} has an unknown key {key!r}"
                + (f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(KEYS)}")
            )
    try:
        keywords = {key.lower(): _value(key, value) for key, value in given.items()}
        # Under another name than ours any valid token counts, and these values would go to Algolia as one.
        keywords["secret_cookies"] = [settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME]
        rules = VisitorRules(**keywords)
        if not in_thread:
            return rules
        in_threads: dict[str, Any] = {
            name: sync_to_async(value) if callable(value) else value for name, value in keywords.items()
        }
        return VisitorRules(**in_threads, allow_async=True)
    except (TypeError, ValueError) as error:
        argument = str(error).partition(" ")[0]  # as the key, in lower case
        raise ImproperlyConfigured(f"{SETTING}[{argument.upper()!r}]: {error}") from error


def _value(key: str, value: Any) -> Any:
    if key not in _FUNCTIONS or not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError as error:
        raise ImproperlyConfigured(f"{SETTING}[{key!r}]: {error}") from error
