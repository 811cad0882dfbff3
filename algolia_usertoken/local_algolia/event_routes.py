"""The requests that report events and erase users: https://www.algolia.com/doc/rest-api/insights."""

from __future__ import annotations

from . import insights_rules
from .application import Application
from .calls import HTML, Call, Reply, as_json
from .errors import ApiError
from .received import ReceivedEvent
from .routes import on

_BAD_REQUEST = (
    b"<html><head><title>400 Bad Request</title></head>"
    b"<body>Error: Bad Request. Your client has issued a malformed or illegal request.</body></html>"
)


@on("POST", "/1/events", for_pages=True)
def push_events(app: Application, call: Call) -> Reply:
    try:
        body = call.decoded()
    except ValueError:
        return Reply(400, _BAD_REQUEST, HTML)
    wrong = insights_rules.refusal(body, call.received_at)
    if wrong is not None:
        raise ApiError(422, wrong)
    of_users = (event for event in insights_rules.events_of(body) if not insights_rules.is_usage_report(event))
    call.events.extend(ReceivedEvent.of(event, call.received_at) for event in of_users)
    return as_json({"status": 200, "message": "OK"})


@on("DELETE", "/1/usertokens/{token}", acl="deleteObject")
def delete_user_token(app: Application, call: Call, token: str) -> Reply:
    app.received.forget_user(token)
    return Reply(200, b"")
