"""Labels that leave for a tool and come back: nothing may change on the way, bit by bit.

Belongs here: round trips of all formats and what other libraries make of the files. Does not belong here: bad files.
"""

from __future__ import annotations

import json
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.exchange.coco import iter_coco, read_coco, write_coco
from av_assets.domain.labels.exchange.cvat import read_cvat, write_cvat
from av_assets.domain.labels.exchange.label_studio import label_config, read_label_studio, write_label_studio
from av_assets.domain.labels.exchange.returned import ReturnedBox, ReturnedSubmission, read_returned
from av_assets.domain.labels.schema import CLASSES

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=12)
numbers = st.floats(-1e4, 1e4, allow_nan=False)
boxes = st.builds(
    ReturnedBox,
    cls=st.sampled_from(CLASSES),
    x1=numbers,
    y1=numbers,
    x2=numbers,
    y2=numbers,
    label_id=st.none() | words,
    occlusion=st.none() | st.floats(0, 1),
)
submissions = st.builds(
    ReturnedSubmission,
    submission_id=words,
    task_id=words,
    file_name=words.map(lambda name: f"{name}.jpg"),
    annotator=words,
    role=st.sampled_from(("annotate", "review", "adjudicate")),
    seconds=st.none() | st.floats(0, 1e5),
    submitted_ns=st.none() | st.integers(0, 2**63 - 1),
    width=st.integers(1, 8000),
    height=st.integers(1, 8000),
    units=st.sampled_from(("px", "percent", "normalised")),
    boxes=st.lists(boxes, max_size=4).map(tuple),
)
files = st.lists(submissions, max_size=5)
often = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def box(x1: float = 10.25, *, cls: str = "vehicle", label_id: str | None = "auto-0001") -> ReturnedBox:
    return ReturnedBox(cls, x1, 20.5, x1 + 30.125, 60.0, label_id, 0.25)


def submission(
    number: int = 1, *drawn: ReturnedBox, annotator: str = "ann@example.org"
) -> ReturnedSubmission:
    task = f"veh001-a.camera_front.{number}"
    return ReturnedSubmission(
        submission_id=f"s-{number}-{annotator}",
        task_id=task,
        file_name=f"{task}.jpg",
        annotator=annotator,
        role="annotate",
        seconds=12.5,
        submitted_ns=1_750_000_000_123_456_789,
        width=640,
        height=384,
        units="px",
        boxes=drawn,
    )


class TestRoundTrips:
    @often
    @given(files)
    def test_coco_keeps_everything(self, tmp_path: Path, frames: list[ReturnedSubmission]) -> None:
        path = tmp_path / "labels.json"
        assert write_coco(path, iter(frames), CLASSES) == sum(len(frame.boxes) for frame in frames)
        assert read_returned(path) == frames
        assert list(iter_coco(path)) == frames

    @often
    @given(files)
    def test_cvat_keeps_everything(self, tmp_path: Path, frames: list[ReturnedSubmission]) -> None:
        path = tmp_path / "labels.xml"
        write_cvat(path, frames, CLASSES, "a drive & <more>")
        assert read_returned(path) == frames

    @often
    @given(files)
    def test_label_studio_keeps_everything(self, tmp_path: Path, frames: list[ReturnedSubmission]) -> None:
        path = tmp_path / "labels.json"
        write_label_studio(path, frames)
        assert read_returned(path) == frames

    def test_several_annotators_of_a_picture_stay_apart(self, tmp_path: Path) -> None:
        frames = [submission(1, box()), submission(1, annotator="ben@example.org"), submission(2, box(3.0))]
        write_label_studio(tmp_path / "l.json", frames)
        write_coco(tmp_path / "c.json", frames, CLASSES)
        write_cvat(tmp_path / "c.xml", frames, CLASSES, "drive")
        assert (
            len(json.loads((tmp_path / "l.json").read_text())) == 2
        )  # tasks, of which one has two annotations
        assert all(read_returned(tmp_path / name) == frames for name in ("l.json", "c.json", "c.xml"))

    def test_a_class_that_is_not_of_the_schema_is_not_written(self, tmp_path: Path) -> None:
        frames = [submission(1, box(cls="tram"))]
        with pytest.raises(LabelError, match="bad_coco"):
            write_coco(tmp_path / "c.json", frames, CLASSES)
        with pytest.raises(LabelError, match="bad_cvat"):
            write_cvat(tmp_path / "c.xml", frames, CLASSES, "drive")
        assert list(tmp_path.iterdir()) == []


