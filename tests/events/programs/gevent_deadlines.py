"""Delivers under gevent: to the collector, to a server that trickles, and with a look-up that hangs."""

from gevent import monkey

monkey.patch_all()
import socket
import sys

import gevent
from prelude import config

from algolia_usertoken import InsightsDelivery, RetryableDeliveryError
from algolia_usertoken.events.delivery import batch_of

batch = batch_of([b'{"objectIDs":["1"]}'])


def times_out(delivery, seconds=0.5):
    try:
        delivery.deliver(batch, seconds)
    except RetryableDeliveryError as error:
        assert str(error) == "timed out", error
    else:
        raise AssertionError("no time-out")


InsightsDelivery(config()).deliver(batch, 10)
times_out(InsightsDelivery(config(int(sys.argv[1]))))
real = socket.getaddrinfo
socket.getaddrinfo = lambda *arguments: gevent.sleep(30) or real(*arguments)
turns = []
other = gevent.spawn(lambda: [turns.append(gevent.sleep(0.01)) for _ in range(10)])
times_out(InsightsDelivery(config()), 3.0)  # on a busy machine the other takes a while for its turns
assert len(turns) == 10
