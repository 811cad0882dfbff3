"""The application of `stopping` in Django."""

from __future__ import annotations

import stopping
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from algolia_usertoken.integrations.asgi import IdentityMiddleware

settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="stopping_django",
    INSTALLED_APPS=["algolia_usertoken.integrations.django"],
    MIDDLEWARE=["algolia_usertoken.integrations.django.IdentityMiddleware"],
    USE_TZ=True,
)


def view(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(stopping.send(request.path))


urlpatterns = [path("<name>", view)]
asgi = IdentityMiddleware(get_asgi_application())
wsgi = get_wsgi_application()
