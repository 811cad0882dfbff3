"""The Django application: put `algolia_usertoken.integrations.django` in INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from .checks import check_middleware, check_settings


class AlgoliaUserTokenConfig(AppConfig):  # type: ignore[misc]  # Django has no types of its own
    """Registers the system checks; the template tag is found by Django itself."""

    name = "algolia_usertoken.integrations.django"
    label = "algolia_usertoken"
    verbose_name = "Algolia user token"

    def ready(self) -> None:
        checks.register(check_settings)
        checks.register(check_middleware)
