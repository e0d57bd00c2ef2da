"""Files that nobody should trust: each is refused with a code and its name, in bounded time, and nothing is dropped.

Belongs here: what the readers refuse. Does not belong here: rules about boxes and people, which are the judge's.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.exchange import returned
from av_assets.domain.labels.exchange.json_stream import JsonStream
from av_assets.domain.labels.exchange.returned import read_returned

BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;&b;">]><annotations>&c;</annotations>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>'
IMAGE = '<annotations><image id="0" name="a.jpg" width="9" height="9">{}</image></annotations>'
BOX = '<box label="cone" xtl="{}" ytl="1" xbr="2" ybr="2"{}>{}</box>'
RESULT: dict[str, Any] = {
    "id": "r",
    "type": "rectanglelabels",
    "original_width": 10,
    "original_height": 10,
    "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["cone"]},
}


def refused(path: Path, content: str | bytes) -> LabelError:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LabelError) as error:
        read_returned(path)
    assert error.value.file == str(path)
    return error.value


def coco(**changes: Any) -> str:
    whole = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "cone"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    }
    return json.dumps(whole | changes)


def annotation(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]} | changes]


def studio(*results: dict[str, Any], **changes: Any) -> str:
    drawn = {"id": 5, "completed_by": 1, "result": list(results)} | changes
    return json.dumps([{"data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [drawn]}])


@pytest.mark.parametrize(
    "content",
    [
        coco(annotations=annotation(bbox=[1, 2, 3])),
        coco(annotations=annotation(bbox=[1, 2, 3, "4"])),
        coco(annotations=annotation(bbox=[1, 2, 3, True])),
        coco(annotations=annotation(image_id="1")),
        coco(annotations=annotation() * 2),
        coco(images=[{"id": 1}, {"id": 1}]),
        coco(images=[{"id": 1, "width": 2**70}]),
        coco(images=[{"id": 1, "av": {"units": "miles"}}]),
        coco(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
        coco(images=[{"id": 1, "av": {"annotator": "half of a pair: \ud83d"}}]),
        coco(categories=[{"id": 1, "name": "\udc00"}]),
        coco(images=7),
        coco(images=[7]),
        '{"images": [], "annotations": []}',
        coco(annotations=annotation(bbox=[1, 2, 3, float("nan")])),
        coco(annotations=annotation(bbox=[1, 2, 3, float("inf")])),
        coco().replace("[1, 2, 3, 4]", "[1, 2, 3, 1e999]"),
        coco().replace('"id": 1, "image_id"', '"id": 1, "id": 2, "image_id"'),
        '{"images": [], "images": [], "categories": [], "annotations": []}',
        coco()[:-20],
        coco() + "{}",
        coco().encode() + b"\xff",
        '{"info": ' + "[" * 100_000,
        '{"info": ' + '{"a":' * 100_000,
        '{"info": ' + "9" * 10_000 + "}",
    ],
)
def test_coco_that_cannot_be_trusted_is_refused(tmp_path: Path, content: str | bytes) -> None:
    assert refused(tmp_path / "c.json", content).code == "bad_coco"


def test_annotations_that_lead_nowhere_are_counted(tmp_path: Path) -> None:
    rows = [annotation(id=n, image_id=1 if n else 2)[0] for n in range(5)]
    assert "1 of 5 annotations" in refused(tmp_path / "c.json", coco(annotations=rows)).reason


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        OUTSIDE,
        BOMB.encode("utf-16"),
        "<html></html>",
        IMAGE.format(BOX.format("1", "", ""))[:-5],
        IMAGE.format(BOX.format("nan", "", "")),
        IMAGE.format(BOX.format("1e999", "", "")),
        IMAGE.format(BOX.format("one", "", "")),
        IMAGE.format(BOX.format("1", ' rotation="30"', "")),
        IMAGE.format('<box label="cone"/>'),
        IMAGE.format(BOX.format("1", "", '<attribute name="occlusion">much</attribute>')),
        IMAGE.format(
            BOX.format("1", "", '<attribute name="a">1</attribute><attribute name="a">2</attribute>')
        ),
        IMAGE.replace('width="9"', 'width="9.5"').format(""),
        IMAGE.replace('width="9"', f'width="{"9" * 5000}"').format(""),
        "<annotations><track id='0' label='cone'/></annotations>",
        "<annotations>" + "<a>" * 100_000,
    ],
)
def test_cvat_that_cannot_be_trusted_is_refused(tmp_path: Path, content: str | bytes) -> None:
    code = refused(tmp_path / "c.xml", content).code
    assert code == ("unknown_label_format" if isinstance(content, bytes) else "bad_cvat")


def test_shapes_that_are_no_boxes_are_counted(tmp_path: Path) -> None:
    drawn = BOX.format("1", "", "") + '<polygon label="cone" points="1,1;2,2;3,1"/>'
    assert "1 of 2 shapes" in refused(tmp_path / "c.xml", IMAGE.format(drawn)).reason


@pytest.mark.parametrize(
    "content",
    [
        studio(RESULT | {"type": "brushlabels"}),
        studio(RESULT | {"value": RESULT["value"] | {"rotation": 3}}),
        studio(RESULT | {"value": RESULT["value"] | {"rectanglelabels": ["cone", "vehicle"]}}),
        studio(RESULT | {"value": RESULT["value"] | {"x": None}}),
        studio(RESULT | {"id": 7}),
        studio(RESULT | {"original_width": "10"}),
        studio(RESULT | {"type": "number", "from_name": "occlusion", "value": {"number": 1}}),
        studio(RESULT, updated_at="2026-01-01T00:00:00"),
        studio(RESULT, updated_at="yesterday"),
        studio(RESULT, lead_time="long"),
        studio(result="none"),
        "[7]",
        '[{"annotations": [7]}]',
        '[{"annotations": [{"result": []}]}]',
        "[{}",
        "[{}] []",
    ],
)
def test_label_studio_that_cannot_be_trusted_is_refused(tmp_path: Path, content: str) -> None:
    assert refused(tmp_path / "l.json", content).code == "bad_label_studio"


def test_results_that_are_no_boxes_are_counted(tmp_path: Path) -> None:
    content = studio(RESULT, RESULT | {"id": "p", "type": "polygonlabels"})
    assert "1 of 2 results" in refused(tmp_path / "l.json", content).reason


def test_a_task_that_somebody_skipped_is_unanswered(tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    path.write_text(studio(RESULT, was_cancelled=True))
    assert read_returned(path) == []


def test_a_plain_export_of_label_studio_is_read(tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    path.write_text(
        studio(RESULT | {"origin": "manual"}, updated_at="2026-01-01T00:00:00.000001Z", lead_time=3)
    )
    (found,) = read_returned(path)
    assert (found.submission_id, found.annotator, found.file_name) == ("label-studio-5", "1", "a.jpg")
    assert (found.seconds, found.submitted_ns, found.units) == (3.0, 1_767_225_600_000_001_000, "px")
    assert [(b.cls, b.x1, b.x2, b.label_id) for b in found.boxes] == [("cone", 0.1, 0.6, None)]


def test_boxes_of_a_picture_whose_size_nobody_knows_stay_percent(tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    path.write_text(studio({k: v for k, v in RESULT.items() if not k.startswith("original")}))
    (found,) = read_returned(path)
    assert (found.units, found.boxes[0].x1, found.boxes[0].x2) == ("percent", 1.0, 6.0)


@pytest.mark.parametrize("content", ["", "   ", "labels", "\x00\x01", "42"])
def test_what_is_no_format_is_said(tmp_path: Path, content: str) -> None:
    assert refused(tmp_path / "any", content).code == "unknown_label_format"


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="unknown_label_format"):
        read_returned(tmp_path / "nothing.json")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returned, "LARGEST_BYTES", 10)
    assert refused(tmp_path / "c.json", coco()).code == "label_file_too_large"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(values, max_size=8), st.integers(1, 40), st.sampled_from([None, 1]))
def test_a_stream_reads_what_json_reads_however_small_its_window(
    tmp_path: Path, elements: list[Any], chunk: int, indent: int | None
) -> None:
    path = tmp_path / "any.json"
    path.write_text(json.dumps(elements, indent=indent, ensure_ascii=False), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("av_assets.domain.labels.exchange.json_stream._CHUNK_BYTES", chunk)
        with JsonStream(path) as stream:
            assert list(stream.elements()) == elements
            stream.end()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values)
def test_any_json_is_read_or_refused(tmp_path: Path, value: Any) -> None:
    for whole in (
        value,
        [value],
        [{"data": value, "annotations": [value]}],
        {"images": value, "annotations": []},
    ):
        (tmp_path / "any.json").write_text(json.dumps(whole))
        # Nothing but the two: another exception would end the test.
        with contextlib.suppress(LabelError):
            assert isinstance(read_returned(tmp_path / "any.json"), list)
