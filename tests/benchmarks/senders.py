"""The event senders that `bench_events.py` compares, behind one face.

All are given their defaults, but for the size of the queue, where they have one, and the address. An event says the
same everywhere: a click on one object, its position and the query that led to it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from counting_collector import EVENT_NAME

INDEX = "products"


class Sender:
    """One way to send events.

    `arguments` makes those of one event for `enqueue`, the call whose cost is measured; both belong to this side of the
    benchmark. `flush` returns when all of it is delivered.
    """

    label: str
    distribution: str
    enqueue: Callable[..., Any]

    def __init__(self, port: int, queue_size: int) -> None:
        raise NotImplementedError

    def arguments(self, user_token: str, object_id: str, position: int, query_id: str) -> tuple[Any, ...]:
        return user_token, {"index": INDEX, "objectIDs": [object_id], "positions": [position], "queryID": query_id}

    def flush(self) -> None:
        raise NotImplementedError

    @classmethod
    def version(cls) -> str:
        return f"{cls.distribution} {version(cls.distribution)}"


class Ours(Sender):
    """`send` of a ready event. Whose it is comes from the `identity_scope` that the benchmark opens."""

    label = "send"
    distribution = "algolia-usertoken"
    concurrency = 1

    def __init__(self, port: int, queue_size: int) -> None:
        from algoliasearch.http.hosts import Host, HostsCollection
        from algoliasearch.insights.config import InsightsConfig

        from algolia_usertoken import EventSender

        config = InsightsConfig("app", "key")
        config.hosts = HostsCollection([Host("127.0.0.1", scheme="http", port=port)])
        self.events = EventSender(config=config, max_queue_size=queue_size, concurrency=self.concurrency)
        self.enqueue = self.events.send

    def arguments(self, user_token: str, object_id: str, position: int, query_id: str) -> tuple[Any, ...]:
        event = {
            "eventType": "click",
            "eventName": EVENT_NAME,
            "index": INDEX,
            "objectIDs": [object_id],
            "positions": [position],
            "queryID": query_id,
        }
        return (event,)

    def flush(self) -> None:
        self.events.flush()


class OursByName(Ours):
    """One of the twelve methods."""

    label = "clicked_object_ids_after_search"

    def __init__(self, port: int, queue_size: int) -> None:
        super().__init__(port, queue_size)
        self.enqueue = self.events.clicked_object_ids_after_search

    def arguments(self, user_token: str, object_id: str, position: int, query_id: str) -> tuple[Any, ...]:
        return EVENT_NAME, INDEX, [object_id], [position], query_id


class OursFourAtOnce(Ours):
    label = "send, concurrency=4"
    concurrency = 4


class PostHog(Sender):
    label = "posthog"
    distribution = "posthog"

    def __init__(self, port: int, queue_size: int) -> None:
        from posthog import Posthog

        self.client = Posthog("key", host=f"http://127.0.0.1:{port}", max_queue_size=queue_size)

    def enqueue(self, user_token: str, properties: dict[str, Any]) -> None:
        self.client.capture(EVENT_NAME, distinct_id=user_token, properties=properties)

    def flush(self) -> None:
        self.client.flush(None)


class Segment(Sender):
    label = "segment"
    distribution = "segment-analytics-python"

    def __init__(self, port: int, queue_size: int) -> None:
        from segment.analytics.client import Client

        self.client = Client("key", host=f"http://127.0.0.1:{port}", max_queue_size=queue_size)

    def enqueue(self, user_token: str, properties: dict[str, Any]) -> None:
        self.client.track(user_token, EVENT_NAME, properties)

    def flush(self) -> None:
        self.client.flush()


class ConfluentKafka(Sender):
    """The highest reference there is: librdkafka, written in C, to its built-in broker, fed with JSON as ours is."""

    label = "confluent-kafka, json.dumps"
    distribution = "confluent-kafka"

    def __init__(self, port: int, queue_size: int) -> None:
        import json

        from confluent_kafka import Producer

        self.dumps = json.dumps
        self.producer = Producer(
            {"test.mock.num.brokers": 1, "queue.buffering.max.messages": queue_size + 1, "log_level": 0}
        )
        self.arrived = 0

    def enqueue(self, user_token: str, properties: dict[str, Any]) -> None:
        event = {"eventType": "click", "eventName": EVENT_NAME, "userToken": user_token, **properties}
        try:  # noqa: SIM105 - which costs less than contextlib
            self.producer.produce("events", self.dumps(event))
        except BufferError:
            pass  # the queue is full: dropped, as the others do

    def flush(self) -> None:
        self.arrived = -1 if self.producer.flush() else 1


class OpenTelemetry(Sender):
    label = "opentelemetry (logs)"
    distribution = "opentelemetry-sdk"

    def __init__(self, port: int, queue_size: int) -> None:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        exporter = OTLPLogExporter(endpoint=f"http://127.0.0.1:{port}/v1/logs")
        self.processor = BatchLogRecordProcessor(exporter, max_queue_size=queue_size)
        provider = LoggerProvider()
        provider.add_log_record_processor(self.processor)
        self.logger = provider.get_logger("benchmark")

    def enqueue(self, user_token: str, properties: dict[str, Any]) -> None:
        self.logger.emit(body=EVENT_NAME, attributes={"userToken": user_token, **properties})

    def flush(self) -> None:
        self.processor.force_flush()


class Snowplow(Sender):
    label = "snowplow"
    distribution = "snowplow-tracker"

    def __init__(self, port: int, queue_size: int) -> None:
        from snowplow_tracker import AsyncEmitter, Subject, Tracker
        from snowplow_tracker.events import StructuredEvent

        self.event, self.subject = StructuredEvent, Subject
        self.emitter = AsyncEmitter("127.0.0.1", protocol="http", port=port, buffer_capacity=queue_size)
        self.tracker = Tracker("benchmark", self.emitter)

    def enqueue(self, user_token: str, properties: dict[str, Any]) -> None:
        subject = self.subject().set_user_id(user_token)
        # The events of its own that carry more fields cost more than this one.
        event = self.event(
            INDEX, EVENT_NAME, properties["objectIDs"][0], properties["queryID"], properties["positions"][0], subject
        )
        self.tracker.track(event)

    def flush(self) -> None:
        self.emitter.sync_flush()


class Amplitude(Sender):
    label = "amplitude"
    distribution = "amplitude-analytics"

    def __init__(self, port: int, queue_size: int) -> None:
        from amplitude import Amplitude as Client
        from amplitude import BaseEvent, Config
        from amplitude.constants import EventLogLevel

        self.event = BaseEvent
        self.client = Client("key", Config(server_url=f"http://127.0.0.1:{port}/", event_log_level=EventLogLevel.NONE))

    def enqueue(self, user_token: str, properties: dict[str, Any]) -> None:
        self.client.track(self.event(EVENT_NAME, user_id=user_token, event_properties=properties))

    def flush(self) -> None:
        for future in self.client.flush():
            if future is not None:
                future.result()
        self.client.shutdown()  # waits for the batches that left before


SENDERS: dict[str, type[Sender]] = {
    "send": Ours,
    "by name": OursByName,
    "posthog": PostHog,
    "segment": Segment,
    "kafka": ConfluentKafka,
    "opentelemetry": OpenTelemetry,
    "snowplow": Snowplow,
    "amplitude": Amplitude,
    "four at once": OursFourAtOnce,
}
OURS = ("send", "by name")
RIVALS = ("posthog", "segment")
OTHERS = ("opentelemetry", "snowplow", "amplitude")


def new_query_id() -> str:
    return uuid.uuid4().hex
