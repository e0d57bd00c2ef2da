"""Extracts: what is read, what is refused, and speed limits out of tags."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.errors import PoisonError
from av_assets.domain.roads.graph import build_graph
from av_assets.domain.roads.osm import read_extract, read_graph
from av_assets.domain.roads.speeds import parse_maxspeed, speed_limit
from av_assets.policies.roads import RoadsPolicy

POLICY = RoadsPolicy.load()

NODES = {1: (48.0, 11.0), 2: (48.001, 11.0), 3: (48.002, 11.0), 4: (48.001, 11.002), 5: (48.003, 11.0)}


def osm(*ways: tuple[int, list[int], dict[str, str]], nodes: dict[int, tuple[float, float]] = NODES) -> str:
    lines = [f'<node id="{i}" lat="{lat}" lon="{lon}"/>' for i, (lat, lon) in nodes.items()]
    for number, refs, tags in ways:
        inside = "".join(f'<nd ref="{r}"/>' for r in refs)
        inside += "".join(f'<tag k="{k}" v="{v}"/>' for k, v in tags.items())
        lines.append(f'<way id="{number}">{inside}</way>')
    return '<?xml version="1.0"?><osm version="0.6">' + "".join(lines) + "</osm>"


def written(folder: Path, text: str | bytes, name: str = "map.osm") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_drivable_ways_become_directed_segments_between_junctions(tmp_path: Path) -> None:
    text = osm(
        (10, [1, 2, 3, 5], {"highway": "primary", "maxspeed": "50", "note": "not kept"}),
        (11, [2, 4], {"highway": "residential", "oneway": "-1"}),
        (12, [1, 4], {"highway": "footway"}),
        (13, [1, 4], {"highway": "residential", "motor_vehicle": "no"}),
        (14, [1, 4], {"highway": "service", "access": "no", "motor_vehicle": "yes"}),
    )
    graph = read_graph(written(tmp_path, text), POLICY)
    ends = {
        (int(graph.node_id[a]), int(graph.node_id[b])) for a, b in zip(graph.begin, graph.end, strict=True)
    }
    assert ends == {(1, 2), (2, 1), (2, 5), (5, 2), (4, 2), (1, 4), (4, 1)}  # node 3 is only a bend
    assert dict(zip(graph.node_id.tolist(), graph.degree.tolist(), strict=True)) == {1: 2, 2: 3, 4: 2, 5: 1}
    long = graph.end[graph.way_id == 10]
    assert len(long) == 4
    assert graph.length_m[graph.way_id == 10].sum() == pytest.approx(2 * 333.58, abs=0.1)
    oneway = graph.way_id == 11
    assert graph.reverse[oneway].tolist() == [-1]
    both = graph.reverse >= 0
    assert (graph.reverse[graph.reverse[both]] == both.nonzero()[0]).all()


@pytest.mark.parametrize(
    ("tags", "ends"),
    [
        ({"oneway": "yes"}, {(1, 3)}),
        ({"oneway": "-1"}, {(3, 1)}),
        ({"oneway": "no", "junction": "roundabout"}, {(1, 3), (3, 1)}),
        ({"junction": "roundabout"}, {(1, 3)}),
        ({"highway": "motorway"}, {(1, 3)}),
        ({"oneway": "reversible"}, {(1, 3), (3, 1)}),
    ],
)
def test_directions(tmp_path: Path, tags: dict[str, str], ends: set[tuple[int, int]]) -> None:
    graph = read_graph(written(tmp_path, osm((10, [1, 2, 3], {"highway": "primary", **tags}))), POLICY)
    assert {
        (int(graph.node_id[a]), int(graph.node_id[b])) for a, b in zip(graph.begin, graph.end, strict=True)
    } == ends
    assert graph.segments == len(ends)


def test_binary_extracts_say_the_same(tmp_path: Path) -> None:
    import osmium

    text = osm((10, [1, 2, 3], {"highway": "primary"}), (11, [2, 4], {"highway": "residential"}))
    path = written(tmp_path, text)
    with osmium.SimpleWriter(str(tmp_path / "map.osm.pbf")) as writer:
        for item in osmium.FileProcessor(str(path)):
            writer.add(item)
    assert read_extract(tmp_path / "map.osm.pbf", POLICY) == read_extract(path, POLICY)


def test_what_the_extract_cuts_off_is_missing_and_said(tmp_path: Path) -> None:
    text = osm((10, [1, 2, 99, 3, 5, 98, 4], {"highway": "primary", "start_date": "~1900"}))
    found = read_extract(written(tmp_path, text), POLICY)
    assert [(f.key, f.node_ids) for f in found.features] == [((10, 0), (1, 2)), ((10, 1), (3, 5))]
    assert found.missing_nodes == {10: 2}
    assert found.unreadable_validity == {10: "start_date"}


def test_roads_are_there_in_their_time(tmp_path: Path) -> None:
    way = {"highway": "primary", "start_date": "2025-06", "end_date": "2025-06-10"}
    [feature] = read_extract(written(tmp_path, osm((10, [1, 2], way))), POLICY).features
    day = 86_400_000_000_000
    june = 20_240 * day  # 2025-06-01
    assert (feature.valid_from_ns, feature.valid_until_ns) == (june, june + 10 * day)
    sizes = [
        build_graph([feature], POLICY, at).segments
        for at in (june - 1, june, june + 10 * day - 1, june + 10 * day, None)
    ]
    assert sizes == [0, 2, 2, 0, 2]


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE o [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><osm version="0.6"><way id="1"><tag k="highway" v="&c;"/></way></osm>'
)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("map.osm", b"", "bad_map"),
        ("map.osm", b"\x00" * 100, "bad_map"),
        ("map.osm", b"<html/>", "bad_map"),
        ("map.osm", BOMB.encode(), "bad_map"),
        ("map.osm", osm((1, [1, 2], {"highway": "primary"})).encode()[:-20], "bad_map"),
        ("map.osm", osm(nodes={1: (453.0, 999.0)}).encode(), "bad_map"),
        ("map.osm", b'<osm version="0.6"><way id="x"/></osm>', "bad_map"),
        ("map.osm.pbf", b"not a protobuf", "bad_map"),
        ("map.osm.pbf", b"\x00\x00\x00\x0d\x0a\x09OSMHeader\x18\x7f" + b"\x00" * 40, "bad_map"),
        ("map.osm.gz", b"", "bad_map"),
    ],
)  # fmt: skip
def test_what_is_no_extract_is_refused(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    with pytest.raises(PoisonError) as caught:
        read_extract(written(tmp_path, data, name), POLICY)
    assert caught.value.code == code
    assert caught.value.file == str(tmp_path / name)


def test_size_and_content_are_bounded(tmp_path: Path) -> None:
    path = written(
        tmp_path, osm((10, [1, 2, 3], {"highway": "primary"}), (11, [2, 4], {"highway": "primary"}))
    )
    for limit in ({"max_bytes": 50}, {"max_ways": 1}, {"max_nodes": 4}):
        tight = POLICY.model_copy(update={"reader": POLICY.reader.model_copy(update=limit)})
        with pytest.raises(PoisonError, match="extract is") as caught:
            read_extract(path, tight)
        assert caught.value.code == "map_too_large"
    with pytest.raises(PoisonError) as caught:
        read_extract(tmp_path / "none.osm", POLICY)
    assert caught.value.code == "map_missing"


def test_a_name_with_a_scheme_is_a_file_and_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "http:").mkdir()
    written(tmp_path / "http:", osm((10, [1, 2], {"highway": "primary"})))
    monkeypatch.chdir(tmp_path)
    assert len(read_extract(Path("http:/map.osm"), POLICY).features) == 1


@pytest.mark.parametrize(
    ("text", "mps", "source", "reason"),
    [
        ("50", 50 / 3.6, "tag", None),
        ("50 km/h", 50 / 3.6, "tag", None),
        ("30 mph", 13.4112, "tag", None),
        ("10 knots", 5.1444, "tag", None),
        ("DE:urban", 50 / 3.6, "tag", None),
        ("walk", 7 / 3.6, "tag", None),
        ("none", None, "tag", "no speed limit applies"),
        ("signals", None, "tag", "the speed limit is signalled"),
        ("50;30", None, None, "maxspeed cannot be read: '50;30'"),
        ("XX:moon", None, None, "maxspeed cannot be read: 'XX:moon'"),
        ("-5", None, None, "maxspeed cannot be read: '-5'"),
        ("0", None, None, "maxspeed cannot be read: '0'"),
        ("\u0665\u0660", None, None, "maxspeed cannot be read: '\u0665\u0660'"),
    ],
)
def test_maxspeed(text: str, mps: float | None, source: str | None, reason: str | None) -> None:
    found = parse_maxspeed(text, POLICY.speed)
    assert found.mps == (None if mps is None else pytest.approx(mps, abs=1e-4))
    assert (found.source, found.reason) == (source, reason)


def test_a_direction_comes_before_both_and_defaults_come_last() -> None:
    tags = {"highway": "primary", "maxspeed": "50", "maxspeed:backward": "30"}
    assert speed_limit(tags, True, POLICY.speed).mps == pytest.approx(50 / 3.6)
    assert speed_limit(tags, False, POLICY.speed).mps == pytest.approx(30 / 3.6)
    assert speed_limit({"highway": "trunk"}, True, POLICY.speed).source == "default:trunk"
    nothing = speed_limit({"highway": "motorway"}, True, POLICY.speed)
    assert (nothing.mps, nothing.source) == (None, None)
    assert nothing.reason == "no maxspeed, and no default is stated for motorway"


@given(st.text(max_size=60))
def test_any_maxspeed_gives_a_limit_or_a_reason(text: str) -> None:
    found = parse_maxspeed(text, POLICY.speed)
    assert (found.mps is None) == (found.reason is not None)
    assert found.mps is None or 0 < found.mps < 600
