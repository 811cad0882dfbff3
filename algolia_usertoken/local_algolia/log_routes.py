"""The request for the logs."""

from __future__ import annotations

from typing import Any

from .application import Application
from .calls import Call, Reply, as_json, whole
from .index import written
from .received import ReceivedRequest
from .routes import on


@on("GET", "/1/logs", acl="logs")
def logs(app: Application, call: Call) -> Reply:
    """The requests to the Search API, newest first: https://www.algolia.com/doc/rest-api/search/get-logs."""
    offset, length = whole(call.in_query("offset")) or 0, whole(call.in_query("length")) or 10
    kept = [request for request in reversed(app.received.requests()) if request.path.startswith("/1/indexes")]
    return as_json({"logs": [_log_entry(request) for request in kept[offset : offset + length]]})


def _log_entry(request: ReceivedRequest) -> dict[str, Any]:
    hidden = {name: "********" for name in request.headers if name.lower() == "x-algolia-api-key"}
    headers = {**request.headers, **hidden}
    return {
        "timestamp": written(request.received_at),
        "method": request.method,
        "answer_code": str(request.status or 0),
        "query_body": request.body.decode(errors="replace"),
        "answer": "",
        "url": f"{request.path}?{request.query_string}".rstrip("?"),
        "ip": request.client_ip,
        "query_headers": "\n".join(f"{name}: {value}" for name, value in headers.items()),
        "sha1": "",
        "processing_time_ms": "1",
    }
