"""The proof of redaction as an asset: made from the models, shown with its picture, held to its floors."""

from pathlib import Path

import dagster as dg
import pytest

from av_assets.domain.evidence.manifest import MadeFrom
from av_assets.foundations.detectors import redaction_proofs, redaction_proofs_reach_their_floors
from av_assets.policies.audit import AuditPolicy
from av_assets.presentation import table
from resources.lake import Lake


def test_proof_is_made_shown_and_judged(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = AuditPolicy.load()
    short = policy.proof.model_copy(update={"seconds": 1.5, "conditions": (("clear", "day"),)})
    monkeypatch.setattr(
        AuditPolicy, "load", classmethod(lambda cls: policy.model_copy(update={"proof": short}))
    )
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    with lake.workdir() as folder:
        for path in weights.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        lake.publish("pretrained_models", "all", folder, made_from=MadeFrom(code_version="test"))
    made = dg.materialize([redaction_proofs, redaction_proofs_reach_their_floors], resources={"lake": lake})
    assert made.success
    [event] = made.asset_materializations_for_node("redaction_proofs")
    assert "data:image/png" in str(event.metadata["before_after"].value)
    rows = [dict(record.data) for record in event.metadata["bands"].records]  # type: ignore[union-attr]
    assert {row["kind"] for row in rows} == {"face", "plate"}
    [check] = made.get_asset_check_evaluations()
    assert {"face>=16", "plate>=24"} == {r.data["objects"] for r in check.metadata["recall"].records}  # type: ignore[union-attr]


def test_rows_of_a_table_may_lack_columns() -> None:
    shown = table([{"a": 1}, {"a": 2, "b": "x"}])
    assert [dict(record.data) for record in shown.records] == [{"a": 1, "b": ""}, {"a": 2, "b": "x"}]  # type: ignore[union-attr]
    assert table([]).value == "none"
