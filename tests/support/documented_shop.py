"""The shop of docs/examples that `SHOP` names, for a server: `app` as it is there, and `asgi` for Django's.

Both watch for an identity outside of a request, as the probes do.
"""

from __future__ import annotations

import importlib
import os
import sys

import probe
from pages import DOCS

NAME = os.environ["SHOP"]

sys.path.insert(0, str(DOCS / "examples" / NAME))
_app = importlib.import_module("app").app  # the file's name there
app = (probe.watched_asgi if NAME == "fastapi" else probe.watched_wsgi)(_app)

if NAME == "django":
    from django.core.asgi import get_asgi_application

    asgi = probe.http_only(probe.watched_asgi(get_asgi_application()))
