"""Applications that queue an event per request. The events are delivered only when the process ends.

The path is the id of the event, and the answer is the id of the process.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from algolia_usertoken import EventSender
from algolia_usertoken.integrations.asgi import IdentityMiddleware
from algolia_usertoken.testing import LocalAlgolia

# This LocalAlgolia is not started: it runs in the process of the test, and this process only needs its address.
algolia = LocalAlgolia(port=int(os.environ.get("LOCAL_ALGOLIA_PORT", "1")))
events = EventSender(
    config=algolia.insights_config(),
    user_token="visitor",
    flush_interval=600,
    close_timeout=float(os.environ.get("CLOSE_TIMEOUT", "60")),  # on a busy machine the usual 5 seconds may be too few
)
if os.environ.get("CLOSE_ON_SIGNAL"):
    events.close_on_signal(signal.SIGTERM)


def send(path: str) -> bytes:
    assert events.viewed_object_ids("Seen", "products", [path[1:]], identity="visitor")
    time.sleep(0.01)  # without it, a single process would answer all requests
    return str(os.getpid()).encode()


async def without_lifespan(scope: Any, receive: Any, send_message: Any) -> None:
    assert scope["type"] == "http"
    body = send(scope["path"])
    headers = [(b"content-length", str(len(body)).encode())]
    await send_message({"type": "http.response.start", "status": 200, "headers": headers})
    await send_message({"type": "http.response.body", "body": body})


asgi = IdentityMiddleware(without_lifespan)


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = send(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
