"""The shop of docs/examples that `SHOP` names, for a server: `app` as it is there, and `asgi` for Django's.

Both watch for an identity outside of a request, as the probes do, and say which process answers. With `KEEP_EVENTS`,
nobody delivers events before the process ends.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import probe
from docs_code import DOCS

from algolia_usertoken import EventSender
from algolia_usertoken.integrations.asgi import IdentityMiddleware

NAME = os.environ["SHOP"]


def keep_events() -> None:
    defaults = EventSender.__init__.__kwdefaults__
    assert {"flush_interval", "close_timeout"} <= defaults.keys()
    defaults.update(flush_interval=600.0, close_timeout=60.0)  # on a busy machine the usual 5 seconds may be too few


def with_process_wsgi(application: Any) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, [*headers, ("X-Process", str(os.getpid()))], *exc_info)

        return application(environ, start)

    return app


def with_process_asgi(application: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def send_with_process(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-process", str(os.getpid()).encode())]}
            await send(message)

        await application(scope, receive, send_with_process)

    return app


if "KEEP_EVENTS" in os.environ:
    keep_events()
sys.path.insert(0, str(DOCS / "examples" / NAME))
documented = importlib.import_module("app").app  # the name of the file there

if NAME == "fastapi":
    app = with_process_asgi(probe.watched_asgi(documented))
else:
    app = with_process_wsgi(probe.watched_wsgi(documented))
if NAME == "django":
    from django.core.asgi import get_asgi_application

    # As docs/django.md says for servers that run no exit hooks.
    asgi = with_process_asgi(probe.watched_asgi(IdentityMiddleware(get_asgi_application())))
