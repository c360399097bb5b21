"""Whatever Spark wraps around an error, its reader gets one line."""

from __future__ import annotations

import errno
import time

import pytest

from recap_spark.errors import PlatformError, WeightsError
from recap_spark.machine.failures import cause_in, in_one_line, said_in_one_line

JAVA = """Job aborted due to stage failure: Task 0 in stage 9.0 failed 4 times, most recent failure: Lost task
0.3 in stage 9.0 (TID 31) (10.0.0.7 executor 2): {cause}
\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:581)
\tat java.base/java.lang.Thread.run(Thread.java:840)

Driver stacktrace:
\tat org.apache.spark.scheduler.DAGScheduler.failJobAndIndependentStages(DAGScheduler.scala:2844)"""


@pytest.mark.spark
def test_an_error_that_a_worker_raised_on_purpose_comes_as_itself(spark):
    def work(batches):
        try:
            raise OSError("no such weights")
        except OSError as error:
            raise WeightsError("w.safetensors: want 3 bytes, found 2") from error
        yield from batches

    with pytest.raises(WeightsError) as raised, said_in_one_line():
        spark.range(1).mapInArrow(work, "id bigint").collect()
    assert str(raised.value) == "w.safetensors: want 3 bytes, found 2"


@pytest.mark.spark
def test_an_error_that_spark_alone_makes_is_left_as_it_is(spark):
    with pytest.raises(Exception, match="DIVIDE_BY_ZERO"), said_in_one_line():
        spark.sql("SELECT 1 / 0").collect()


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("java.io.IOException: No space left on device", "a disk is full"),
        ("java.io.FileNotFoundException: /data/x (Permission denied)", "no permission"),
        (
            "com.amazonaws.AmazonS3Exception: Forbidden (Service: S3; Status Code: 403; ID: 1)",
            "no permission",
        ),
        ("java.net.UnknownHostException: bucket.s3.example.com", "a store or server is away"),
        ("java.net.ConnectException: Call From a to namenode:8020 failed", "a store or server is away"),
        (
            'org.apache.hadoop.fs.UnsupportedFileSystemException: No FileSystem for scheme "s3"',
            "no connector",
        ),
    ],
)
def test_a_fault_of_the_machine_is_one_line_with_the_thing_it_is_about(cause, said):
    line = str(cause_in(JAVA.format(cause=cause)))
    assert line.startswith(f"{said}: ")
    assert cause in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "a disk is full"), (errno.EACCES, "no permission"), (errno.ENOENT, None)],
)
def test_a_fault_of_the_drivers_disk_names_the_file(number, said):
    found = in_one_line(OSError(number, "as the system says", "/data/file"))
    assert (str(found) if found else None) == (said and f"{said} at /data/file: as the system says")


def test_a_line_of_megabytes_takes_no_time_and_is_shown_where_the_cause_is():
    long = "plan " * 200_000
    begun = time.monotonic()
    assert cause_in(long) is None
    said = str(cause_in(f"{long}No space left on device {long}"))
    assert time.monotonic() - begun < 5
    assert "No space left on device" in said
    assert len(said) < 600


def test_a_name_that_is_no_error_of_ours_is_none_of_ours():
    assert cause_in("recap_spark.errors.__doc__: a text") is None


def test_words_of_strangers_that_an_error_repeats_are_no_fault_of_the_machine():
    cause = "ValueError: no colour in 'Permission denied is what the sign says'"
    assert cause_in(JAVA.format(cause=cause)) is None


def test_an_error_raised_on_purpose_here_is_left_as_it_is():
    with pytest.raises(PlatformError, match="as it is"), said_in_one_line():
        raise PlatformError("as it is")
