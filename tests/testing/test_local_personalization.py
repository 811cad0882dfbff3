"""Profiles and the strategy of Personalization, with the real client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from algoliasearch.http.exceptions import RequestException
from algoliasearch.insights.client import InsightsClientSync
from algoliasearch.personalization.client import PersonalizationClientSync
from algoliasearch.personalization.config import PersonalizationConfig

from algolia_usertoken.testing import LocalAlgolia

Ask = Callable[..., Any]
STRATEGY = {
    "eventsScoring": [{"eventName": "e", "eventType": "click", "score": 10}],
    "facetsScoring": [{"facetName": "brand", "score": 5}],
    "personalizationImpact": 50,
}


@pytest.fixture
def personalization(algolia: LocalAlgolia) -> Iterator[PersonalizationClientSync]:
    client = PersonalizationClientSync.create_with_config(algolia.config_for(PersonalizationConfig))
    yield client
    client.close()


def test_who_sent_events_has_a_profile(
    personalization: PersonalizationClientSync, insights: InsightsClientSync
) -> None:
    with pytest.raises(RequestException, match="userToken not found"):
        personalization.get_user_token_profile("ada")
    event = {"eventType": "click", "eventName": "e", "index": "i", "userToken": "ada", "objectIDs": ["1"]}
    insights.push_events({"events": [event]})
    profile = personalization.get_user_token_profile("ada")
    assert (profile.user_token, profile.scores) == ("ada", {})
    assert profile.last_event_at
    assert personalization.delete_user_profile("ada").user_token == "ada"


def test_the_strategy_of_personalization_is_kept(personalization: PersonalizationClientSync) -> None:
    assert personalization.get_personalization_strategy().personalization_impact == 0
    assert personalization.set_personalization_strategy(STRATEGY).message == "Strategy was successfully updated"
    assert personalization.get_personalization_strategy().to_dict() == STRATEGY


@pytest.mark.parametrize(
    "change", [{"personalizationImpact": "50"}, {"personalizationImpact": True}, {"facetsScoring": None}]
)
def test_a_strategy_that_is_none_is_refused(ask: Ask, change: dict[str, Any]) -> None:
    assert ask("POST", "/1/strategies/personalization", {**STRATEGY, **change}).status == 400
    assert ask("GET", "/1/strategies/personalization").json["eventsScoring"] == []
