"""What holds for the tasks of one executor together, with Spark's own Python workers."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recap_spark.stages.fetch.fetch import fetch_images

pytestmark = pytest.mark.spark


@contextmanager
def slow_server():
    """A server that counts how many requests it has at once, and keeps the paths."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with lock:
                self.server.paths.append(self.path)
                self.server.at_once += 1
                self.server.most = max(self.server.most, self.server.at_once)
            time.sleep(0.05)
            with lock:
                self.server.at_once -= 1
            self.send_response_only(404)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.paths, server.at_once, server.most = [], 0, 0
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_tasks_that_run_at_once_share_a_hosts_places_and_its_robots_txt(spark, settings):
    fetch = settings.fetch
    limits = replace(fetch.limits, connections_per_host=3, deadline_s=20.0)
    with slow_server() as server:
        url = f"http://127.0.0.1:{server.server_port}/a.jpg"
        rows = [(f"{number:032x}", url, None) for number in range(60)]
        samples = spark.createDataFrame(rows, "uid string, url string, sha256 string").repartition(2, "uid")
        found = fetch_images(samples, limits=limits, decode=fetch.decode, rules=fetch.picture)
        ends = found.select("status").collect()
    assert [row.status for row in ends] == ["gone"] * 60
    assert server.most == 3
    assert server.paths.count("/robots.txt") == 1
