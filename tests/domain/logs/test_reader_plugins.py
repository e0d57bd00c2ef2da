"""Reader plug-ins: the worked example of the guide as it stands there, and plug-ins that misbehave."""

from __future__ import annotations

import re
import struct
import sys
import types
from functools import reduce
from importlib.metadata import EntryPoint
from operator import xor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files import plugins
from av_assets.domain.logs.files.formats import LogKind, find_logs, sniff
from av_assets.domain.logs.inspect import inspect_log
from av_assets.domain.logs.reader import LogReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GUIDE = Path(__file__).parents[3] / "docs" / "readers.md"
START_US = 1_750_000_000_000_000


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install objects as entry points of the group, each as `module:attribute` of a module made for it."""

    def put(**objects: Any) -> None:
        module = types.ModuleType("installed_for_test")
        vars(module).update(objects)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        entries = [EntryPoint(name, f"{module.__name__}:{name}", plugins.GROUP) for name in objects]
        entries += [EntryPoint("gone", "no_such_module_anywhere:reader", plugins.GROUP)]
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries if group == plugins.GROUP else [])
        plugins.installed_readers.cache_clear()

    yield put
    plugins.installed_readers.cache_clear()


@pytest.fixture
def acme() -> Any:
    """The class that the guide's code block defines."""
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    space: dict[str, Any] = {"__name__": "acme_reader"}
    exec(compile(code, str(GUIDE), "exec"), space)
    return space["AcmeReader"]


def write_acme(path: Path, count: int) -> Path:
    records = []
    for i in range(count):
        payload = struct.pack("<d", i / 2)
        records.append(struct.pack("<HQ", 8, START_US + i * 10_000) + payload + bytes([reduce(xor, payload)]))
    path.write_bytes(b"ACME-LOG\x01" + b"".join(records))
    return path


def test_the_example_of_the_guide_reads_a_file(acme: Any, install: Any, tmp_path: Path) -> None:
    install(acme=acme)
    path = write_acme(tmp_path / "x.bin", 2500)
    assert sniff(path) == LogKind("plugin", reader="acme")
    with LogReader(tmp_path) as reader:
        assert reader.message_count == 2500
        assert len(reader.sources[0].blocks) == 3
        values = [reader.deserialize(raw).data for raw in reader.messages(["/acme/speed"])]
        assert values == [i / 2 for i in range(2500)]
        start_ns = START_US * 1000
        window = list(reader.messages(None, start_ns + 10**10, start_ns + 2 * 10**10))
        assert [raw.log_ns for raw in window] == [start_ns + i * 10**7 for i in range(1000, 2000)]
    verdict = inspect_log(path)
    assert (verdict.state, verdict.messages, verdict.files[0].format) == ("ok", 2500, "acme")


def test_the_example_keeps_what_precedes_damage(acme: Any, install: Any, tmp_path: Path) -> None:
    install(acme=acme)
    path = write_acme(tmp_path / "x.bin", 100)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-5])
    assert (inspect_log(path).state, inspect_log(path).code, inspect_log(path).messages) == (
        "salvaged",
        "cut_record",
        99,
    )
    data[9 + 50 * 19 + 12] ^= 4
    path.write_bytes(data)
    assert inspect_log(path).messages == 50
    path.write_bytes(data[:12])
    assert (inspect_log(path).state, inspect_log(path).code) == ("quarantined", "no_messages")


def test_plug_ins_are_listed_with_what_is_wrong(acme: Any, install: Any) -> None:
    install(acme=acme, nothing=object(), zeta=acme())
    found = {reader.name: reader for reader in plugins.installed_readers()}
    assert list(found) == ["acme", "gone", "nothing", "zeta"]
    assert found["acme"].plugin is not None
    assert found["zeta"].reason == ""
    assert "ModuleNotFoundError" in found["gone"].reason
    assert "no name, sniff and open" in found["nothing"].reason


class Greedy:
    """Claims everything, and breaks as it is told."""

    name = "greedy"

    def __init__(self, opens: Any = None) -> None:
        self.opens = opens

    def sniff(self, head: bytes, path: Path) -> bool:
        return True

    def open(self, path: Path) -> Any:
        if self.opens is None:
            raise ZeroDivisionError
        return self.opens(path)


class Blind(Greedy):
    name = "blind"

    def sniff(self, head: bytes, path: Path) -> bool:
        raise KeyError


def test_built_in_formats_win(install: Any, small_logs: dict[str, Path]) -> None:
    install(blind=Blind(), greedy=Greedy())
    for name in ("bag_none", "mcap_zstd", "db3"):
        verdict = inspect_log(small_logs[name] if name != "db3" else next(small_logs[name].glob("*.db3")))
        assert (verdict.state, verdict.messages) == ("ok", 180)


def test_a_plug_in_that_fails_is_told_and_stops_nothing(
    acme: Any, install: Any, small_logs: dict[str, Path], tmp_path: Path
) -> None:
    write_acme(tmp_path / "x.bin", 10)
    (tmp_path / "x.mcap").write_bytes(small_logs["mcap_zstd"].read_bytes())
    install(greedy=Greedy())
    verdict = inspect_log(tmp_path)
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "reader_failed", 180)
    assert "ZeroDivisionError" in verdict.reason
    install(greedy=Greedy(opens=lambda path: path))
    assert inspect_log(tmp_path / "x.bin").code == "reader_failed"
    install(blind=Blind())
    assert find_logs(tmp_path).rejected[0][1] == "reader_failed"
    assert inspect_log(tmp_path).messages == 180
    install(acme=acme, blind=Blind())
    assert inspect_log(tmp_path).messages == 190


def test_a_plug_in_that_breaks_while_reading_loses_its_block_only(
    acme: Any, install: Any, tmp_path: Path
) -> None:
    path = write_acme(tmp_path / "x.bin", 2500)

    def opens(path: Path) -> Any:
        source = acme().open(path)
        read = source.read
        source.read = lambda block, wanted: read(block, wanted) if block is not source.blocks[1] else 1 // 0
        return source

    install(acme=type("Breaking", (acme,), {"open": staticmethod(opens)}))
    verdict = inspect_log(path)
    assert (verdict.state, verdict.code, verdict.messages) == ("salvaged", "reader_failed", 1500)


def test_without_plug_ins_an_unknown_file_is_no_log(install: Any, tmp_path: Path) -> None:
    path = write_acme(tmp_path / "x.bin", 10)
    install()
    assert inspect_log(path).code == "not_a_log"
    with pytest.raises(LogError, match="no_reader"):
        plugins.open_by_plugin("acme", path)
