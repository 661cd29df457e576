#!/usr/bin/env bash
# Makes an image of Debian's MariaDB server, as an archive: mariadb.sh NAME ARCHIVE
#
# `start-mariadb` in it makes the database on the volume at /var/lib/mysql, if there is none, and serves, as any user.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=$1 archive=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

cluster/images/debian.sh "$root" mariadb-server-core mariadb-client-core dash coreutils sed grep
cp cluster/images/start-mariadb "$root/usr/bin/"
chmod 755 "$root/usr/bin/start-mariadb"
mkdir -p "$root/var/lib/mysql"

target/debug/zenop-cluster image --root "$root" --name "$name" --output "$archive" --env PATH=/usr/sbin:/usr/bin:/bin
