"""Delivers in many ways, and prints what the sender's threads have imported meanwhile."""

import logging
import sys
import threading

from prelude import config, event, send, sender

logging.basicConfig(level=logging.DEBUG)
found = []


def hook(name, arguments):
    if name == "import" and threading.current_thread().name.startswith("algolia-usertoken"):
        found.append(arguments[0])


sys.addaudithook(hook)
events = sender(int(sys.argv[1]), on_error=lambda error, events: None)
send(events, range(10))
events.send(event("\ud800"))
events.send(event("日本"))
assert events.flush(100)
refused = sender(int(sys.argv[2]), max_retry_time=0.1)
send(refused, range(10))
assert refused.flush(100)
zipped = sender(config=config(int(sys.argv[1]), compression_type="gzip"))
send(zipped, range(100, 200))
assert zipped.flush(100)
print(*sorted(set(found)))
