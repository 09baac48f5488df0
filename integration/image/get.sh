#!/usr/bin/env bash
# Sees to it that the image which the integration tests will pick is present: the
# official one, where it is or can be pulled, else one built from Debian's packages.
#
# usage: get.sh
#
#   RABBITMQ_IMAGE          use this image and no other
#   SERIES                  4.3 (default), 4.0 or 3.10
#   MQKIT_REQUIRE_BROKER=1  fail when no image can be had; else the tests skip
#   DOCKER                  the engine's command line; defaults to docker
#
# The order is that of package integration/broker.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
docker=${DOCKER:-docker}
official=rabbitmq:${SERIES:-4}-management
built=mqkit/rabbitmq:${SERIES:-4.3}

say() { printf 'image: %s\n' "$*" >&2; }

none() {
    say "$*"
    if [ "${MQKIT_REQUIRE_BROKER:-}" = 1 ] && [ -z "${AMQP_URL:-}" ]; then
        say "no image, and MQKIT_REQUIRE_BROKER=1 asks for one"
        exit 1
    fi
    say "no image; the integration tests that need one will skip"
    exit 0
}

present() { "$docker" image inspect "$1" >/dev/null 2>&1; }

# pull gives up after a while, where the system has a timeout command.
pull() {
    say "pulling $1"
    local limit=()
    if command -v timeout >/dev/null; then limit=(timeout 300); fi
    ${limit[@]+"${limit[@]}"} "$docker" pull --quiet "$1" >&2
}

command -v "$docker" >/dev/null || none "$docker is not installed"
"$docker" version >/dev/null 2>&1 || none "the container engine does not answer; try: $docker version"

if [ -n "${RABBITMQ_IMAGE:-}" ]; then
    if present "$RABBITMQ_IMAGE"; then
        say "$RABBITMQ_IMAGE is present"
    else
        pull "$RABBITMQ_IMAGE" || none "$RABBITMQ_IMAGE cannot be pulled"
    fi
    exit 0
fi

for image in "$official" "$built"; do
    if present "$image"; then
        say "$image is present"
        exit 0
    fi
done

if pull "$official"; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    none "$official cannot be pulled, and only root can build $built (try: sudo make image)"
fi
say "$official cannot be pulled; building $built from Debian's packages"
"$here/build.sh" "${SERIES:-4.3}" || none "$built cannot be built either"
