"""Queues a task with the view of docs/task-queues.md for each visitor of an argument in JSON: {words: identity}."""

import asyncio
import json
import os
import sys

import redis
import task_queue

from algolia_usertoken import Identity, identity_scope

visitors = {
    words: None if identity is None else Identity(**identity) for words, identity in json.loads(sys.argv[1]).items()
}


def queue_in_rq() -> None:
    import rq
    from rq.serializers import JSONSerializer

    queue = rq.Queue(connection=redis.Redis.from_url(os.environ["BROKER"]), serializer=JSONSerializer)
    for words, identity in visitors.items():
        with identity_scope(identity):
            task_queue.checkout(queue, {"products": [words]})


async def queue_in_arq() -> None:
    import arq

    pool = await arq.create_pool(task_queue.WorkerSettings.redis_settings)
    for words, identity in visitors.items():
        with identity_scope(identity):
            await task_queue.view(pool, words)
    await pool.close(close_connection_pool=True)


def queue_in_dramatiq() -> None:
    for words, identity in visitors.items():
        with identity_scope(identity):
            task_queue.search_page(words)


if os.environ["TASK_QUEUE"] == "rq":
    queue_in_rq()
elif os.environ["TASK_QUEUE"] == "arq":
    asyncio.run(queue_in_arq())
else:
    queue_in_dramatiq()
