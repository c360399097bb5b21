#!/bin/sh
# Makes .venv from the pinned lock, and sees to it that there is a Java. Run by make; safe to run again.
#
# Needs Python 3.11. What is missing of Python's venv module and of Java comes from the distribution when root on
# Debian or Ubuntu; elsewhere this stops and says the one command to run.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*" >&2; }

# install PACKAGE... : from the distribution, or stop with the command.
install() {
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        say "installing $*"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    elif command -v apt-get >/dev/null 2>&1; then
        say "run this, then make again:  sudo apt-get install -y $*"
        exit 1
    else
        say "want $*, or what your system calls it, found none: install it, then make again"
        exit 1
    fi
}

find_python() {
    for python in "${PYTHON:-}" python3.11 python3; do
        [ -n "$python" ] && command -v "$python" >/dev/null 2>&1 || continue
        if [ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = 3.11 ]; then
            command -v "$python"
            return
        fi
    done
    say "want Python 3.11, found none on the PATH: set PYTHON=/path/to/python3.11"
    exit 1
}

java_is_new_enough() {
    for java in "${JAVA_HOME:+$JAVA_HOME/bin/java}" java; do
        [ -n "$java" ] && command -v "$java" >/dev/null 2>&1 || continue
        version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
        [ "${version:-0}" -ge 17 ] && return 0
    done
    return 1
}

java_package() {
    for release in 17 21; do
        if apt-cache show "openjdk-$release-jre-headless" >/dev/null 2>&1; then
            echo "openjdk-$release-jre-headless"
            return
        fi
    done
    echo openjdk-17-jre-headless
}

python=$(find_python)
"$python" -c 'import ensurepip, venv' 2>/dev/null || install python3.11-venv

if ! java_is_new_enough; then
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then apt-get update -qq; fi
    install "$(java_package)"
fi

[ -x .venv/bin/python ] || "$python" -m venv --without-pip .venv
# uv, by hash, in a corner of its own: it unpacks the gigabytes of torch once and links them from its cache ever after.
.venv/installer/bin/python -c 'import pip' 2>/dev/null || "$python" -m venv --clear .venv/installer
.venv/installer/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r setup/installer.lock
say "installing the pinned packages"
.venv/installer/bin/uv pip sync --quiet --python .venv/bin/python --require-hashes setup/requirements.lock
.venv/installer/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
# What was installed, so that make knows when the lock has moved on.
cp setup/requirements.lock .venv/installed.lock
say "done"
