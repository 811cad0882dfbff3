"""A configuration for gunicorn, which reads it before it loads the application."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()
