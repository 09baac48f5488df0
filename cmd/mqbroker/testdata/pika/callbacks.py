"""What a pika program does with a connection whose methods take callbacks: select
or asyncio. Prints what it saw.

The program is the generator below. It yields either a function, which is called
with the callback that lets the program go on, or a condition to wait for.
"""
import json
import os
import sys

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.select_connection import SelectConnection

from scenario import MESSAGES, PROPERTIES, seen

out = {}
failed = []


class Until:
    def __init__(self, condition):
        self.condition = condition


def program(connection):
    """The same as blocking.py."""
    channel = yield opened(connection)
    confirmed, returned, fetched, lost, closed = [], [], [], [], []
    channel.add_on_return_callback(lambda ch, method, properties, body: (
        returned.append([method.reply_code, method.reply_text, method.exchange, method.routing_key, body.decode()]), check()))
    channel.add_on_cancel_callback(lambda frame: (lost.append(frame.method.consumer_tag), check()))

    yield lambda done: channel.exchange_declare('events', 'topic', durable=True, callback=done)
    ok = (yield lambda done: channel.queue_declare(
        'orders', durable=True, arguments={'x-queue-type': 'quorum'}, callback=done)).method
    out['declared'] = [ok.queue, ok.message_count, ok.consumer_count]
    yield lambda done: channel.queue_bind('orders', 'events', 'order.#', callback=done)

    def on_confirm(frame):
        if not isinstance(frame.method, pika.spec.Basic.Ack):
            failed.append(frame)
        first = confirmed[-1] + 1 if frame.method.multiple and confirmed else 1 if frame.method.multiple else frame.method.delivery_tag
        confirmed.extend(n for n in range(first, frame.method.delivery_tag + 1) if n not in confirmed)
        check()

    yield lambda done: channel.confirm_delivery(on_confirm, callback=done)
    for key, body in MESSAGES:
        channel.basic_publish('events', key, body, mandatory=True, properties=PROPERTIES)
    yield Until(lambda: len(confirmed) == len(MESSAGES))
    out['confirmed'], out['returned'] = sorted(confirmed), returned[0]

    channel.basic_get('orders', lambda ch, method, properties, body: (fetched.append((method, properties, body)), check()))
    yield Until(lambda: fetched)
    out['fetched'] = seen(*fetched[0])
    channel.basic_nack(fetched[0][0].delivery_tag, requeue=True)

    delivered, acked = {}, []

    def take(ch, method, properties, body):
        flags = delivered.setdefault(body.decode(), [])
        flags.append(method.redelivered)
        if body == b'two' and len(flags) == 1:
            ch.basic_nack(method.delivery_tag, requeue=True)
            return
        ch.basic_ack(method.delivery_tag)
        acked.append(body)
        check()

    yield lambda done: channel.basic_qos(prefetch_count=1, callback=done)
    tags = []
    yield lambda done: tags.append(channel.basic_consume('orders', take, callback=done))
    yield Until(lambda: len(acked) == 3)
    out['delivered'] = delivered
    yield lambda done: channel.basic_cancel(tags[0], callback=done)
    ok = (yield lambda done: channel.queue_declare('orders', passive=True, callback=done)).method
    out['cancelled'] = not channel.consumer_tags  # pika forgets it behind the callback
    out['after'] = [ok.message_count, ok.consumer_count]

    empty = []
    channel.add_callback(lambda frame: (empty.append(frame), check()), [pika.spec.Basic.GetEmpty])
    channel.basic_get('orders', lambda *_: failed.append('a message'))
    yield Until(lambda: empty)
    out['empty'] = True

    yield lambda done: channel.basic_consume('orders', take, callback=done)
    other = yield opened(connection)
    yield lambda done: other.queue_delete('orders', callback=done)
    yield Until(lambda: lost)
    out['lost'] = True

    other.add_on_close_callback(lambda ch, reason: (closed.append(reason), check()))
    other.queue_declare('orders', passive=True, callback=lambda frame: failed.append(frame))
    yield Until(lambda: closed)
    out['missing'] = [closed[0].reply_code, closed[0].reply_text]


def opened(connection):
    return lambda done: connection.channel(on_open_callback=done)


waiting = None


def go_on(value=None):
    """Runs the program up to its next wait."""
    global waiting
    try:
        wanted = running.send(value)
    except StopIteration:
        connection.close()
        return
    if isinstance(wanted, Until):
        waiting = wanted
        check()
    else:
        wanted(go_on)


def check():
    """Something has happened."""
    global waiting
    if waiting and waiting.condition():
        waiting = None
        go_on()


def on_open(conn):
    global running
    running = program(conn)
    go_on()


def on_closed(conn, reason):
    if not isinstance(reason, pika.exceptions.ConnectionClosedByClient):
        failed.append(reason)
    conn.ioloop.stop()


adapter = {'select': SelectConnection, 'asyncio': AsyncioConnection}[sys.argv[1]]
connection = adapter(
    pika.URLParameters(os.environ['AMQP_URL']), on_open_callback=on_open,
    on_open_error_callback=on_closed, on_close_callback=on_closed)
if sys.argv[1] == 'asyncio':
    connection.ioloop.run_forever()
else:
    connection.ioloop.start()
if failed:
    sys.exit(repr(failed))
print(json.dumps(out))
