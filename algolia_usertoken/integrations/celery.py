"""Celery: a task runs for the user for whom it was sent, and with `CeleryDelivery`, a worker delivers events.

The identity is sent in a header of the task's message, with `delay`, `retry`, `chain`, `group` and `chord`.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping, MutableMapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from celery import Celery, signals

from ..checks import check_type
from ..context import current_identity, identity_scope
from ..errors import InvalidClientIPError, InvalidUserTokenError
from ..identity import Identity
from ..provider import TokenProvider, check_provider

if TYPE_CHECKING:
    from .celery_delivery import CeleryDelivery

__all__ = ["CeleryDelivery", "install", "uninstall"]

HEADER = "algolia_identity"
SECONDS_BETWEEN_COMPLAINTS = 60.0

logger = logging.getLogger("algolia_usertoken.integrations")

# Celery's signals are those of the process, not of an application. These are the applications for which they are
# connected, with the provider that each asks for the identity.
_installed: WeakKeyDictionary[Celery, TokenProvider | None] = WeakKeyDictionary()
_silent_until = 0.0
_SCOPE = "_algolia_identity_scope"  # the attribute of a task's request that has its scope


def install(app: Celery, *, token_provider: TokenProvider | None = None) -> None:
    """Send the current identity with each task, and run each task for the identity that was sent with it.

    Call this where the application is made, so that both the processes that send tasks and the workers call it. If no
    identity is known when a task is sent, the task has none, and a client uses its default in it. A task that runs
    eagerly runs for its caller, and a token that it sets does not change its caller's identity. If you give
    `apply_async` a header `algolia_identity`, that one is kept. A second call for the same application changes nothing.

    Celery's signals belong to the process: if it has two applications, both send the identity, and both ask the same
    provider.

    Args:
        app: The Celery application.
        token_provider: The `TokenProvider` that decides who the user of a task is, when the task is sent. Give that of
            the client if only its `resolve` function or its default names the user. Without it, only the context is
            asked. If `resolve` fails, the task runs for nobody.

    Raises:
        TypeError: `app` is not a Celery application, or `token_provider` is not a TokenProvider.
        ValueError: This process has another `token_provider` already, for this application or another one.

    https://docs.celeryq.dev/en/stable/userguide/signals.html
    """
    check_type("app", app, Celery, "a Celery application")
    if token_provider is not None:
        check_provider(token_provider)
        if _provider() not in (None, token_provider):
            raise ValueError(
                "token_provider must be the one that this process has already: Celery does not say which application "
                "sends a task, so there can be only one"
            )
    _installed[app] = token_provider or _installed.get(app)
    for signal, receiver in _receivers():
        signal.connect(receiver, weak=False, dispatch_uid=f"algolia_usertoken.{receiver.__name__}")


def uninstall(app: Celery) -> None:
    """Undo `install`.

    Args:
        app: The Celery application. If `install` was not called for it, nothing happens.

    https://docs.celeryq.dev/en/stable/userguide/signals.html
    """
    if app not in _installed:
        return
    del _installed[app]
    if not _installed:
        for signal, receiver in _receivers():
            signal.disconnect(dispatch_uid=f"algolia_usertoken.{receiver.__name__}")


def _receivers() -> list[tuple[Any, Any]]:
    return [
        (signals.before_task_publish, _send),
        (signals.task_prerun, _begin),
        (signals.task_postrun, _end),
    ]


def _send(headers: MutableMapping[str, Any] | None = None, **_: Any) -> None:
    if headers is None or HEADER in headers:
        return
    provider = _provider()
    try:
        identity = current_identity() if provider is None else provider.identity()
    except Exception as error:
        # Celery would log the text of the error, which may be personal, and the task would run for a client's default.
        _complain(error)
        identity = Identity()
    if identity is not None:
        headers[HEADER] = _as_header(identity)


def _complain(error: Exception) -> None:
    global _silent_until
    now = time.monotonic()
    if now < _silent_until:
        return
    _silent_until = now + SECONDS_BETWEEN_COMPLAINTS
    logger.error(
        "token_provider failed with %s; the task that is sent runs as nobody. This is logged at most once a minute. It "
        "was raised here:\n%s",
        type(error).__name__,
        "".join(traceback.format_tb(error.__traceback__)).rstrip(),
    )


def _provider() -> TokenProvider | None:
    """Return the provider that the applications of this process ask, if any."""
    return next((provider for provider in _installed.values() if provider is not None), None)


def _begin(task: Any, **_: Any) -> None:
    # An eager task runs for its caller. The scope keeps what it sets from changing the caller's identity.
    eager = task.request.is_eager
    scope = identity_scope(current_identity() if eager else _as_identity(task.request.get(HEADER)))
    setattr(task.request, _SCOPE, scope)
    scope.__enter__()


def _end(task: Any, **_: Any) -> None:
    # There is no scope where the task itself has called `install`.
    scope = task.request.__dict__.pop(_SCOPE, nullcontext())
    scope.__exit__(None, None, None)


def _as_header(identity: Identity) -> dict[str, Any]:
    fields = {
        "user_token": identity.user_token,
        "authenticated_user_token": identity.authenticated_user_token,
        "client_ip": identity.client_ip,
        "opted_out": identity.opted_out or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _as_identity(header: object) -> Identity | None:
    if header is None:
        return None
    try:
        if not isinstance(header, Mapping):
            raise TypeError(f"must be a mapping, not {type(header).__name__}")
        return Identity(**header)
    except (InvalidUserTokenError, InvalidClientIPError, TypeError):
        # The task is somebody's, but it is not known whose. So it runs for nobody, and not for a client's default.
        logger.warning("the header %s of a task is not a valid identity: the task runs as nobody", HEADER)
        return Identity()


def __getattr__(name: str) -> Any:
    if name != "CeleryDelivery":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .celery_delivery import CeleryDelivery  # who only installs the identity has no need of the event sender

    globals()[name] = CeleryDelivery
    return CeleryDelivery
