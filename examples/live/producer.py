#!/usr/bin/env python3
"""Publishes transactions to Assay as plain JSON, and waits for the broker's confirm of each message.

Without a FILE it sends two messages: one transaction, and an array of three. Each FILE is one message, sent unchanged; `-`
is standard input.

    AMQP_URL=amqp://guest:guest@localhost:5672 ./producer.py --producer shop
    ./producer.py --producer shop transactions.json

Exit codes: 0 all messages confirmed, 1 a message refused by the broker, 2 wrong usage, 3 broker unreachable. After any code but 0,
send the same messages again, with the same message ids.
"""

import argparse
import datetime
import hashlib
import json
import os
import sys
import time
import uuid

try:
    import pika
    import pika.exceptions
except ModuleNotFoundError:
    sys.exit("producer: pika is missing: apt-get install python3-pika, or pip install pika")


def transaction(description, amount):
    """Returns a transaction. Its id is unique within its producer: a repeated one is stored once."""
    return {
        "id": f"order-{uuid.uuid4()}",
        "description": description,
        # A string keeps every digit; a float might not. A JSON number works too.
        "amount": amount,
        "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "merchant": "Corner shop",
        "operation_type": "card_payment",
        "side": "debit",
        # Further members go to the model as well.
        "country": "FR",
    }


def demonstration():
    """Returns the bodies of two messages: one transaction, and several."""
    one = transaction("Coffee", "-3.20")
    several = [transaction(f"Groceries {number}", f"-{number * 17}.95") for number in (1, 2, 3)]
    return [json.dumps(content, ensure_ascii=False).encode() for content in (one, several)]


def read(path):
    if path == "-":
        return sys.stdin.buffer.read()
    with open(path, "rb") as file:
        return file.read()


def publish(channel, options, body):
    """Returns once the broker has the message in a queue, on disk; raises otherwise."""
    # The message's identity: repeating it changes nothing. A hash of the body survives a crash of the producer.
    message_id = options.message_id or hashlib.sha256(body).hexdigest()
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,  # persistent
        message_id=message_id,
        app_id=options.producer,
        timestamp=int(time.time()),
    )
    channel.basic_publish(options.exchange, "realtime", body, properties, mandatory=True)
    print(f"confirmed {message_id}")


def send(options, bodies):
    connection = pika.BlockingConnection(pika.URLParameters(options.amqp_url))
    channel = connection.channel()
    # Without confirms, a message that a full queue refuses would be lost silently.
    channel.confirm_delivery()
    for body in bodies:
        publish(channel, options, body)
    connection.close()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="a message: an object, an array, or one object a line")
    parser.add_argument("--producer", default="example", help="name of the producer; its transactions of a day are one run (default: %(default)s)")
    parser.add_argument("--message-id", metavar="ID", help="identity of the message (default: a hash of its body)")
    parser.add_argument(
        "--exchange",
        default=os.environ.get("QUEUE_PREFIX", "") + "assay.transactions",
        help="exchange to publish to (default: $QUEUE_PREFIX and assay.transactions)",
    )
    options = parser.parse_args()
    options.amqp_url = os.environ.get("AMQP_URL")
    if not (options.amqp_url or "").startswith(("amqp://", "amqps://")):
        parser.error("AMQP_URL is not set to an address such as amqp://guest:guest@localhost:5672")
    if options.message_id and len(options.files) != 1:
        parser.error("--message-id identifies one message: give exactly one FILE")
    return options


def fail(code, why):
    print(f"producer: {why}", file=sys.stderr)
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
        bodies = [read(path) for path in options.files] or demonstration()
    except OSError as error:
        return fail(2, f"cannot read {error.filename}: {error.strerror}")
    try:
        send(options, bodies)
    except ValueError as error:
        return fail(2, f"AMQP_URL is not a broker address: {error}")
    except pika.exceptions.UnroutableError:
        return fail(1, f"no queue is bound to {options.exchange}: start a predictor first")
    except pika.exceptions.NackError:
        return fail(1, "the queue is full: send the same messages again later")
    except pika.exceptions.ChannelClosedByBroker as error:
        return fail(1, f"the broker refuses the exchange ({error.reply_text}): start a predictor first, or check --exchange")
    except pika.exceptions.ProbableAuthenticationError:
        return fail(3, "the broker refuses the user or the password in AMQP_URL")
    except (pika.exceptions.AMQPError, OSError) as error:
        return fail(3, f"cannot reach the broker at AMQP_URL, or the connection was lost: {cause(error)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
