"""Forks with an outbox open; the child sends once before its parent ends, and once after."""

import os
import sys

import patient
from prelude import event, sender

from algolia_usertoken import MemoryDelivery
from algolia_usertoken.events.outbox import SQLiteOutbox

patient.with_files()
delivery = MemoryDelivery()
delivery.hang()
sender = sender(delivery=delivery, outbox=SQLiteOutbox(sys.argv[1]), close_timeout=0)
assert sender.send(event("parent"))
parent = os.getpid()
read, write = os.pipe()
if not os.fork():
    assert sender.send(event("child 1"))
    os.write(write, b"x")
    os.close(write)
    while os.getppid() == parent:
        pass
    assert sender.send(event("child 2"))
    os._exit(0)
os.read(read, 1)
sender.close(0)
