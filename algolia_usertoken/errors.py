"""Every error that the package raises.

    UserTokenError
    ├── InvalidUserTokenError   (also a ValueError)
    ├── InvalidClientIPError    (also a ValueError)
    ├── InvalidEventError       (also a ValueError)
    ├── InvalidReferenceError   (also a ValueError)
    ├── MissingUserTokenError   (also a LookupError)
    └── DeliveryError           events were given up: `on_error` gets it
        ├── BatchRejectedError
        ├── RetryableDeliveryError
        ├── UnauthorizedDeliveryError
        └── OutboxError

A wrong argument of a constructor raises the built-in `ValueError` or `TypeError`, which names the argument.

An error quotes no token, login, cookie, header, address, reference or object id. It says which argument is wrong, what
is wrong with it at which position, and how long it is. So errors are safe to log. None is chained to an error of other
code, as that may quote them.
"""

from __future__ import annotations

import os.path


class UserTokenError(Exception):
    """The base class of all errors of this package."""


class InvalidUserTokenError(UserTokenError, ValueError):
    """A user token is invalid: Algolia would not accept it. The message says why, and does not quote the token."""


class InvalidClientIPError(UserTokenError, ValueError):
    """A client address is not an IPv4 or IPv6 address."""


class InvalidEventError(UserTokenError, ValueError):
    """An event is invalid: Algolia would not accept it.

    Attributes:
        field: The name of the field that is wrong, for example `objectIDs`; None if it is not one field alone.

    https://www.algolia.com/doc/rest-api/insights/push-events
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message, field)
        self.field = field

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidReferenceError(UserTokenError, ValueError):
    """A text is not a reference that was signed with this secret, or it is too old. The message says which is true."""


class MissingUserTokenError(UserTokenError, LookupError):
    """An event, a search or a key needs a user token, and no identity is known."""


class DeliveryError(UserTokenError):
    """Events could not be delivered. If a `Delivery` raises this class itself, the sender gives the batch up."""


class BatchRejectedError(DeliveryError):
    """A batch, or an event in it, was rejected: the sender splits the batch until the bad event is alone."""


class RetryableDeliveryError(DeliveryError):
    """A batch was not accepted, but may be later: the sender tries again.

    Attributes:
        delay: How many seconds to wait before the next attempt, if the receiver said so; else None.
    """

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message, delay)
        self.delay = delay

    def __str__(self) -> str:
        return str(self.args[0])


class UnauthorizedDeliveryError(DeliveryError):
    """The API key is not accepted. It may be about to be replaced, so the sender tries the batch again, slowly."""


class OutboxError(DeliveryError):
    """The file of an outbox cannot be used: for example, it is not an outbox, or the file or the disk is full.

    If `settled` is True, the events that `on_error` gets were delivered or given up; only their removal from the file
    has failed.
    """

    settled = False


class MissingUserTokenWarning(UserWarning):
    """A search was sent for which no identity is known, and `on_missing_user_token` is `"warn"`."""


# What a message may say of an error of other code. The text of that error is left out, as it may quote anything.


def kind_of(error: BaseException) -> str:
    """The type of an error, and what the operating system calls it, if an error in its chain says that."""
    words: list[str] = []
    linked: BaseException | None = error
    seen: set[int] = set()
    while linked is not None and id(linked) not in seen:
        seen.add(id(linked))
        if isinstance(linked, OSError):
            if isinstance(linked.strerror, str):
                return f"{type(error).__name__}: {linked.strerror}"
            words.append(type(linked).__name__)
        linked = linked.__cause__ or linked.__context__
    name = type(error).__name__
    return f"{name}: {words[-1]}" if words and words[-1] != name else name


def raised(error: BaseException) -> str:
    """The type of an error, and where it was raised: "KeyError in users.py, line 42"."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {os.path.basename(trace.tb_frame.f_code.co_filename)}, line {trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"


def traced(error: BaseException) -> str:
    """The type of an error and its traceback, for a log: what `logging.exception` would print, without the texts."""
    import traceback  # only needed where there is an error

    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip()


# What other middlewares put into the scope of an ASGI request, and which one does.
_PUT_INTO_SCOPE = {
    "session": "SessionMiddleware",
    "user": "AuthenticationMiddleware",
    "auth": "AuthenticationMiddleware",
}


def middleware_missed(error: Exception) -> str | None:
    """The middleware that has not run yet, if that seems to be why a function of the application raised an error."""
    said = getattr(error, "detail", None) or next(iter(error.args), None)
    if not isinstance(said, str):
        return None
    for name, middleware in _PUT_INTO_SCOPE.items():
        # `scope["session"]` raises a KeyError; `Request(scope).session` raises what Starlette and Litestar say.
        in_words = (f"{middleware} must be installed", f"'{name}' is not defined in scope")
        if said == name if isinstance(error, KeyError) else said.startswith(in_words):
            return middleware
    return None
