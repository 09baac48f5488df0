#!/usr/bin/env bash
# Builds the image mqkit/rabbitmq:<series> from Debian's packages, for machines
# that cannot pull the official rabbitmq:4-management. Of the plugins it has the
# management's and rabbitmq_auth_mechanism_ssl.
#
# usage: build.sh [series]      series is 4.3 (default), 4.0 or 3.10
#
#   FORCE=1         build even if the image is present
#   DEBIAN_MIRROR   mirror to fetch from; defaults to debootstrap's own
#   DEBIAN_KEYRING  keyring to check the suite with; defaults to Debian's own
#   DOCKER          the engine's command line; defaults to docker
#
# Needs root (debootstrap does), a container engine and about 1 GB of room in
# TMPDIR for the minute that it takes.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
docker=${DOCKER:-docker}
series=${1:-4.3}

say() { printf 'build.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The suites that carry each series. Sid moves on: the version is checked below.
case $series in
4.3) suite=sid ;;
4.0) suite=trixie ;;
3.10) suite=bookworm ;;
*) die "no such series: $series (use 4.3, 4.0 or 3.10)" ;;
esac
tag=mqkit/rabbitmq:$series

command -v "$docker" >/dev/null || die "$docker is not installed"
"$docker" version >/dev/null 2>&1 || die "the container engine does not answer; try: $docker version"

if [ "${FORCE:-}" != 1 ] && "$docker" image inspect "$tag" >/dev/null 2>&1; then
    say "$tag is present; FORCE=1 builds it again"
    exit 0
fi

[ "$(id -u)" = 0 ] || die "must run as root, because debootstrap does"
# Each suite is signed with the keys of the releases before it as well: the keyring
# of Debian 12 checks all three.
keyring=${DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
if ! command -v debootstrap >/dev/null || [ ! -e "$keyring" ]; then
    command -v apt-get >/dev/null || die "debootstrap or $keyring is missing, and there is no apt-get to install it with"
    say "installing debootstrap and Debian's keyring"
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends debootstrap debian-archive-keyring; } >&2 ||
        die "debootstrap could not be installed; try: apt-get install debootstrap debian-archive-keyring"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/mqkit-image.XXXXXXXX")
root=$work/root
log=$work/debootstrap.log

# cleanup unmounts what an interrupted debootstrap left in the tree (proc, sys,
# dev), deepest first, and removes the tree only once nothing is mounted in it.
cleanup() {
    local status=$? point
    trap - EXIT
    while read -r point; do
        umount "$point" 2>/dev/null || umount -l "$point" || true
    done < <(awk -v dir="$work/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
    if grep -qF " $work/" /proc/self/mountinfo; then
        say "something is still mounted under $work; it was left alone"
    else
        rm -rf --one-file-system -- "$work"
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# An older debootstrap may not know a newer suite; they are all built as sid is.
args=(--variant=minbase --include=rabbitmq-server,ca-certificates "--keyring=$keyring" "$suite" "$root")
scripts=${DEBOOTSTRAP_DIR:-/usr/share/debootstrap}/scripts
if [ ! -e "$scripts/$suite" ]; then
    args+=("${DEBIAN_MIRROR:-http://deb.debian.org/debian}" "$scripts/sid")
elif [ -n "${DEBIAN_MIRROR:-}" ]; then
    args+=("$DEBIAN_MIRROR")
fi

say "fetching RabbitMQ $series from Debian $suite"
# --force-check-gpg: without the suite's keyring, fail instead of trusting it.
if ! debootstrap --force-check-gpg "${args[@]}" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "debootstrap $suite failed; its last lines are above (the mirror can be set with DEBIAN_MIRROR, the keyring with DEBIAN_KEYRING)"
fi

version=$(chroot "$root" dpkg-query -W -f '${Version}' rabbitmq-server)
case $version in
"$series".*) ;;
*) die "Debian $suite has RabbitMQ $version, not $series" ;;
esac

# Strip what a running node does not need, what must differ from one container
# to the next (the cookie), and what names the machine this was built on.
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/cache/debconf/*-old \
    "$root"/usr/share/{man,info,locale,lintian,bug,groff,zoneinfo,linda} \
    "$root"/var/log/{apt,bootstrap.log,dpkg.log,alternatives.log,rabbitmq/*} \
    "$root"/var/lib/rabbitmq/.erlang.cookie "$root"/var/lib/rabbitmq/mnesia/* \
    "$root"/etc/machine-id "$root"/etc/hostname "$root"/etc/resolv.conf \
    "$root"/tmp/* "$root"/run/*
find "$root/usr/share/doc" -type f ! -name copyright -delete
find "$root/usr/share/doc" -type l -delete
find "$root/usr/share/doc" -type d -empty -delete
: >"$root/etc/machine-id"

# A node looks for each of its modules in the directory of every plugin there is,
# enabled or not: 16,000 files that are not there, which is half the time of a start
# where the engine's storage is slow.
for plugin in "$root"/usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins/rabbitmq_*; do
    case ${plugin##*/} in
    rabbitmq_prelaunch-*|rabbitmq_management-*|rabbitmq_management_agent-*|rabbitmq_web_dispatch-*) ;;
    rabbitmq_auth_mechanism_ssl-*) ;; # for logins by certificate
    *) rm -rf "$plugin" ;;
    esac
done

context=$work/context
mkdir "$context"
tar --numeric-owner --one-file-system -C "$root" -c . | gzip -1 >"$context/rootfs.tar.gz"
cp "$here"/{Dockerfile,rabbitmq.conf,enabled_plugins,entrypoint.sh,run-as-rabbitmq} "$context/"
"$docker" build --quiet --build-arg "SERIES=$version" --tag "$tag" "$context" >/dev/null ||
    die "building $tag failed"
say "built $tag with RabbitMQ $version"
