"""The one error that the stand-in answers with."""

from __future__ import annotations


class ApiError(Exception):
    """An answer other than 200, with Algolia's JSON body `{"message": …, "status": …}`.

    Args:
        status: The HTTP status.
        message: The message that Algolia sends in such a case.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
