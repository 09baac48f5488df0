#!/bin/sh
# Prepares the node from the environment, then becomes it.
#
#   RABBITMQ_ERLANG_COOKIE   shared secret of a cluster's nodes
#   RABBITMQ_NODENAME        defaults to rabbit@<short hostname>
#
# RABBITMQ_DEFAULT_USER, _PASS and _VHOST are read by RabbitMQ itself.
set -eu

data=/var/lib/rabbitmq
cookie=$data/.erlang.cookie

if [ "${1:-}" = rabbitmq-server ] && [ "$(id -u)" = 0 ]; then
    if [ -n "${RABBITMQ_ERLANG_COOKIE:-}" ]; then
        printf '%s' "$RABBITMQ_ERLANG_COOKIE" > "$cookie.new"
        chmod 0400 "$cookie.new"
        mv -f "$cookie.new" "$cookie"
    fi

    # A mounted directory comes with its own owner.
    chown -R rabbitmq:rabbitmq "$data"

    # Some engines set no limit at all, and Erlang sizes tables by this one.
    files=$(ulimit -n)
    if [ "$files" = unlimited ] || [ "$files" -gt 65536 ]; then
        ulimit -n 65536
    fi
    cd "$data"
fi

exec "$@"
