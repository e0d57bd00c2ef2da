"""Rules over files: counts, order, index."""

from __future__ import annotations

from pathlib import Path

from log_writers import drive, store, write_mcap

from av_assets.domain.logs.integrity.check import check_log
from av_assets.domain.logs.integrity.file_rules import file_findings
from av_assets.domain.logs.reader import LogReader
from av_assets.policies.integrity import IntegrityPolicy


def test_counts_that_differ_are_told(tmp_path: Path) -> None:
    write_mcap(tmp_path / "x.mcap", drive(store()), store())
    with LogReader(tmp_path / "x.mcap") as reader:
        failed = {f.rule for f in file_findings(reader, {}) if f.status == "failed"}
    assert failed == {"count_matches_index", "log_has_messages"}


def test_damage_is_one_finding(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "x.mcap", drive(store()), store())
    with LogReader(path) as reader:
        block = reader.sources[0].blocks[1]
    data = bytearray(path.read_bytes())
    data[block.offset + block.length // 2] ^= 0xFF
    path.write_bytes(data)
    with LogReader(path) as reader:
        report = check_log(reader, None, IntegrityPolicy.load())
    found = {f.rule: f.status for f in report.findings if f.role == ""}
    assert (found["file_is_whole"], found["count_matches_index"]) == ("failed", "skipped")


def test_chunks_out_of_order_and_files_without_index_warn(tmp_path: Path) -> None:
    sent = drive(store())
    write_mcap(tmp_path / "x.mcap", sent[len(sent) // 2 :] + sent[: len(sent) // 2], store())
    write_mcap(tmp_path / "y.mcap", sent, store(), use_chunking=False, use_statistics=False)
    found = {}
    for name in ("x", "y"):
        with LogReader(tmp_path / f"{name}.mcap") as reader:
            report = check_log(reader, None, IntegrityPolicy.load())
        found[name] = {f.rule for f in report.failed("warn")} & {"log_is_in_order", "log_is_indexed"}
    assert found == {"x": {"log_is_in_order"}, "y": {"log_is_indexed"}}
