"""Cancels `aflush` while the collector hangs, and exits."""

import asyncio

from prelude import event, sender

events = sender(close_timeout=1.0)


async def main() -> None:
    events.send(event(1))
    try:
        await asyncio.wait_for(events.aflush(), 0.5)
    except asyncio.TimeoutError:
        print("timed out")


asyncio.run(main())
