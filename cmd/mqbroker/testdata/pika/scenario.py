"""What the two programs have in common."""
import pika

MESSAGES = [('order.1', 'one'), ('order.2', 'two'), ('order.3', 'three'), ('nobody', 'four')]

PROPERTIES = pika.BasicProperties(
    content_type='text/plain', delivery_mode=2, message_id='m1', timestamp=1700000000,
    headers={'long': 1 << 40, 'yes': True, 'none': None, 'list': [1, 'two'], 'table': {'deep': 'er'}})


def seen(method, properties, body):
    """A message of basic.get, as it is compared."""
    set_ones = {k: v for k, v in vars(properties).items() if v is not None}
    return [body.decode(), method.redelivered, method.message_count, method.exchange, method.routing_key, set_ones]
