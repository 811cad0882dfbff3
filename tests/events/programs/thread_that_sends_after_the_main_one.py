"""Sends in a thread that goes on when the main one has ended."""

import threading
import time

from prelude import send, sender

events = sender()


def work() -> None:
    time.sleep(0.3)
    send(events, range(500))


threading.Thread(target=work).start()
