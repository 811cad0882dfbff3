"""Both copies of the rules, the door's and LocalAlgolia's, hold to Algolia's API specification."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from algoliasearch.http.transporter_sync import EchoTransporterSync
from algoliasearch.insights.config import InsightsConfig
from specification_cases import CASES, NOW, Case

from algolia_usertoken import (
    EventSender,
    InvalidEventError,
    MemoryDelivery,
    MissingUserTokenError,
    TokenAwareInsightsClientSync,
)
from algolia_usertoken.local_algolia.insights_rules import refusal

each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands."""
    monkeypatch.setattr(time, "time", lambda: NOW)


@each_case
def test_local_algolia_holds_to_the_specification(case: Case) -> None:
    wrong = refusal(copy.deepcopy(case.body), NOW)

    assert (wrong is None) == case.taken, (wrong, case.place)


@each_case
def test_push_events_holds_to_the_specification(case: Case) -> None:
    config = InsightsConfig("app", "key")
    before = copy.deepcopy(case.body)
    wrong: Exception | None = None
    with TokenAwareInsightsClientSync.create_with_config(config, EchoTransporterSync(config)) as client:
        try:
            client.push_events_with_http_info(case.body)
        except (InvalidEventError, MissingUserTokenError) as error:
            wrong = error

    assert (wrong is None) == case.taken, (wrong, case.place)
    assert case.body == before


@each_case
def test_send_holds_to_the_specification(case: Case) -> None:
    events: list[Any] = case.body.get("events", [case.body]) if isinstance(case.body, dict) else case.body
    if not case.taken and len(events) != 1:
        pytest.skip("it is about the batch, and not about an event")
    if "events" not in case.body:
        pytest.skip("it is about the body, and not about an event")
    delivery = MemoryDelivery()
    with EventSender(delivery=delivery, background=False) as sender:
        accepted = [sender.send(event) for event in events]

    assert accepted == [case.taken] * len(events), case.place
    sent = iter(delivery.events)
    for event in events if case.taken else ():
        assert {name: value for name, value in event.items() if value is not None}.items() <= next(sent).items()
