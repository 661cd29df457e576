#!/usr/bin/env bash
# Makes the image of the ZenML server, as an archive: zenml.sh ENVIRONMENT NAME ARCHIVE [RELEASE]
#
# ENVIRONMENT is the Python environment with the release from PyPI (`make zenml-server`); below it goes Debian's Python.
# RELEASE is a folder with the package of another release, which takes the place of that one (`make zenml-before`).
# As in ZenML's own image the user has a name and not a number, and uvicorn and zenml are on PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=$1 name=$2 archive=$3 release=${4:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

cluster/images/debian.sh "$root" python3 ca-certificates tzdata
python=$(basename "$(readlink "$root/usr/bin/python3")")
[ -d "$environment/lib/$python" ] || {
    echo "$environment is of $("$environment/bin/python" -V), and Debian's is $python: make it anew with that" >&2; exit 1; }

# With setuptools, which has what Debian leaves out of Python: ZenML asks for distutils.
mkdir -p "$root/opt/zenml/bin"
tar --create --directory "$environment" --exclude '__pycache__' --exclude './lib/*/site-packages/pip' \
    --exclude '*/tests' ./lib | tar --extract --directory "$root/opt/zenml"
if [ "$release" ]; then
    packages=$root/opt/zenml/lib/$python/site-packages
    rm -rf "$packages"/zenml "$packages"/zenml-*.dist-info
    cp --recursive "$release"/zenml "$release"/zenml-*.dist-info "$packages"
fi
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$root/opt/zenml/pyvenv.cfg"
for program in python python3; do ln -s /usr/bin/python3 "$root/opt/zenml/bin/$program"; done
for program in uvicorn zenml; do
    sed '1s|.*|#!/opt/zenml/bin/python|' "$environment/bin/$program" >"$root/opt/zenml/bin/$program"
    chmod 755 "$root/opt/zenml/bin/$program"
done
# Nobody may write there who runs it, and a start that compiles all of it takes its time. Not by date: files
# of an image have none. Of a few in Python's own tests the compiler says that they are wrong, as they should be.
"$environment/bin/python" -m compileall -q -j 0 -s "$root" -p / --invalidation-mode unchecked-hash \
    "$root/usr/lib/$python" "$root/opt/zenml/lib" || true
mkdir -p "$root/zenml"

target/debug/zenop-cluster image --root "$root" --name "$name" --output "$archive" --user zenml \
    --env PATH=/opt/zenml/bin:/usr/bin:/bin --env LANG=C.UTF-8
