"""Every error the package raises.

    UserTokenError
    ├── InvalidUserTokenError   (also a ValueError)
    ├── InvalidClientIPError    (also a ValueError)
    ├── InvalidEventError       (also a ValueError)
    ├── InvalidReferenceError   (also a ValueError)
    ├── MissingUserTokenError   (also a LookupError)
    └── DeliveryError           an event was given up; what `on_error` gets
        ├── BatchRejectedError
        ├── RetryableDeliveryError
        ├── UnauthorizedDeliveryError
        └── OutboxError

A wrong constructor argument raises the built-in `ValueError` or `TypeError`, naming the argument.

No text of an error quotes a token, a login, a cookie, a header, an address, a reference or an object id: it says which
argument is wrong, what is wrong with it at which position, and how long it is. So errors are safe to log, and none is
chained to an error of somebody else whose text may quote them.
"""

from __future__ import annotations

import os.path


class UserTokenError(Exception):
    """The base of every error of this package."""


class InvalidUserTokenError(UserTokenError, ValueError):
    """A user token is not what Algolia accepts; the message says why, and does not quote it."""


class InvalidClientIPError(UserTokenError, ValueError):
    """A client address is not an IPv4 or IPv6 address."""


class InvalidEventError(UserTokenError, ValueError):
    """An event is not what Algolia accepts; `field` is the name of the offending field, as in `objectIDs`.

    https://www.algolia.com/doc/rest-api/insights/push-events
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message, field)
        self.field = field

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidReferenceError(UserTokenError, ValueError):
    """A text is not a reference that was signed with this secret, or it is too old; the message says which."""


class MissingUserTokenError(UserTokenError, LookupError):
    """Something that needs a user token was asked for where no identity was known."""


class DeliveryError(UserTokenError):
    """Events could not be delivered. Raised by a `Delivery` as it is, it means: give this batch up."""


class BatchRejectedError(DeliveryError):
    """The batch, or something in it, is not acceptable: it is split until what is bad stands alone."""


class RetryableDeliveryError(DeliveryError):
    """The batch may well be accepted later; `delay` is how many seconds to wait, where the receiver said so."""

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message, delay)
        self.delay = delay

    def __str__(self) -> str:
        return str(self.args[0])


class UnauthorizedDeliveryError(DeliveryError):
    """The key is not accepted: it may be being rotated, so the batch is retried, slowly."""


class OutboxError(DeliveryError):
    """The file of an outbox cannot be used: it is no outbox, is full, or the disk is.

    `settled` is True where the events of `on_error` were delivered or given up, and only could not be removed from the
    file.
    """

    settled = False


class MissingUserTokenWarning(UserWarning):
    """A search left without an identity, under `on_missing_user_token="warn"`."""


# What may be said of an error that is not ours. Its text is left out, as it may quote anything.


def kind_of(error: BaseException) -> str:
    """The type of an error, and the operating system's word for it, where there is one in the chain of errors."""
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
    """The type of an error and its traceback, for a log: what `logging.exception` would print, but for the texts."""
    import traceback  # here, as nobody who has no error needs it

    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip()
