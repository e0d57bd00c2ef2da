"""COCO: read and scored by pycocotools itself; the folder that exports appear in."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import cv2
import pyarrow.parquet as pq
import pytest
from exported_folder import HEIGHT, THINGS, WIDTH, make_dataset
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from av_assets.domain.datasets.exports.export import export_dataset, new_folder
from av_assets.domain.errors import AvError, DatasetError
from av_assets.policies.archives import ArchivesPolicy

POLICY = ArchivesPolicy.load()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    make_dataset(folder)
    seen: list[tuple[int, int]] = []
    report = export_dataset(
        folder / "dataset", "coco", folder / "out", ("train", "test"), {}, POLICY, {"dataset": "golden"},
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(n, 22) for n in range(1, 23)]
    assert (report["frames"], report["boxes"], report["dataset"]) == (22, 22 * len(THINGS), "golden")
    return folder


def test_every_box_is_there_with_its_picture(place: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(place / "out" / "annotations" / "instances_test.json"))
    labels = pq.read_table(place / "dataset" / "drives" / "veh002-b" / "labels.parquet").to_pylist()
    names = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        picture = cv2.imread(str(place / "out" / "test" / image["file_name"]))
        assert picture.shape == (image["height"], image["width"], 3) == (HEIGHT, WIDTH, 3)
        for row in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            key = (image["file_name"], row["av"]["label_id"])
            found[key] = (names[row["category_id"]], *row["bbox"])
    assert len(found) == len(labels)
    for row in labels:
        name, x, y, w, h = found[f"veh002-b.camera_front.{row['ref_ns']}.jpg", row["label_id"]]
        assert name == row["cls"]
        assert (x, y, x + w, y + h) == pytest.approx((row["x1"], row["y1"], row["x2"], row["y2"]), abs=1e-6)


def test_the_labels_against_themselves_have_an_average_precision_of_one(place: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(place / "out" / "annotations" / "instances_test.json"))
        rows = coco.loadAnns(coco.getAnnIds())
        scored = [{**{k: r[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.5} for r in rows]
        judged = COCOeval(coco, coco.loadRes(scored), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    assert judged.stats[0] == pytest.approx(1.0)


def test_an_export_that_fails_leaves_nothing_and_takes_nothing_away(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = (place / "dataset", "coco", out)
    with pytest.raises(DatasetError) as refused:
        export_dataset(*args, ("val",), {}, POLICY)
    assert refused.value.code == "empty_export"
    assert list(tmp_path.iterdir()) == []

    out.mkdir()
    export_dataset(*args, ("test",), {}, POLICY)
    first = json.loads((out / "export.json").read_text())
    with pytest.raises(AvError) as taken:
        export_dataset(*args, ("train",), {}, POLICY)
    assert taken.value.code == "out_not_empty"
    with pytest.raises(DatasetError):
        export_dataset(*args, ("val",), {}, POLICY, force=True)
    assert json.loads((out / "export.json").read_text()) == first
    export_dataset(*args, ("train",), {}, POLICY, force=True)
    assert sorted(p.name for p in out.iterdir()) == ["annotations", "export.json", "train"]
    assert list(tmp_path.iterdir()) == [out]


def test_force_removes_exports_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "thesis")
    for name in ("thesis", "file", "link"):
        with pytest.raises(AvError) as refused, new_folder(tmp_path / name, force=True):
            pass
        assert refused.value.code == "not_an_export"
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_a_frame_without_a_picture_is_counted(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"veh001-a": "test"})
    clip = tmp_path / "dataset" / "drives" / "veh001-a" / "clips" / "00000.parquet"
    table = pq.read_table(clip)
    pq.write_table(table.slice(1), clip)
    report = export_dataset(tmp_path / "dataset", "coco", tmp_path / "out", ("test",), {}, POLICY)
    assert (report["frames"], report["frames_without_picture"]) == (10, 1)


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_labels_that_cannot_be_read_are_named(tmp_path: Path, damage: str) -> None:
    make_dataset(tmp_path, {"veh001-a": "test"})
    labels = tmp_path / "dataset" / "drives" / "veh001-a" / "labels.parquet"
    labels.unlink() if damage == "missing" else labels.write_bytes(labels.read_bytes()[:100])
    with pytest.raises(DatasetError) as refused:
        export_dataset(tmp_path / "dataset", "coco", tmp_path / "out", ("test",), {}, POLICY)
    assert (refused.value.code, refused.value.file, refused.value.drive) == (
        "no_labels",
        str(labels),
        "veh001-a",
    )
    assert not (tmp_path / "out").exists()
