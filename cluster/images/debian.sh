#!/usr/bin/env bash
# Makes a root file system of Debian packages and all that they depend on: debian.sh FOLDER PACKAGE…
#
# The machine's own apt fetches them, from where it always does. No script of a package runs, so nothing is installed on
# the machine and root is not needed. What makes files at installation only, certificates and users, is made here.
set -euo pipefail
root=$1
shift

for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "missing: $tool. This image is made of Debian's packages: use Debian or one of its kin" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/debs/partial"
: >"$work/status"
# To a system that has nothing, so that nothing is left out.
fetch() {
    apt-get --quiet --yes --no-install-recommends --download-only -o Dir::State::status="$work/status" \
        -o Dir::Cache::archives="$work/debs" -o Debug::NoLocking=1 install "$@" >"$work/log" 2>&1
}
# The lists of packages may be absent or old: fetch them only if it takes that.
fetch "$@" || { apt-get update --quiet >>"$work/log" 2>&1 && fetch "$@"; } || { cat "$work/log" >&2; exit 1; }

# Where /bin is /usr/bin is for the base system to say, which is not among the packages.
mkdir -p "$root"/{dev,etc,proc,run,sys,tmp,var/tmp} "$root"/usr/{bin,sbin,lib,lib64}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
for package in "$work"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$root" --keep-directory-symlink --no-same-owner \
        --exclude './usr/share/doc/*' --exclude './usr/share/man/*' --exclude './usr/share/locale/*' \
        --exclude './usr/share/info/*' --exclude './usr/share/lintian/*' --exclude './usr/share/bash-completion/*'
done
chmod 1777 "$root/tmp" "$root/var/tmp"
printf '%s\n' 'root:x:0:0:root:/:/bin/sh' 'zenml:x:1000:1000::/:/bin/sh' 'nobody:x:65534:65534::/:/bin/sh' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'zenml:x:1000:' 'nogroup:x:65534:' >"$root/etc/group"
if [ -d "$root/usr/share/ca-certificates" ]; then
    mkdir -p "$root/etc/ssl/certs"
    find "$root/usr/share/ca-certificates" -name '*.crt' -print0 | sort -z | xargs -0 cat >"$root/etc/ssl/certs/ca-certificates.crt"
fi
