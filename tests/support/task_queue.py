"""The tasks and views of docs/task-queues.md as a module of an application, for the queue that `TASK_QUEUE` names.

Algolia is the one at LOCAL_ALGOLIA_PORT, and Redis the one at BROKER. Events that nobody flushes wait for ten minutes.
"""

from __future__ import annotations

import os

import pytest
from docs_code import DOCS, answer_for_algolia, run_block

from algolia_usertoken import EventSender
from algolia_usertoken.testing import LocalAlgolia

PAGE = DOCS / "task-queues.md"

answer_for_algolia(LocalAlgolia(port=int(os.environ["LOCAL_ALGOLIA_PORT"])), pytest.MonkeyPatch())
assert "flush_interval" in EventSender.__init__.__kwdefaults__
EventSender.__init__.__kwdefaults__["flush_interval"] = 600.0

run_block(PAGE, "def for_visitor(task)", globals())
if os.environ["TASK_QUEUE"] == "rq":
    run_block(PAGE, "rq.Queue", globals())
elif os.environ["TASK_QUEUE"] == "arq":
    from arq.connections import RedisSettings

    run_block(PAGE, "class WorkerSettings", globals())
    globals()["WorkerSettings"].redis_settings = RedisSettings.from_dsn(os.environ["BROKER"])
else:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    dramatiq.set_broker(RedisBroker(url=os.environ["BROKER"]))
    run_block(PAGE, "@dramatiq.actor", globals())
