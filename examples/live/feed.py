#!/usr/bin/env python3
"""Prints predictions as Assay stores them, one per line: routing key and JSON.

    AMQP_URL=amqp://guest:guest@localhost:5672 ./feed.py               fraud, on both lanes
    ./feed.py 'realtime.#'                                             all live transactions
    ./feed.py '*.fraud' '*.legitimate' --count 10                      the first ten of either

The writer must run with PREDICTION_FEED=flagged or PREDICTION_FEED=all. Predictions announced while no listener runs are lost to
the feed; the database has them all.
"""

import argparse
import os
import sys

try:
    import pika
    import pika.exceptions
except ModuleNotFoundError:
    sys.exit("feed: pika is missing: apt-get install python3-pika, or pip install pika")


def listen(options):
    connection = pika.BlockingConnection(pika.URLParameters(options.amqp_url))
    channel = connection.channel()
    # A private queue, deleted with this connection. Its bound keeps a stuck listener from filling the broker.
    bound = {"x-max-length": 100_000, "x-overflow": "drop-head"}
    queue = channel.queue_declare("", exclusive=True, arguments=bound).method.queue
    for key in options.keys:
        channel.queue_bind(queue, options.exchange, key)
    print(f"feed: listening to {' '.join(options.keys)}", file=sys.stderr, flush=True)
    received = 0
    for method, _, body in channel.consume(queue, auto_ack=True):
        print(method.routing_key, body.decode(), flush=True)
        received += 1
        if received == options.count:
            break
    connection.close()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "keys", nargs="*", default=["*.fraud"], metavar="KEY", help="routing keys to receive: LANE.LABEL, with * and # (default: *.fraud)"
    )
    parser.add_argument("--count", type=int, default=0, metavar="N", help="end after N predictions (default: run until stopped)")
    parser.add_argument(
        "--exchange",
        default=os.environ.get("QUEUE_PREFIX", "") + "assay.predictions",
        help="exchange of the feed (default: $QUEUE_PREFIX and assay.predictions)",
    )
    options = parser.parse_args()
    options.amqp_url = os.environ.get("AMQP_URL")
    if not (options.amqp_url or "").startswith(("amqp://", "amqps://")):
        parser.error("AMQP_URL is not set to an address such as amqp://guest:guest@localhost:5672")
    return options


def fail(code, why):
    print(f"feed: {why}", file=sys.stderr)
    return code


def cause(error):
    """Returns the message of the innermost error; pika's errors wrap each other."""
    while True:
        inner = getattr(error, "exception", None) or next(iter(error.args), None)
        if not isinstance(inner, Exception):
            return str(error) or type(error).__name__
        error = inner


def main():
    options = arguments()
    try:
        listen(options)
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    except ValueError as error:
        return fail(2, f"AMQP_URL is not a broker address: {error}")
    except pika.exceptions.ChannelClosedByBroker as error:
        return fail(1, f"the broker refuses the exchange ({error.reply_text}): start a writer first, or check --exchange")
    except pika.exceptions.ProbableAuthenticationError:
        return fail(3, "the broker refuses the user or the password in AMQP_URL")
    except (pika.exceptions.AMQPError, OSError) as error:
        return fail(3, f"cannot reach the broker at AMQP_URL, or the connection was lost: {cause(error)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
