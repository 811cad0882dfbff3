"""The setting `ALGOLIA_USERTOKEN`, a dict of the keywords of the other integrations, in upper case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ...checks import type_name
from ..visitor import VisitorRules

SETTING = "ALGOLIA_USERTOKEN"
MIDDLEWARE = "algolia_usertoken.integrations.django.IdentityMiddleware"
KEYS = ("AUTHENTICATED_USER_TOKEN", "COOKIE", "SET_COOKIE", "HEADER", "CLIENT_IP", "OPTED_OUT")
_is_dotted_path = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+").fullmatch
_FUNCTIONS = ("AUTHENTICATED_USER_TOKEN", "SET_COOKIE", "OPTED_OUT")


def visitor_rules(*, in_thread: bool = False) -> VisitorRules:
    """The rules that the setting describes.

    Args:
        in_thread: Whether the functions run in Django's thread for sync code, as they do for async requests.

    Raises:
        ImproperlyConfigured: A key or a value is wrong; the text says which.
    """
    given = getattr(settings, SETTING, {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{SETTING} must be a dict, not {type_name(given)}")
    for key in given:
        if key not in KEYS:
            # What does not look like a key may be a value in the wrong place, and is not quoted.
            shown = f" {key!r}" if isinstance(key, str) and key.isidentifier() else ""
            close = get_close_matches(str(key).upper(), KEYS, 1) if shown else []
            raise ImproperlyConfigured(
                f"{SETTING} has an unknown key{shown}"
                + (f": did you mean {close[0]!r}?" if close else f": its keys are {', '.join(KEYS)}")
            )
    try:
        keywords = {key.lower(): _value(key, value) for key, value in given.items()}
        # In a cookie that is not `_ALGOLIA` any valid token counts, so the values of these would be sent to Algolia.
        keywords["secret_cookies"] = [settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME]
        rules = VisitorRules(**keywords)
        if not in_thread:
            return rules
        in_threads: dict[str, Any] = {
            name: sync_to_async(value) if callable(value) else value for name, value in keywords.items()
        }
        return VisitorRules(**in_threads, allow_async=True)
    except (TypeError, ValueError) as error:
        argument = str(error).partition(" ")[0]  # it is the key in lower case
        raise ImproperlyConfigured(f"{SETTING}[{argument.upper()!r}]: {error}") from error


def _value(key: str, value: Any) -> Any:
    if key not in _FUNCTIONS or not isinstance(value, str):
        return value
    is_path = _is_dotted_path(value) is not None
    wrong = "it does not look like the dotted path of a function"
    if is_path:
        try:
            return import_string(value)
        except ImportError as error:
            wrong = str(error)
    raise ImproperlyConfigured(f"{SETTING}[{key!r}]: {wrong}")
