"""Sends another event while the exit delivers, as a `__del__` or another thread may do."""

import sys
from typing import Any

from prelude import patient_config, send, sender

from algolia_usertoken import InsightsDelivery


class Delivery(InsightsDelivery):
    more = True

    def deliver(self, *args: Any) -> None:
        if Delivery.more:
            Delivery.more = False
            send(events, [1])
        super().deliver(*args)


events = sender(delivery=Delivery(patient_config()), flush_interval=60.0, background=sys.argv[1] == "True")
send(events, [0])
