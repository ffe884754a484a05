"""Celery's consumer on RabbitMQ, without what it declares there for delayed tasks: no task of ours is delayed."""

from __future__ import annotations

from celery.worker.consumer import Consumer


class QuorumConsumer(Consumer):  # type: ignore[misc]
    """Celery's, but that no exchanges and queues for delays are made (28 of each, for every cluster)."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """The consumer's steps."""

        default_steps = tuple(
            step for step in Consumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        )
