"""The object by which a Celery worker's main process keeps track of a message with events. Only workers import this."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request


class DeliverRequest(Request):  # type: ignore[misc,unused-ignore]
    """Handles what a run of the task cannot report itself: that it failed, was killed or ran out of time.

    Celery would acknowledge the message of such a run, drop it, or hand it to the next process at once, again and
    again. This class sends the message to the broker once more, for a later attempt, and then acknowledges it.

    https://docs.celeryq.dev/en/stable/userguide/tasks.html#requests-and-custom-requests
    """

    _why = "the worker stopped"

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
        error = exc_info.exception
        self._why = f"the worker failed with {type(getattr(error, 'exc', error)).__name__}"
        return super().on_failure(exc_info, *args, **options)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        if not soft:
            self._why = f"a time limit of {timeout} seconds was too short"
        return super().on_timeout(soft, timeout)

    def reject(self, requeue: bool = False) -> None:
        if self.acknowledged:
            return
        try:
            self.task.send_again(self._why, self.args, self.kwargs)
        except Exception:  # the broker does not take it
            super().reject(requeue=True)
        else:
            self.acknowledge()
