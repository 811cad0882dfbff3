"""The delivery of existing events, where a delivery raises what Algolia's does not; test_cli_send.py has the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence

from waiting import PATIENCE

from algolia_usertoken import DeliveryError, MemoryDelivery
from algolia_usertoken.events.backfill import Backfill, Text

EVENT = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": ["1"], "userToken": "u"}


def test_after_an_error_that_no_other_attempt_would_mend_it_stops_and_settles_nothing() -> None:
    settled: list[Sequence[Text]] = []
    delivery = MemoryDelivery()
    delivery.fail_next(DeliveryError("the way is gone"))
    backfill = Backfill(delivery, settled.append, lambda: None, patience_s=PATIENCE, batch_size=10)
    try:
        assert backfill.put(Text(json.dumps(EVENT).encode()))
        assert not backfill.finish()
        assert not backfill.put(Text(json.dumps(EVENT).encode()))
    finally:
        backfill.end(PATIENCE)

    assert (backfill.stopped, backfill.unauthorized) == ("the way is gone", False)
    assert (backfill.accepted, list(backfill.rejected), settled, delivery.events) == (0, [], [], [])