class TestOtherTools:
    def test_pycocotools_loads_and_indexes_the_file(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from pycocotools.coco import COCO

        frames = [submission(1, box(), box(50.0, cls="cone")), submission(2)]
        write_coco(tmp_path / "c.json", frames, CLASSES)
        loaded = COCO(str(tmp_path / "c.json"))
        capsys.readouterr()  # it prints its progress
        assert [image["file_name"] for image in loaded.loadImgs(loaded.getImgIds())] == [
            frame.file_name for frame in frames
        ]
        found = loaded.loadAnns(loaded.getAnnIds(imgIds=[1]))
        assert [a["bbox"] for a in found] == [[10.25, 20.5, 30.125, 39.5], [50.0, 20.5, 30.125, 39.5]]
        assert [c["name"] for c in loaded.loadCats(loaded.getCatIds())] == list(CLASSES)

    def test_a_box_that_another_tool_moved_is_where_that_tool_put_it(self, tmp_path: Path) -> None:
        path = tmp_path / "c.json"
        write_coco(path, [submission(1, box(0.1))], CLASSES)
        changed = json.loads(path.read_text())
        changed["annotations"][0]["bbox"] = [1.0, 2.0, 3.0, 4.0]
        path.write_text(json.dumps(changed))
        (moved,) = read_returned(path)[0].boxes
        assert (moved.x1, moved.y1, moved.x2, moved.y2) == (1.0, 2.0, 4.0, 6.0)
        assert moved.label_id == "auto-0001"

    def test_a_box_moved_in_label_studio_is_read_from_its_percent(self, tmp_path: Path) -> None:
        path = tmp_path / "l.json"
        write_label_studio(path, [submission(1, box())])
        changed = json.loads(path.read_text())
        place = {"x": 25.0, "y": 50.0, "width": 75.0, "height": 50.0}
        changed[0]["annotations"][0]["result"][0]["value"].update(place)
        path.write_text(json.dumps(changed))
        (moved,) = read_returned(path)[0].boxes
        assert (moved.x1, moved.y1, moved.x2, moved.y2) == (160.0, 192.0, 640.0, 384.0)

    def test_cvat_documents_have_the_documented_attributes(self, tmp_path: Path) -> None:
        from xml.etree import ElementTree

        write_cvat(tmp_path / "c.xml", [submission(1, box())], CLASSES, "veh001-a")
        root = ElementTree.parse(tmp_path / "c.xml").getroot()
        assert root.findtext("version") == "1.1"
        assert [node.text for node in root.findall("meta/task/labels/label/name")][:3] == list(CLASSES)
        (image,) = root.findall("image")
        assert set(image.attrib) == {"id", "name", "width", "height"}
        (drawn,) = image.findall("box")
        assert set(drawn.attrib) == {"label", "source", "occluded", "xtl", "ytl", "xbr", "ybr", "z_order"}
        assert drawn.get("occluded") == "1"

    def test_plain_files_of_tools_that_know_no_extension_are_read(self, tmp_path: Path) -> None:
        plain = {
            "annotations": [{"id": 7, "image_id": 3, "category_id": 9, "bbox": [1, 2, 3, 4]}],
            "images": [{"id": 3, "file_name": "veh.camera_front.1.jpg", "width": 10, "height": 10}],
            "categories": [{"id": 9, "name": "cone"}],
        }
        (tmp_path / "c.json").write_text(json.dumps(plain))
        (tmp_path / "c.xml").write_text(
            "<annotations><version>1.1</version><meta><job><assignee><username>ann</username></assignee></job>"
            '</meta><image id="0" name="veh.camera_front.1.jpg" width="10" height="10">'
            '<box label="cone" occluded="1" xtl="1.00" ytl="2.00" xbr="4.00" ybr="6.00"/></image></annotations>'
        )
        (coco,), (cvat,) = read_returned(tmp_path / "c.json"), read_returned(tmp_path / "c.xml")
        assert coco.boxes == cvat.boxes == (ReturnedBox("cone", 1.0, 2.0, 4.0, 6.0, None, None),)
        assert (coco.annotator, cvat.annotator) == ("", "ann")
        assert coco.file_name == cvat.file_name == "veh.camera_front.1.jpg"
        assert coco.submission_id == read_returned(tmp_path / "c.json")[0].submission_id != ""

    def test_proposals_are_predictions_and_nobodys_answer(self, tmp_path: Path) -> None:
        write_label_studio(tmp_path / "l.json", [submission(1, box(), annotator="")])
        (task,) = json.loads((tmp_path / "l.json").read_text())
        assert task["annotations"] == []
        assert {result["id"] for result in task["predictions"][0]["result"]} == {"auto-0001"}
        assert read_returned(tmp_path / "l.json") == []

    def test_the_labelling_configuration_names_every_class(self) -> None:
        from xml.etree import ElementTree

        root = ElementTree.fromstring(label_config(["a<b", *CLASSES]))
        assert [node.get("value") for node in root.iter("Label")] == ["a<b", *CLASSES]


class TestLongFiles:
    def test_memory_does_not_grow_with_the_boxes(self, tmp_path: Path) -> None:
        def peak(count: int) -> int:
            frames = (submission(n, *[box(float(i)) for i in range(count)]) for n in range(20))
            tracemalloc.start()
            write_coco(tmp_path / "c.json", frames, CLASSES)
            assert sum(len(frame.boxes) for frame in iter_coco(tmp_path / "c.json")) == 20 * count
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return found

        assert peak(1000) < peak(100) + 4e6  # a window, not the ten megabytes that the boxes would be

    def test_annotations_in_another_order_are_read_whole_but_not_as_a_stream(self, tmp_path: Path) -> None:
        path = tmp_path / "c.json"
        frames = [submission(n, box(float(n)), box(2.0 * n)) for n in range(1, 6)]
        write_coco(path, frames, CLASSES)
        shuffled = json.loads(path.read_text())
        random.Random(1).shuffle(shuffled["annotations"])
        path.write_text(json.dumps(shuffled))
        assert [
            replace(f, boxes=tuple(sorted(f.boxes, key=lambda b: b.x1))) for f in read_coco(path)
        ] == frames
        with pytest.raises(LabelError, match="order of the images"):
            list(iter_coco(path))

    def test_the_readers_by_name_are_the_readers_by_content(self, tmp_path: Path) -> None:
        frames = [submission(1, box())]
        write_cvat(tmp_path / "named.json", frames, CLASSES, "drive")
        write_label_studio(tmp_path / "named.xml", frames)
        assert read_cvat(tmp_path / "named.json") == read_returned(tmp_path / "named.json") == frames
        assert read_label_studio(tmp_path / "named.xml") == read_returned(tmp_path / "named.xml") == frames
