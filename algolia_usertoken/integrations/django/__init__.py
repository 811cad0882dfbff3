"""Django: a middleware, settings under the one name `ALGOLIA_USERTOKEN`, system checks and a template tag."""

from __future__ import annotations

from .middleware import IdentityMiddleware

__all__ = ["IdentityMiddleware"]
