#!/bin/sh
# Prepares the node from the environment, then becomes it.
#
#   RABBITMQ_ERLANG_COOKIE            shared secret of a cluster's nodes
#   RABBITMQ_NODENAME                 defaults to rabbit@<short hostname>
#   RABBITMQ_DEFAULT_USER, _PASS, _VHOST  made on the first start; guest, guest, /
set -eu

data=/var/lib/rabbitmq
cookie=$data/.erlang.cookie

if [ "${1:-}" = rabbitmq-server ] && [ "$(id -u)" = 0 ]; then
    if [ -n "${RABBITMQ_ERLANG_COOKIE:-}" ]; then
        printf '%s' "$RABBITMQ_ERLANG_COOKIE" > "$cookie.new"
        chmod 0400 "$cookie.new"
        mv -f "$cookie.new" "$cookie"
    fi

    defaults=/etc/rabbitmq/conf.d/05-environment.conf
    rm -f "$defaults"
    for name in user pass vhost; do
        case $name in
        user) value=${RABBITMQ_DEFAULT_USER:-} ;;
        pass) value=${RABBITMQ_DEFAULT_PASS:-} ;;
        vhost) value=${RABBITMQ_DEFAULT_VHOST:-} ;;
        esac
        [ -z "$value" ] || printf 'default_%s = %s\n' "$name" "$value" >> "$defaults"
    done
    unset RABBITMQ_DEFAULT_USER RABBITMQ_DEFAULT_PASS RABBITMQ_DEFAULT_VHOST

    # A mounted directory comes with its own owner; what the engine mounts read
    # only cannot be changed and need not be.
    chown -R rabbitmq:rabbitmq "$data"
    [ ! -f "$defaults" ] || { chown rabbitmq:rabbitmq "$defaults"; chmod 0600 "$defaults"; }

    # Some engines set no limit at all, and Erlang sizes tables by this one.
    files=$(ulimit -n)
    if [ "$files" = unlimited ] || [ "$files" -gt 65536 ]; then
        ulimit -n 65536
    fi
    cd "$data"
fi

exec "$@"
