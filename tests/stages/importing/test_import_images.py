"""Pictures that are there already become rows of images once, however often their shards are read."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from img2dataset_shards import member
from PIL import Image
from pyspark.sql import Row
from rich.console import Console

from recap_spark.lake.lake import Lake, Transaction
from recap_spark.progress import Progress
from recap_spark.stages.importing import import_images
from recap_spark.stages.importing.imports_table import IMPORTS
from recap_spark.tables import IMAGES, REJECTS, SAMPLES

pytestmark = pytest.mark.spark

SIDE = {"key": pa.string(), "uid": pa.string(), "sha256": pa.string(), "status": pa.string()}


def uid(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def picture(name: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 12), tuple(hashlib.md5(name.encode()).digest()[:3])).save(out, "JPEG")
    return out.getvalue()


def write_tar(path: Path, *samples: tuple[str, bytes, dict], suffix: str = "jpg", mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for key, body, said in samples:
            for kind, data in ((suffix, body), ("json", json.dumps(said).encode())):
                info = tarfile.TarInfo(f"{key}.{kind}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def add_samples(
    lake: Lake, version: int, *names: str, faces: frozenset[str] = frozenset(), **hashes: str | None
) -> None:
    """Samples whose promised hash is that of their name, but for those given; one face fills a picture."""
    lake.create(SAMPLES)
    rows = [
        (uid(name), hashes.get(name, sha(name)), at, "m.parquet", f"https://host.test/{name}")
        for at, name in enumerate(names)
    ]
    filled = {"original_width": "bigint", "original_height": "bigint", "org_caption": "string"}
    scores = {f"clip_{arch}_similarity_score": "float" for arch in ("b32", "l14")}
    frame = lake.spark.createDataFrame(
        rows, "uid string, sha256 string, source_row bigint, source_file string, url string"
    ).selectExpr(
        "*",
        *(f"CAST(NULL AS {kind}) AS {name}" for name, kind in (filled | scores).items()),
        f"IF(url IN ({', '.join(repr(f'https://host.test/{name}') for name in ('', *faces))}), "
        "array(array(0d, 0d, 1d, 1d)), NULL) AS face_bboxes",
    )
    lake.append(SAMPLES, frame, transaction=Transaction("test", version))


def run(lake: Lake, settings, source: Path, **changed) -> Counter:
    asked = settings.import_images.model_copy(update={"source": str(source), "tasks_per_commit": 2} | changed)
    whole = settings.model_copy(update={"import_images": asked})
    return import_images.run(lake, whole, Progress(Console(quiet=True)))


def statuses(lake: Lake) -> dict[str, tuple]:
    rows = lake.read(IMAGES).collect()
    assert len({row["uid"] for row in rows}) == len(rows)
    return {row["uid"]: (row["status"], row["sha256_matches"]) for row in rows}


def faults(lake: Lake) -> dict[str, tuple]:
    return {
        Path(row["source_file"]).name: (row["source_row"], row["reason"], row["raw"])
        for row in lake.read(REJECTS).collect()
    }


def shards(folder: Path) -> Path:
    """Every layout, and every fault, each in a file of its own."""
    # By uid in json; one is damaged, one another download than the curators', one belongs to no sample.
    write_tar(
        folder / "00000.tar",
        ("000000000", picture("a"), {"uid": uid("a"), "sha256": sha("a")}),
        ("000000001", picture("b")[:300], {"uid": uid("b"), "sha256": sha("b")}),
        ("000000002", picture("c"), {"uid": uid("c"), "sha256": sha("other")}),
        ("000000003", picture("x"), {"uid": uid("nobody"), "sha256": sha("x")}),
    )
    # By hash alone: one is shared by two samples, one by none.
    write_tar(
        folder / "00001.tar",
        ("000010000", picture("d"), {"sha256": sha("d")}),
        ("000010001", picture("twins"), {"sha256": sha("twins")}),
        ("000010002", picture("y"), {"sha256": sha("y")}),
    )
    # DataComp's resharder: the key is the uid, and a repeated sample has a number.
    write_tar(
        folder / "part" / "00000002.tar", (uid("e"), picture("e"), {}), (f"{uid('e')}-1", picture("e"), {})
    )
    # A side file that knows more than the tar, and of failures; and of a picture that is not there.
    write_tar(folder / "00003.tar", ("000030000", picture("f"), {}))
    rows = [
        {"key": "000030000", "uid": uid("f"), "sha256": sha("f"), "status": "success"},
        {"key": "000030001", "uid": uid("g"), "sha256": None, "status": "failed_to_download"},
        {"key": "000030002", "uid": uid("h"), "sha256": sha("h"), "status": "success"},
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(SIDE)), folder / "00003.parquet")
    # Pictures in a column.
    rows = [
        {"key": "000040000", "uid": uid("i"), "sha256": sha("i"), "status": "success", "jpg": picture("i")}
    ]
    schema = pa.schema(SIDE | {"jpg": pa.binary()})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "00004.parquet")
    # Cut off in its second picture.
    cut = write_tar(
        folder / "00005.tar",
        ("000050000", picture("j"), {"uid": uid("j"), "sha256": sha("j")}),
        ("000050001", picture("k"), {"uid": uid("k"), "sha256": sha("k")}),
    )
    with tarfile.open(cut) as archive:
        within = archive.getmember("000050001.jpg").offset_data + 9
    cut.write_bytes(cut.read_bytes()[:within])
    # Made by hand of a folder, which stands before its keys; the side file does not know it.
    write_tar(folder / "00006.tar", ("00006/000060000", picture("l"), {}), suffix="JPEG")
    rows = [{"key": "000060000", "uid": uid("l"), "sha256": sha("l"), "status": "success"}]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(SIDE)), folder / "00006.parquet")
    # Of days when shards had no hashes: by url, or by the bytes themselves. And something else.
    write_tar(
        folder / "00007.tar.gz",
        ("m", picture("m"), {"url": "https://host.test/m", "md5": "of what was resized"}),
        ("n", picture("n"), {}),
        ("notes", b"no picture", {}),
        suffix="bin",
        mode="w:gz",
    )
    return folder


NAMES = tuple("abcdefghijklmn")
HASHES = {"twin 1": sha("twins"), "twin 2": sha("twins"), "unknown": None}
HASHES["n"] = f" {hashlib.sha256(picture('n')).hexdigest().upper()} "


@dataclass(frozen=True)
class Seen:
    """What a run told and left."""

    counts: Counter
    statuses: dict[str, tuple]
    faults: dict[str, tuple]
    imports: dict[str, Row]
    first: Row  # the row of images of the sample "a"


@pytest.fixture(scope="module")
def imported(new_lake, settings, tmp_path_factory) -> list[Seen]:
    """The shards imported, imported again, and once more when there are new samples and a repaired file."""
    lake, folder = new_lake(), tmp_path_factory.mktemp("imported")

    def seen(**changed) -> Seen:
        counts = run(lake, settings, folder / "shards", **changed)
        imports = {row["file"]: row for row in lake.read(IMPORTS).collect()}
        (first,) = lake.read(IMAGES).where(f"uid = '{uid('a')}'").collect()
        return Seen(counts, statuses(lake), faults(lake), imports, first)

    add_samples(lake, 1, *dict.fromkeys((*NAMES, *HASHES)), **HASHES)
    shards(folder / "shards")
    runs = [seen(files_per_commit=5), seen()]
    add_samples(lake, 2, "nobody", nobody=sha("x"))
    write_tar(
        folder / "shards" / "00005.tar",
        ("000050000", picture("j"), {"uid": uid("j"), "sha256": sha("j")}),
        ("000050001", picture("k"), {"uid": uid("k"), "sha256": sha("k")}),
    )
    return [*runs, seen()]


def test_every_layout_is_read_and_every_picture_ends_once(imported):
    right = ("ok", True)
    assert imported[0].statuses == {
        uid("a"): right,
        uid("b"): ("undecodable", True),
        uid("c"): ("hash_mismatch", False),
        uid("d"): right,
        uid("twin 1"): right,
        uid("twin 2"): right,
        uid("e"): ("ok", None),
        uid("f"): right,
        uid("i"): right,
        uid("j"): right,
        uid("l"): right,
        uid("m"): ("ok", None),
        uid("n"): right,
    }
    counts = {"added": 13, "repeated": 1, "unmatched": 2, "failed_before": 1, "lost": 1, "unrecognised": 1}
    assert imported[0].counts == counts
    stored = imported[0].first
    assert (stored["bytes"], stored["attempts"], stored["width"]) == (picture("a"), 0, 16)
    assert imported[0].faults == {
        "00003.tar": (None, "unreadable_file", "holds other pictures than are described for it"),
        "00005.tar": (None, "unreadable_file", "ends in the middle of '000050001.jpg'"),
    }


def test_a_rerun_adds_nothing_and_looks_only_at_faulty_files(imported):
    before, after, _ = imported
    # The pictures that no sample is known for are looked for again only when there are new samples.
    assert after.counts == {"held": 2, "failed_before": 1, "lost": 1}
    assert (after.statuses, after.faults) == (before.statuses, before.faults)
    untouched = {file: row for file, row in before.imports.items() if row["fault"] is None}
    assert {file: after.imports[file] for file in untouched} == untouched


def test_new_samples_and_repaired_files_are_seen_and_the_old_complaint_goes(imported):
    last = imported[2]
    assert last.counts["added"] == 2
    assert last.statuses.keys() >= {uid("k"), uid("nobody")}
    assert last.faults.keys() == {"00003.tar"}


def test_an_import_killed_after_its_pictures_were_written_adds_none_of_them_again(lake, settings, tmp_path):
    class DiesBeforeRemembering(Lake):
        def upsert(self, table, frame):
            raise KeyboardInterrupt

    add_samples(lake, 1, *dict.fromkeys((*NAMES, *HASHES)), **HASHES)
    folder = shards(tmp_path / "shards")
    with pytest.raises(KeyboardInterrupt):
        run(DiesBeforeRemembering(lake.spark, lake.settings), settings, folder)
    before = statuses(lake)
    assert len(before) == 13
    counts = run(lake, settings, folder)
    assert statuses(lake) == before
    assert counts["added"] == 0
    assert faults(lake).keys() == {"00003.tar", "00005.tar"}


def test_a_promised_picture_goes_before_another_whatever_file_it_is_in(lake, settings, tmp_path, caplog):
    add_samples(lake, 1, "a")
    write_tar(tmp_path / "s" / "2.tar", ("x", picture("x"), {"url": "https://no.test/"}), ("notes", b"", {}))
    write_tar(tmp_path / "s" / "3.tar", ("notes", b"", {}), suffix="doc")
    write_tar(tmp_path / "s" / "0.tar", ("0", picture("wrong"), {"uid": uid("a"), "sha256": sha("wrong")}))
    write_tar(tmp_path / "s" / "1.tar", ("0", picture("a"), {"uid": uid("a"), "sha256": sha("a")}))
    assert run(lake, settings, tmp_path / "s") == {
        "added": 1,
        "repeated": 1,
        "unmatched": 2,
        "unrecognised": 1,
    }
    assert "2 pictures match no sample by uid, hash or url, such as key 'x'" in caplog.text
    assert (
        "1 keys have no member that is recognised as a picture, such as key 'notes' of 3.tar" in caplog.text
    )
    assert statuses(lake) == {uid("a"): ("ok", True)}


def test_a_json_that_cannot_be_read_is_counted_and_said(lake, settings, tmp_path, caplog):
    add_samples(lake, 1, "a")
    (tmp_path / "s").mkdir()
    with tarfile.open(tmp_path / "s" / "0.tar", "w") as archive:
        member(archive, f"{uid('a')}.jpg", picture("a"))
        member(archive, f"{uid('a')}.json", b"{}", kind=tarfile.GNUTYPE_SPARSE)
    assert run(lake, settings, tmp_path / "s") == {"added": 1, "unreadable": 1}
    assert f"1 members cannot be read, nor what they say of pictures, such as key '{uid('a')}', detail" in (
        caplog.text
    )


def test_the_rules_of_fetch_hold_for_imported_pictures(lake, settings, tmp_path):
    add_samples(lake, 1, "a", "b", "c", "copy 1", "copy 2", "private", faces=frozenset({"c"}))
    write_tar(
        tmp_path / "s" / "0.tar",
        ("0", picture("wrong"), {"uid": uid("a"), "sha256": sha("wrong")}),
        ("1", picture("b") + b"\x00" * 9000, {"uid": uid("b"), "sha256": sha("b")}),
        ("2", picture("c"), {"uid": uid("c"), "sha256": sha("c")}),
        ("3", picture("copy"), {"uid": uid("copy 1"), "sha256": sha("copy")}),
        ("4", picture("copy"), {"uid": uid("copy 2"), "sha256": sha("copy")}),
        ("5", picture("private"), {"uid": uid("private"), "sha256": sha("private")}),
    )
    (tmp_path / "opted_out.txt").write_text("https://host.test/private\n")
    limits = replace(settings.fetch.limits, hash_mismatch="keep", largest_bytes=5000)
    limits = replace(limits, opted_out_file=str(tmp_path / "opted_out.txt"))
    rules = replace(settings.fetch.picture, faces="blur", encode_format="png", encode_quality=1)
    changed = {
        "limits": limits,
        "picture": rules,
        "placeholders": settings.fetch.placeholders.model_copy(update={"urls": 1, "hosts": 0}),
    }
    fetch = settings.fetch.model_copy(update=changed)
    run(lake, settings.model_copy(update={"fetch": fetch}), tmp_path / "s")
    copies = dict.fromkeys((uid("copy 1"), uid("copy 2")), ("placeholder", False))
    right = {uid("a"): ("ok", False), uid("b"): ("too_large", True), uid("c"): ("ok", True)}
    assert statuses(lake) == right | copies | {uid("private"): ("opted_out", True)}
    assert lake.read(IMAGES).where("status = 'opted_out' AND bytes IS NOT NULL").isEmpty()
    formats = {row["uid"]: row["format"] for row in lake.read(IMAGES).where("status = 'ok'").collect()}
    assert formats == {uid("a"): "jpeg", uid("c"): "png"}  # only a blurred one is encoded anew


def test_a_sha256_that_is_none_is_counted_and_holds_no_picture_back(lake, settings, tmp_path):
    add_samples(lake, 1, "a", "b", "c")
    no_hashes = {"a": "f" * 32, "b": "not a hash", "c": " ", "nobody": "z" * 64}
    said = ((name, picture(name), {"uid": uid(name), "sha256": given}) for name, given in no_hashes.items())
    write_tar(tmp_path / "s" / "0.tar", *said)
    counts = run(lake, settings, tmp_path / "s")
    assert counts == {"added": 3, "unmatched": 1, "sha256_malformed": 3}
    assert statuses(lake) == {uid(name): ("ok", None) for name in "abc"}


def test_no_source_is_nothing_to_import(lake, settings):
    none = settings.import_images.model_copy(update={"source": None})
    asked = settings.model_copy(update={"import_images": none})
    assert import_images.run(lake, asked, Progress(Console(quiet=True))) == {}
