"""A laptop's lake is one folder: it can be moved and copied, and no two of them share their tables."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from recap_spark.errors import PlatformError, SettingsError
from recap_spark.lake.lake import Lake
from recap_spark.machine.metastore import derby_url, follow_lake
from recap_spark.machine.session import laptop_conf
from recap_spark.settings.schema import LakeSettings
from recap_spark.tables import CAPTIONERS

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def copied(spark, tmp_path_factory) -> Path:
    """The metastore of the tests' lake, with a table and a view, as it was copied into another folder."""
    root = str(Path(spark.conf.get("spark.sql.warehouse.dir").removeprefix("file:")))
    lake = Lake(spark, LakeSettings(root=root, namespace="moved"))
    lake.create(CAPTIONERS)
    select = f"SELECT captioner FROM {lake.name(CAPTIONERS.name)}"
    lake.define_view("view", select, columns={"captioner": "its name"}, comment="all of them")
    folder = tmp_path_factory.mktemp("a lake's copy (1)")
    url = spark.conf.get("spark.hadoop.javax.jdo.option.ConnectionURL")
    open_one = spark._jvm.java.sql.DriverManager.getConnection(url)
    backup = open_one.prepareCall("CALL SYSCS_UTIL.SYSCS_BACKUP_DATABASE(?)")
    backup.setString(1, str(folder))
    backup.execute()
    open_one.close()
    return folder


def places(spark, metastore: Path) -> list[str]:
    """Every place that a metastore keeps, spelled as a path."""
    connection = spark._jvm.java.sql.DriverManager.getConnection(derby_url(metastore))
    found = []
    for table, column in (("DBS", "DB_LOCATION_URI"), ("SDS", "LOCATION"), ("DATABASE_PARAMS", "PARAM_VALUE"),
                          ("SERDE_PARAMS", "PARAM_VALUE")):  # fmt: skip
        rows = connection.createStatement().executeQuery(f"SELECT {column} FROM {table}")
        while rows.next():
            found.append(unquote(str(rows.getString(1))).removeprefix("file:"))
    connection.close()
    return sorted(place for place in found if place.startswith("/"))


def test_the_tables_of_a_copied_lake_are_those_of_its_own_folder(spark, copied):
    metastore = copied / "metastore"
    root = spark.conf.get("spark.sql.warehouse.dir").removeprefix("file:")
    before = places(spark, metastore)
    follow_lake(spark, metastore=metastore, root=copied)
    after = places(spark, metastore)
    assert f"{root}/moved.db/captioners" in before
    assert after == [place.replace(root, str(copied), 1) for place in before]
    follow_lake(spark, metastore=metastore, root=copied)
    assert places(spark, metastore) == after


def test_a_metastore_outside_of_the_lake_that_keeps_another_lake_is_refused(spark, copied, tmp_path):
    with pytest.raises(PlatformError, match=r"want one of the lake .*, found .*, which keeps the tables"):
        follow_lake(spark, metastore=copied / "metastore", root=tmp_path / "elsewhere")


def test_a_path_that_derby_cannot_have_is_said():
    with pytest.raises(
        PlatformError, match="want a path without ; and : for Derby, found /data/a:b/metastore"
    ):
        derby_url(Path("/data/a:b/metastore"))


def test_no_metastore_yet_is_none_to_follow(spark, tmp_path):
    follow_lake(spark, metastore=tmp_path / "metastore", root=tmp_path)


def test_a_metastore_of_this_machine_keeps_no_object_stores_tables(settings):
    lake = LakeSettings(root="s3://bucket/lake", namespace="recap")
    with pytest.raises(SettingsError, match="want null where the lake is no folder of this machine"):
        laptop_conf(settings.session, lake)


def test_two_lakes_never_share_a_schema(spark, tmp_path):
    Lake(spark, LakeSettings(root=str(tmp_path / "one"), namespace="shared")).create(CAPTIONERS)
    again = LakeSettings(root=f"{tmp_path}/./one/", namespace="shared")
    Lake(spark, again).create(CAPTIONERS)
    other = LakeSettings(root=str(tmp_path / "other (2)"), namespace="shared")
    with pytest.raises(
        SettingsError, match=r"want a schema that no other lake has, found .*shared.* /.*/one"
    ):
        Lake(spark, other).create(CAPTIONERS)


def test_a_schema_that_was_there_before_becomes_the_lakes(spark, tmp_path):
    spark.sql("CREATE SCHEMA by_hand")
    Lake(spark, LakeSettings(root="s3://bucket/lake", namespace="by_hand")).create()
    with pytest.raises(SettingsError, match="whose lake is s3://bucket/lake"):
        Lake(spark, LakeSettings(root="s3://bucket/other", namespace="by_hand")).create()
