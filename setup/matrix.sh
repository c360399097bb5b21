#!/bin/sh
# The path from metadata to shards on each supported pair of Spark and Delta, in an environment and with an Ivy
# folder of its own: MATRIX="4.0.1,4.0.1,3.11 …" names others as Spark,Delta,Python. Run by `make test-matrix`.
set -eu
cd "$(dirname "$0")/.."

MATRIX=${MATRIX:-"4.0.1,4.0.1,3.11 4.1.1,4.4.0,3.11 4.2.0,4.4.0,3.12"}
TESTS=${TESTS:-"tests/lake tests/test_path.py"}
uv=$PWD/.venv/installer/bin/uv

say() { printf '%s\n' "matrix: $*" >&2; }

# prepare FOLDER SPARK DELTA PYTHON : the lock's packages, but for Spark's own, and this project's wheel.
prepare() {
    mkdir -p "$1/conf"
    [ -x "$1/venv/bin/python" ] || "$uv" venv --quiet --python "$4" "$1/venv"
    sed -n 's/^\([A-Za-z0-9_.-]*==[^ ;\\]*\).*/\1/p' setup/requirements.lock |
        grep -v -E '^(pyspark|delta-spark|py4j)==' >"$1/packages.txt"
    "$uv" pip install --quiet --python "$1/venv/bin/python" -r "$1/packages.txt" "pyspark==$2" "delta-spark==$3"
    "$uv" pip install --quiet --python "$1/venv/bin/python" --no-deps --no-build-isolation --reinstall .
    # What an earlier pair has fetched must not help this one.
    printf 'spark.jars.ivy %s\n' "$1/ivy" >"$1/conf/spark-defaults.conf"
}

failed=""
for row in $MATRIX; do
    spark=${row%%,*} rest=${row#*,}
    delta=${rest%%,*} python=${rest#*,}
    folder=$PWD/build/matrix/spark-$spark-python-$python
    say "Spark $spark, Delta $delta, Python $python"
    prepare "$folder" "$spark" "$delta" "$python"
    # shellcheck disable=SC2086  # several paths in one variable
    if (
        export SPARK_CONF_DIR="$folder/conf" PATH="$folder/venv/bin:$PATH"
        # Alone at first: two processes that fill one Ivy folder at once take each other's files away.
        recap-spark doctor --conf base --conf laptop --set "lake.root=$folder/lake" &&
        "$folder/venv/bin/python" -m pytest --numprocesses 2 --dist loadfile $TESTS
    ); then
        say "Spark $spark, Delta $delta, Python $python: passed"
    else
        say "Spark $spark, Delta $delta, Python $python: FAILED"
        failed="$failed $row"
    fi
done
[ -z "$failed" ] || { say "failed:$failed"; exit 1; }
