"""Runs the lifespan of an application that sends no events. Prints its messages, and what is loaded of senders."""

import asyncio
import sys

from algolia_usertoken.integrations.asgi import IdentityMiddleware

messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]


async def app(scope, receive, send):
    pass


async def receive():
    return messages.pop(0)


async def send(message):
    print(message["type"])


asyncio.run(IdentityMiddleware(app)({"type": "lifespan"}, receive, send))
print([name for name in sys.modules if name.startswith(("algolia_usertoken.events", "algoliasearch"))])
