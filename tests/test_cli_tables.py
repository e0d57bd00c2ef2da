"""What `av` prints of rows: nothing of them is cut, however narrow the terminal is."""

from __future__ import annotations

import pyarrow as pa
import pytest

from av_assets.cli.catalog import _print
from av_assets.cli.search import TEXT_SHOWN
from av_assets.cli.search import _print as print_clips
from av_assets.cli.tables import print_table
from av_assets.domain.catalog.schemas import meanings
from av_assets.domain.context.rows import CLIP_CONTEXT
from av_assets.domain.events.detectors import EVENT_SCHEMA
from av_assets.domain.scenes.rows import SCENES
from av_assets.domain.search.hybrid import Answer
from resources.sql import Answer as SqlAnswer

CLIP = "veh042-20250604t213000z/00001"


@pytest.fixture(params=[40, 80, 200])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_no_cell_is_cut(width: int, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    columns = [f"column_{n}" for n in range(count)]
    print_table(columns, [[f"{CLIP}-{n}" for n in range(count)]] * 2)
    said = capsys.readouterr().out
    assert all(said.count(f"{CLIP}-{n}") >= 2 and f"column_{n}" in said for n in range(count))
    assert "\u2026" not in said


def test_a_column_of_long_texts_is_folded(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["clip_id", "note"], [[CLIP, "word " * 50]], fold="note")
    said = capsys.readouterr().out
    assert CLIP in said
    assert said.count("word") == 50


def test_numbers_are_short_and_ids_are_whole(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    _print(
        SqlAnswer(
            pa.table({"clip_id": [CLIP], "speed_mps": [1.23456789012345], "kinds": [["a", "b"]]}), False
        )
    )
    said = capsys.readouterr().out
    assert CLIP in said
    assert "1.23457" in said
    assert "1.234567" not in said
    assert "a, b" in said


def _clip(number: int, text: str) -> dict[str, object]:
    return {"clip_id": f"d/{number:05d}", "start_ns": None, "score": 0.5, "parts": {}, "text": text}


def test_a_description_is_told_once_and_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    text = "night and rain " * 40
    print_clips(Answer([_clip(1, text), _clip(2, text), _clip(3, "day")], {}, None), [], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:7] for line in lines if line.startswith("d/")] == ["d/00001", "d/00002", "d/00003"]
    assert len(lines) == 5
    assert max(map(len, lines)) <= TEXT_SHOWN + 4
    print_clips(Answer([_clip(1, text)], {}, None), [], as_json=True)
    assert text in capsys.readouterr().out


def test_an_empty_search_ends_at_the_step_that_emptied_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_clips(Answer([], {"index": 9, "filter a": 0, "text 'b'": 4}, "filter a"), [], as_json=False)
    said = capsys.readouterr().out
    assert "9  rows (clip and camera) left after index" in said
    assert "text" not in said


@pytest.mark.parametrize("schema", [EVENT_SCHEMA, SCENES, CLIP_CONTEXT])
def test_every_column_says_what_it_means(schema: pa.Schema) -> None:
    assert set(meanings(schema)) == set(schema.names)
