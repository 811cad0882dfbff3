"""Django in one file. A page names its visitor with the template tag."""

from __future__ import annotations

import django
import pages
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path

settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="app_django",
    INSTALLED_APPS=["algolia_usertoken.integrations.django"],
    MIDDLEWARE=[
        "django.middleware.http.ConditionalGetMiddleware",  # an ETag for each page, and 304s
        "algolia_usertoken.integrations.django.IdentityMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    ALGOLIA_USERTOKEN={"SET_COOKIE": True},
    USE_TZ=True,
)


def page(request: HttpRequest, kind: str, rule: str) -> HttpResponse:
    status, headers = pages.answer(kind, rule, request.headers.get("If-None-Match"))
    template = "{% load algolia_usertoken %}{% algolia_user_token %}" if kind == pages.NAMED else ""
    script = engines["django"].from_string(template).render({}, request)
    return HttpResponse(pages.body(kind, script) if status == 200 else b"", status=status, headers=dict(headers))


urlpatterns = [path("<kind>/<rule>", page)]
django.setup()
app = WSGIHandler()
