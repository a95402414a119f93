"""The job as messages of Dramatiq: two processes of two threads each.

dramatiq dramatiq_tasks …              the workers
python dramatiq_tasks.py               the producer
"""

import dramatiq
import orjson
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import AgeLimit, Retries, ShutdownNotifications

import settings
from producer import produce
from rows import process_rows


class FastJson(dramatiq.Encoder):
    """JSON as Dramatiq encodes it, by a faster library."""

    def encode(self, data: dict) -> bytes:
        return orjson.dumps(data)

    def decode(self, data: bytes) -> dict:
        return orjson.loads(data)


dramatiq.set_encoder(FastJson())
# Without the time limit, for which a thread looks at all others, and without metrics.
middleware = [AgeLimit(), ShutdownNotifications(), Retries(max_retries=settings.API_ATTEMPTS)]
dramatiq.set_broker(RabbitmqBroker(url=settings.AMQP_URL, middleware=middleware))


@dramatiq.actor(queue_name=settings.QUEUE)
def score(job: str, task: int, rows: list[list[str]]) -> None:
    process_rows(job, task, rows)


if __name__ == "__main__":
    produce(score.send)
