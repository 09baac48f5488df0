"""What a pika program does with a BlockingConnection; prints what it saw."""
import json
import os

import pika

from scenario import MESSAGES, PROPERTIES, seen

out = {}
connection = pika.BlockingConnection(pika.URLParameters(os.environ['AMQP_URL']))
channel = connection.channel()

channel.exchange_declare('events', 'topic', durable=True)
ok = channel.queue_declare('orders', durable=True, arguments={'x-queue-type': 'quorum'}).method
out['declared'] = [ok.queue, ok.message_count, ok.consumer_count]
channel.queue_bind('orders', 'events', 'order.#')

channel.confirm_delivery()
out['confirmed'] = []
for n, (key, body) in enumerate(MESSAGES, 1):
    try:
        channel.basic_publish('events', key, body, mandatory=True, properties=PROPERTIES)
    except pika.exceptions.UnroutableError as e:
        m = e.messages[0]
        out['returned'] = [m.method.reply_code, m.method.reply_text, m.method.exchange, m.method.routing_key, m.body.decode()]
    out['confirmed'].append(n)

method, properties, body = channel.basic_get('orders')
out['fetched'] = seen(method, properties, body)
channel.basic_nack(method.delivery_tag, requeue=True)

delivered = out['delivered'] = {}
acked = []


def take(ch, method, properties, body):
    flags = delivered.setdefault(body.decode(), [])
    flags.append(method.redelivered)
    if body == b'two' and len(flags) == 1:
        ch.basic_nack(method.delivery_tag, requeue=True)
        return
    ch.basic_ack(method.delivery_tag)
    acked.append(body)


channel.basic_qos(prefetch_count=1)
tag = channel.basic_consume('orders', take)
while len(acked) < 3:
    connection.process_data_events(time_limit=1)
channel.basic_cancel(tag)
out['cancelled'] = not channel.consumer_tags
ok = channel.queue_declare('orders', passive=True).method
out['after'] = [ok.message_count, ok.consumer_count]
out['empty'] = channel.basic_get('orders')[0] is None

lost = []
channel.add_on_cancel_callback(lost.append)
channel.basic_consume('orders', take)
other = connection.channel()
other.queue_delete('orders')
while not lost:
    connection.process_data_events(time_limit=1)
out['lost'] = True

try:
    other.queue_declare('orders', passive=True)
except pika.exceptions.ChannelClosedByBroker as e:
    out['missing'] = [e.reply_code, e.reply_text]
connection.close()
print(json.dumps(out))
