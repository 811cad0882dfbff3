"""Flask. A page names its visitor in a Jinja template."""

from __future__ import annotations

import pages
from flask import Flask, Response, render_template_string, request

from algolia_usertoken.integrations.flask import init_app

app = Flask(__name__)
init_app(app, set_cookie=True)


@app.get("/<kind>/<rule>")
def page(kind: str, rule: str) -> Response:
    status, headers = pages.answer(kind, rule, request.headers.get("If-None-Match"))
    template = "{{ algolia_user_token() }}" if kind == pages.NAMED else ""
    return Response(pages.body(kind, render_template_string(template)) if status == 200 else None, status, headers)
