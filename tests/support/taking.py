"""Checks that all code here that accepts events accepts the events that an Algolia client has posted."""

from __future__ import annotations

import json
from typing import Any

from algoliasearch.http.transporter_sync import EchoTransporterSync
from algoliasearch.insights.config import InsightsConfig

from algolia_usertoken import EventSender, MemoryDelivery, TokenAwareInsightsClientSync
from algolia_usertoken.testing import LocalAlgolia


def taken_events(algolia: LocalAlgolia) -> list[Any]:
    """Return the posted events in order, after a check that all code accepts them, and leaves out or changes nothing.

    LocalAlgolia has accepted each body; a strict `EventSender` accepts each event of it; and `push_events` accepts the
    body itself.
    """
    assert [(seen.method, seen.path, seen.status, seen.body) for seen in algolia.requests if seen.status != 200] == []
    bodies = [json.loads(seen.body) for seen in algolia.requests if (seen.method, seen.path) == ("POST", "/1/events")]
    config = InsightsConfig("app", "key")
    with TokenAwareInsightsClientSync.create_with_config(config, EchoTransporterSync(config)) as client:
        for body in bodies:
            assert json.loads(client.push_events_with_http_info(body).data or "") == body
    events = [event for body in bodies for event in body["events"]]
    delivery = MemoryDelivery()
    with EventSender(delivery=delivery, background=False, strict=True) as sender:
        assert [event for event in events if not sender.send(event)] == []
    assert [event | given for event, given in zip(delivery.events, events, strict=True)] == delivery.events
    return events
