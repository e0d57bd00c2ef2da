"""Weather tables as they are published, and as nobody should publish them."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.context.areas import areas
from av_assets.domain.context.observations import judged, values_of
from av_assets.domain.errors import PoisonError, TransientError
from av_assets.policies.context import ContextPolicy, LimitPolicy
from resources.lake import Lake
from resources.weather import Weather, WeatherTables, weather_version
from resources.weather_lake import replace_weather

POLICY = ContextPolicy.load()
STATIONS = [
    {
        "id": "10147",
        "name": {"en": "Hamburg"},
        "location": {"latitude": 53.6333, "longitude": 9.9833, "elevation": 15},
    },
    {"id": "10865", "location": {"latitude": 48.1333, "longitude": 11.55, "elevation": 520}},
]
HOURS = """\
2025-06-03,9,16.1,12.0,77,0.0,,250,11.2,24.1,1014.2,60,3
2025-06-03,10,15.2,14.1,93,2.4,,260,18.0,33.3,1012.9,,8
2025-06-03,11,,,,,,,,,,,
"""
HEADER = "date,hour,temp,dwpt,rhum,prcp,snow,wdir,wspd,wpgt,pres,tsun,coco\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weather").mkdir()
    (tmp_path / "weather" / "stations.json").write_text(json.dumps(STATIONS))
    return tmp_path / "weather"


def read(folder: Path, **limits: int) -> WeatherTables:
    return Weather(path=str(folder)).read(LimitPolicy(**(POLICY.limits.model_dump() | limits)))


def report(tables: WeatherTables, name: str) -> dict[str, Any]:
    return next(entry for entry in tables.files if entry["file"] == name)


def refusal(folder: Path, **limits: int) -> PoisonError:
    with pytest.raises(PoisonError) as caught:
        read(folder, **limits)
    return caught.value


def ns(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 10**9


class TestStationHours:
    @pytest.mark.parametrize("header", ["", HEADER, "\ufeff" + HEADER.upper()])
    @pytest.mark.parametrize("ending", ["csv", "csv.gz"])
    def test_with_and_without_header_packed_and_plain(self, folder: Path, header: str, ending: str) -> None:
        data = (header + HOURS).encode()
        (folder / f"10147.{ending}").write_bytes(gzip.compress(data) if ending == "csv.gz" else data)
        tables = read(folder)
        rows = tables.rows.to_pylist()
        assert rows[1] == {
            "source": "meteostat", "station": "10147", "latitude_deg": 53.6333, "longitude_deg": 9.9833,
            "valid_ns": ns(2025, 6, 3, 10), "code": 8, "temperature_c": 15.2, "precipitation_mmph": 2.4,
            "snowfall_mmph": None, "visibility_m": None, "wind_mps": 5.0, "humidity": 0.93, "cloud_share": None,
        }  # fmt: skip
        assert [rows[2][name] for name in ("code", "temperature_c", "precipitation_mmph")] == [None] * 3
        assert report(tables, f"10147.{ending}")["damaged"] == {}

    def test_yearly_tables_with_sources_of_each_column(self, folder: Path) -> None:
        (folder / "2025").mkdir()
        text = "year,month,day,hour,temp,temp_source,prcp,prcp_source,coco\n2025,6,3,10,15.2,isd_lite,2.4,dwd,8\n"
        (folder / "2025" / "10147.csv.gz").write_bytes(gzip.compress(text.encode()))
        [row] = read(folder).rows.to_pylist()
        assert (row["valid_ns"], row["code"], row["temperature_c"]) == (ns(2025, 6, 3, 10), 8, 15.2)

    def test_present_weather_by_wmo_comes_as_synop(self, folder: Path) -> None:
        (folder / "10147.csv").write_text("time,temp,ww\n2025-06-03T10:00:00Z,15.2,63\n")
        [row] = read(folder).rows.to_pylist()
        assert (row["source"], row["code"], row["valid_ns"]) == ("synop", 63, ns(2025, 6, 3, 10))

    def test_damaged_rows_are_left_out_and_counted_by_reason(self, folder: Path) -> None:
        damaged = (
            "2025-06-03,x,16.1,,,,,,,,,,3\n2025-06-03,24,16.1,,,,,,,,,,3\n2025-02-30,3,1,,,,,,,,,,3\n"
            "2025-06-03,12,warm,,,,,,,,,,3\n2025-06-03,13,16.1,,,,,,,,,,3,4\n2025-06-03\n2025-06-03,14,1,,,,,,,,,,2.5\n"
            '2025-06-03,15,"16,,,,,,,,,,3\n2025-06-03,16,1e999,,,,,,,,,,3\n'
        )
        (folder / "10147.csv").write_text(HOURS + damaged)
        tables = read(folder)
        assert tables.rows.num_rows == 3
        assert report(tables, "10147.csv")["damaged"] == {
            "hour is no number": 1, "the hour is none of 0..23": 1, "the time cannot be read": 1,
            "temp is no number": 3, "another number of columns": 2, "the code is no number": 1,
        }  # fmt: skip

    def test_bytes_that_are_no_text_cost_their_row_only(self, folder: Path) -> None:
        (folder / "10147.csv").write_bytes(HOURS.encode() + b"2025-06-03,12,\xff\xfe,,,,,,,,,,3\n")
        tables = read(folder)
        assert (tables.rows.num_rows, report(tables, "10147.csv")["damaged"]) == (3, {"temp is no number": 1})

    def test_cut_off_archive_gives_its_whole_lines_and_says_so(self, folder: Path) -> None:
        lines = "".join(
            f"2025-06-{1 + n // 24:02d},{n % 24},{n % 30}.5,,,,,,,,,,{1 + n % 27}\n" for n in range(700)
        )
        packed = gzip.compress(lines.encode())
        (folder / "10147.csv.gz").write_bytes(packed[: len(packed) // 2])
        tables = read(folder)
        assert 0 < tables.rows.num_rows < 700
        assert tables.rows["code"].to_pylist() == [1 + n % 27 for n in range(tables.rows.num_rows)]
        assert report(tables, "10147.csv.gz")["damaged"] == {"the file ends early": 1}

    def test_several_archives_in_one_file_are_read_on(self, folder: Path) -> None:
        first, *others = HOURS.splitlines(keepends=True)
        (folder / "10147.csv.gz").write_bytes(
            gzip.compress(first.encode()) + gzip.compress("".join(others).encode())
        )
        assert read(folder).rows.num_rows == 3

    def test_station_that_no_list_names_is_counted_and_not_guessed(self, folder: Path) -> None:
        (folder / "99999.csv").write_text(HOURS)
        tables = read(folder)
        assert tables.rows.num_rows == 0
        assert report(tables, "99999.csv")["damaged"] == {"the station is in no list of stations": 3}

    def test_header_alone_is_an_empty_table(self, folder: Path) -> None:
        (folder / "10147.csv").write_text(HEADER)
        assert read(folder).rows.num_rows == 0


class TestGridHours:
    COLUMNS: ClassVar = {
               "latitude": [53.5, 53.5], "longitude": [350.0, 10.25], "t2m": [288.15, 270.0], "tp": [0.0024, 0.0],
               "sf": [0.0, 0.0], "tcc": [1.0, 0.1], "u10": [3.0, 0.0], "v10": [4.0, 0.0]}  # fmt: skip

    def check(self, folder: Path) -> None:
        first, second = read(folder).rows.to_pylist()
        assert (first["source"], first["station"], first["longitude_deg"]) == ("era5", "53.50 -10.00", -10.0)
        assert first["temperature_c"] == pytest.approx(15.0)
        assert first["precipitation_mmph"] == pytest.approx(2.4)
        assert (first["wind_mps"], first["cloud_share"], first["code"]) == (5.0, 1.0, None)
        assert second["valid_ns"] == ns(2025, 6, 3, 11)

    def test_parquet(self, folder: Path) -> None:
        times = [datetime(2025, 6, 3, hour, tzinfo=UTC).replace(tzinfo=None) for hour in (10, 11)]
        table = pa.table(
            {"valid_time": pa.array(times, pa.timestamp("ns")), **self.COLUMNS, "note": ["a", "b"]}
        )
        pq.write_table(table, folder / "era5.parquet")
        self.check(folder)

    def test_csv(self, folder: Path) -> None:
        rows = zip(*self.COLUMNS.values(), strict=True)
        lines = [f"2025-06-03 1{n}:00:00,{','.join(map(str, row))}" for n, row in enumerate(rows)]
        (folder / "era5.csv").write_text("\n".join([f"time,{','.join(self.COLUMNS)}", *lines]))
        self.check(folder)

    def test_parquet_of_texts_is_refused(self, folder: Path) -> None:
        pq.write_table(
            pa.table({"time": ["2025"], "latitude": ["x"], "longitude": ["y"], "tp": [1.0]}),
            folder / "a.parquet",
        )
        error = refusal(folder)
        assert (error.code, Path(error.file or "").name) == ("bad_weather_table", "a.parquet")


class TestLists:
    def test_csv_with_quoted_names(self, folder: Path) -> None:
        (folder / "stations.json").unlink()
        text = 'id,name,latitude,longitude,elevation\n10147,"Hamburg, Airport",53.6333,9.9833,15\n9,x,95,0,1\n,y,5,0,\n'
        (folder / "more.csv").write_text(text)
        (folder / "10147.csv").write_text(HOURS)
        tables = read(folder)
        assert tables.rows.num_rows == 3
        assert report(tables, "more.csv") == {
            "file": "more.csv", "layout": "stations", "rows": 1, "damaged": {"no position on earth": 1, "no id": 1},
        }  # fmt: skip

    def test_packed_list_with_flat_and_broken_entries(self, folder: Path) -> None:
        listed = [
            {"id": 10147, "latitude": 53.6, "longitude": 9.9},
            {"id": "a", "location": {"latitude": None}},
        ]
        (folder / "stations.json").unlink()
        (folder / "lite.json.gz").write_bytes(gzip.compress(json.dumps(listed).encode()))
        tables = read(folder)
        assert report(tables, "lite.json.gz")["damaged"] == {"no position on earth": 1}


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "data", "code"),
        [
            ("notes.txt", b"hello", "unknown_weather_layout"),
            ("a.csv", b"city,mood\nHamburg,good\n", "unknown_weather_layout"),
            ("a.csv", b"", "unknown_weather_layout"),
            ("a.csv", b"time,temp,temp,coco\n", "unknown_weather_layout"),
            ("a.json", b'{"id": 1}', "unknown_weather_layout"),
            ("a.json", b"{", "bad_weather_table"),
            ("a.json", b"[" * 100_000, "bad_weather_table"),
            ("a.csv.gz", b"no gzip at all", "bad_weather_table"),
            ("a.parquet", b"PAR1 or not", "bad_weather_table"),
            ("a.csv", b"x" * (3 << 20), "bad_weather_table"),
        ],
    )
    def test_name_the_file(self, folder: Path, name: str, data: bytes, code: str) -> None:
        (folder / name).write_bytes(data)
        error = refusal(folder)
        assert (error.code, Path(error.file or "").name) == (code, name)
        assert error.remedy

    def test_flipped_bit_in_an_archive_is_not_believed(self, folder: Path) -> None:
        packed = bytearray(gzip.compress(HOURS.encode() * 50))
        packed[-6] ^= 1  # in the checksum
        (folder / "10147.csv.gz").write_bytes(packed)
        assert refusal(folder).code == "bad_weather_table"

    def test_bomb_is_refused_before_it_unpacks(self, folder: Path) -> None:
        bomb = gzip.compress(b"2025-06-03,9,16.1,,,,,,,,,,3\n" * 300_000)
        assert len(bomb) < 100_000
        (folder / "10147.csv.gz").write_bytes(bomb)
        assert refusal(folder, max_file_bytes=1 << 20).code == "weather_table_too_large"
        assert refusal(folder, max_rows=1000).code == "weather_table_too_large"

    def test_too_many_files_and_rows(self, folder: Path) -> None:
        (folder / "10147.csv").write_text(HOURS)
        assert refusal(folder, max_files=1).code == "weather_table_too_large"
        assert refusal(folder, max_rows=4).code == "weather_table_too_large"  # two stations and three hours
        assert read(folder, max_rows=5).rows.num_rows == 3

    def test_rows_that_are_all_ragged_count_as_well(self, folder: Path) -> None:
        (folder / "10147.csv").write_text(HEADER + "x\n" * 2000)
        assert refusal(folder, max_rows=1000).code == "weather_table_too_large"


class TestVersion:
    def test_follows_bytes_and_names(self, folder: Path) -> None:
        weather = Weather(path=str(folder))
        first = weather_version(weather)
        assert [entry["file"] for entry in first] == ["stations.json"]
        (folder / "10147.csv").write_text(HOURS)
        (folder / ".10147.csv.part").write_text("on its way")
        second = weather_version(weather)
        assert [entry["file"] for entry in second] == ["10147.csv", "stations.json"]
        assert second == weather_version(Weather(path=str(folder)))
        (folder / "10147.csv").write_text(HOURS.replace("16.1", "16.2"))
        assert weather_version(weather) != second

    def test_missing_folder_has_no_tables(self, tmp_path: Path) -> None:
        weather = Weather(path=str(tmp_path / "nothing"))
        assert weather_version(weather) == []
        assert weather.read(POLICY.limits).rows.num_rows == 0

    def test_file_that_goes_away_meanwhile_is_a_matter_of_time(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Weather, "files", lambda self: [folder / "gone.csv"])
        with pytest.raises(TransientError):
            weather_version(Weather(path=str(folder)))


def test_table_of_the_lake_is_replaced_by_area_and_loses_what_is_gone(lake: Lake, folder: Path) -> None:
    for station in ("10147", "10865"):
        (folder / f"{station}.csv").write_text(HOURS)
    weather = Weather(path=str(folder))
    rows = judged(read(folder).rows, POLICY.plausible).rows
    assert replace_weather(lake, rows, weather_version(weather), "run-1") == {"n45e010": 3, "n50e005": 3}
    (folder / "10865.csv").unlink()
    rows = judged(read(folder).rows, POLICY.plausible).rows
    replace_weather(lake, rows, weather_version(weather), "run-2")
    held = lake.tables.read("weather")
    assert held is not None
    assert {(row["station"], row["run_id"]) for row in held.to_pylist()} == {("10147", "run-2")}
    assert set(held["area"].to_pylist()) == set(
        areas(values_of(rows, "latitude_deg"), values_of(rows, "longitude_deg"))
    )
