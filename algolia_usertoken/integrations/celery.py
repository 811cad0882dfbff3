"""Celery: a task runs as whoever it was sent for.

The identity travels in a header of the task's message, with `delay`, `retry`, `chain`, `group` and `chord`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any
from weakref import WeakSet

from celery import Celery, signals

from ..context import current_identity, identity_scope
from ..errors import InvalidClientIPError, InvalidUserTokenError
from ..identity import Identity

__all__ = ["HEADER", "install", "uninstall"]

HEADER = "algolia_identity"

logger = logging.getLogger("algolia_usertoken.integrations")

# Celery's signals belong to the process, not to an application. This says for how many they are connected.
_installed: WeakSet[Celery] = WeakSet()
_SCOPE = "_algolia_identity_scope"  # on a task's request: what was set for it


def install(app: Celery) -> None:
    """Send the current identity along with each task, and run each task as the identity sent with it.

    Call it where the application is made, so that the processes that send and the workers both do. A task sent where
    there was no identity has none, so a client's default applies. What runs eagerly, in the caller's process, simply
    runs as the caller. A header `algolia_identity` given to `apply_async` stays. Done twice, it counts once.

    Celery's signals are those of the process: with two applications in one, both send.

    Raises:
        TypeError: `app` is no Celery application.
    """
    if not isinstance(app, Celery):
        raise TypeError(f"app must be a Celery application, not {type(app).__name__}")
    _installed.add(app)
    for signal, receiver in _receivers():
        signal.connect(receiver, weak=False, dispatch_uid=f"algolia_usertoken.{receiver.__name__}")


def uninstall(app: Celery) -> None:
    """Undo `install`; for an application that was not given it, nothing."""
    if app not in _installed:
        return
    _installed.remove(app)
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
    identity = current_identity()
    if identity is not None and headers is not None:
        headers.setdefault(HEADER, _as_header(identity))


def _begin(task: Any, **_: Any) -> None:
    if task.request.is_eager:
        return
    scope = identity_scope(_as_identity(task.request.get(HEADER)))
    setattr(task.request, _SCOPE, scope)
    scope.__enter__()


def _end(task: Any, **_: Any) -> None:
    scope = task.request.__dict__.pop(_SCOPE, None)
    if scope is not None:
        scope.__exit__()


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
        # Somebody's, but not known whose: nobody's, rather than the client's default.
        logger.warning("the header %s of a task is no identity; the task runs as nobody", HEADER)
        return Identity()
