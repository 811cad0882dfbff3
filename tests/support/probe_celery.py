"""Tasks that search and click as the visitor for whom they were sent."""

from __future__ import annotations

import os
from typing import Any

import probe
from celery import Celery

from algolia_usertoken import set_user_token
from algolia_usertoken.integrations.celery import install

app = Celery("shop", broker=os.environ.get("BROKER"), backend=os.environ.get("BROKER"))
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
install(app)


@app.task
def search(what: str) -> dict[str, Any]:
    return probe.search(what)


@app.task
def search_next(previous: Any, what: str) -> dict[str, Any]:
    return probe.search(what)


@app.task(bind=True, max_retries=2)
def search_on_retry(self: Any, what: str) -> dict[str, Any]:
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return probe.search(what)


@app.task
def send_another(what: str) -> str:
    return str(search.delay(what).id)


@app.task
def fail(what: str) -> None:
    probe.search(what)
    raise ZeroDivisionError


@app.task
def leave_behind(what: str) -> dict[str, Any]:
    set_user_token("left-behind")
    return probe.seen()


@app.task
def seen() -> dict[str, Any]:
    return probe.seen()
