"""The job as tasks of Celery: prefork workers, msgpack, late acknowledgements, as many tasks in advance as there is work to overlap.

celery --app celery_tasks worker …     a worker
python celery_tasks.py                 the producer
"""

import sys

from celery import Celery
from celery.signals import worker_ready

import settings
from producer import produce
from rows import TEMPORARY, process_rows

app = Celery("peers", broker=settings.AMQP_URL)
app.conf.update(
    task_serializer="msgpack",
    accept_content=["msgpack"],
    task_default_queue=settings.QUEUE,
    task_ignore_result=True,
    # A task of a worker that was killed is delivered again.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@worker_ready.connect
def announce(**_: object) -> None:
    print("READY", file=sys.stderr, flush=True)


@app.task(name="score", autoretry_for=TEMPORARY, retry_backoff=True, max_retries=settings.API_ATTEMPTS)
def score(job: str, task: int, rows: list[list[str]]) -> None:
    process_rows(job, task, rows)


def main() -> None:
    with app.producer_pool.acquire() as producer:
        # Otherwise the headers would hold all rows once more, for people to read.
        produce(lambda *task: score.apply_async(task, producer=producer, argsrepr="", kwargsrepr=""))


if __name__ == "__main__":
    main()
