"""A task of Celery installs the integration."""

import logging

from celery import Celery

from algolia_usertoken.integrations.celery import install

logging.basicConfig()
app = Celery(broker="memory://")
app.conf.task_always_eager = True


@app.task
def late() -> None:
    install(app)


late.delay()
