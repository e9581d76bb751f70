"""The Celery side of the queue: the app's configuration, and the sender.

Settings and their reasons are in `docs/adr/0008`; the worker half is `workers.celery_app`.
"""

from __future__ import annotations

from typing import Any

import kombu.exceptions
from celery import Celery
from kombu.entity import Queue

from app.errors import Unavailable
from app.queue.port import RUN_JOB
from app.settings import Settings

QUEUE = "train"


def make_celery(settings: Settings) -> Celery:
    """Return a Celery app that neither keeps results nor trusts the broker with anything but hints."""
    url = settings.resolved_broker_url
    is_redis = url.startswith(("redis", "rediss", "valkey"))
    app = Celery("attune", broker=url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        enable_utc=True,
        task_default_queue=QUEUE,
        task_create_missing_queues=False,
        task_queues=[_redis_queue() if is_redis else _rabbitmq_queue()],
        # The sweep retries, not the broker: requeueing on a lost child loops for ever on an OOM.
        task_reject_on_worker_lost=False,
        # Acknowledged at the start on Redis, so that no visibility timeout can double a run; late on
        # RabbitMQ, where an unacknowledged message is what keeps the prefetch slot taken.
        task_acks_late=not is_redis,
        worker_disable_prefetch=is_redis,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        # fork is unsafe with threads, psycopg and CUDA.
        worker_pool_start_method="spawn",
        worker_proc_alive_timeout=60.0,
        worker_max_tasks_per_child=50,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=settings.drain_timeout_s,
        worker_enable_soft_shutdown_on_idle=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # The outbox is the real retry: a send fails fast and the relay backs off.
        task_publish_retry=False,
        broker_connection_timeout=5,
        broker_transport_options=_redis_options() if is_redis else {"confirm_publish": True},
    )
    return app


def _redis_queue() -> Queue:
    return Queue(QUEUE)


def _rabbitmq_queue() -> Queue:
    return Queue(QUEUE, queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": 50})


def _redis_options() -> dict[str, Any]:
    return {
        "visibility_timeout": 300,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "retry_on_timeout": False,
        "global_keyprefix": "attune:",
    }


class CeleryQueue:
    """Sends hints by message name, so that the API never imports the workers."""

    def __init__(self, settings: Settings) -> None:
        self._celery = make_celery(settings)

    def send(self, job_id: str) -> None:
        """Publish one hint; raises `Unavailable` when the broker does not take it."""
        try:
            self._celery.send_task(RUN_JOB, args=[job_id], queue=QUEUE, retry=False)
        except (kombu.exceptions.OperationalError, OSError) as error:
            message = "the broker is not available"
            raise Unavailable(message, code="broker_unavailable") from error

    def check(self) -> None:
        """Raise `Unavailable` unless the broker answers within a few seconds."""
        try:
            with self._celery.connection_for_write(connect_timeout=3) as connection:
                connection.ensure_connection(max_retries=1, timeout=3)
        except (kombu.exceptions.OperationalError, OSError) as error:
            message = "the broker is not available"
            raise Unavailable(message, code="broker_unavailable") from error
