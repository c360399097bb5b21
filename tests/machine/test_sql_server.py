"""Before Spark is started to serve SQL, what would stop it is said in one line."""

from __future__ import annotations

import os
import socket

import pytest
from laptop import laptop

from recap_spark.errors import PlatformError, SettingsError
from recap_spark.machine.sql_server.class_path import on_class_path
from recap_spark.machine.sql_server.server import Address, server_conf


def test_a_taken_port_is_said_with_its_address():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        wanted = (
            f"want a free port at an address of this machine, found 127.0.0.1:{port}: Address already in use"
        )
        with pytest.raises(PlatformError, match=wanted):
            server_conf(laptop(), Address("127.0.0.1", port))


def test_an_address_of_another_machine_is_said():
    with pytest.raises(PlatformError, match="want a free port at an address of this machine, found 192"):
        server_conf(laptop(), Address("192.0.2.1", 10000))


def test_a_lake_without_a_schema_cannot_be_served():
    with pytest.raises(SettingsError, match="want a schema for SQL clients to USE, found null"):
        server_conf(laptop(lake__namespace=None), Address("127.0.0.1", 10000))


def test_jars_go_on_the_class_path_before_those_that_are_there_and_absent_ones_are_named(tmp_path):
    jar = tmp_path / "delta storage.jar"
    jar.touch()
    conf = {"spark.driver.extraClassPath": "/there/already.jar"}
    named = laptop(session__jars=f"{jar}, {jar.as_uri()}", session__conf=conf).session
    on_it = on_class_path(named)["spark.driver.extraClassPath"]
    assert on_it.split(os.pathsep) == [str(jar), str(jar), "/there/already.jar"]
    absent = laptop(session__jars=f"{jar},/nowhere/delta.jar").session
    with pytest.raises(
        PlatformError, match=r"want files of this machine, found none at /nowhere/delta\.jar$"
    ):
        on_class_path(absent)


@pytest.mark.parametrize(("host", "is_open"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)])
def test_an_address_that_other_machines_reach_is_known(host, is_open):
    assert Address(host, 10000).is_open_to_others() is is_open
