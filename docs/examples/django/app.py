"""The example shop with Django: `python docs/examples/django/app.py --port 8000`."""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import sys

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # the package "shop"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

app = get_wsgi_application()

from views import client  # noqa: E402  # now, so that the first visitor does not wait for it

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    client.events.close_on_signal(signal.SIGTERM)  # delivers the last events
    call_command("runserver", f"127.0.0.1:{parser.parse_args().port}", use_reloader=False, skip_checks=False)
