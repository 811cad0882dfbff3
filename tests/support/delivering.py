"""An application whose workers deliver events."""

from __future__ import annotations

import os

from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.insights.config import InsightsConfig
from celery import Celery

from algolia_usertoken import EventSender
from algolia_usertoken.integrations.celery import CeleryDelivery

config = InsightsConfig("LOCALALGOLIA", "local-api-key")
config.hosts = HostsCollection([Host("127.0.0.1", scheme="http", port=int(os.environ.get("LOCAL_ALGOLIA_PORT", "1")))])
config.proxies = {}
config.connect_timeout = config.read_timeout = 20_000  # on a busy machine the usual 2 and 5 seconds may be too few

app = Celery("delivering", broker=os.environ.get("BROKER"), set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
if "LIMITS" in os.environ:  # limits of the application for all of its tasks
    app.conf.task_time_limit = app.conf.task_soft_time_limit = int(os.environ["LIMITS"])
delivery = CeleryDelivery(app, config=None if "WITHOUT_CONFIG" in os.environ else config)


@app.task
def send_from_child(name: int) -> None:
    """Queue an event that only the exit of this process delivers."""
    global _sender
    if _sender is None:
        _sender = EventSender(config=config, user_token="child", flush_interval=600, close_timeout=60)
    event = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": [str(name)]}
    assert _sender.send(event)


_sender: EventSender | None = None
