"""Splits: stable, disjoint, about as large as asked, and useful for the sample drives."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.datasets.members import MemberInfo
from av_assets.domain.datasets.splits import hash_place, split_key, split_of
from av_assets.domain.simulation.samples import sample_drives
from av_assets.policies.golden import GoldenPolicy

POLICY = GoldenPolicy.load()
drive_ids = st.from_regex(r"veh[0-9]{3}-2025[01][0-9][0-2][0-9]t[0-2][0-9]{5}z", fullmatch=True)


@settings(deadline=None)
@given(st.lists(drive_ids, unique=True, max_size=30), drive_ids)
def test_another_drive_moves_no_drive(drives: list[str], new: str) -> None:
    before = {d: split_of(d, POLICY) for d in drives}
    after = {d: split_of(d, POLICY) for d in [new, *drives]}
    assert all(after[d] == split for d, split in before.items())


@settings(deadline=None)
@given(drive_ids, st.text(min_size=1))
def test_places_are_shares(drive: str, salt: str) -> None:
    assert 0.0 <= hash_place(drive, salt) < 1.0


def test_shares_hold_on_average() -> None:
    count = Counter(split_of(f"veh{i:03d}-20250602t{j:06d}z", POLICY) for i in range(40) for j in range(50))
    assert abs(count["train"] / 2000 - POLICY.train_share) < 0.04
    assert abs(count["val"] / 2000 - POLICY.val_share) < 0.04


def test_a_larger_train_share_only_takes_from_the_next_split() -> None:
    wider = POLICY.model_copy(update={"train_share": POLICY.train_share + 0.1, "val_share": POLICY.val_share})
    for i in range(300):
        drive = f"veh001-{i}"
        assert split_of(drive, POLICY) != "train" or split_of(drive, wider) == "train"


def test_the_sample_drives_fill_all_splits_with_hard_conditions_in_test() -> None:
    scripts = sample_drives()
    splits = {s.drive: split_of(s.drive, POLICY) for s in scripts}
    count = Counter(splits.values())
    assert count["train"] in (4, 5)
    assert count["val"] == 1
    assert count["test"] in (2, 3)
    test = [s for s in scripts if splits[s.drive] == "test"]
    assert {"night", "day"} <= {s.light for s in test}
    assert {"rain", "fog"} & {s.weather for s in test}


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(drive_ids, st.sampled_from("abcdef"), st.integers(1, 52)), unique_by=lambda row: row[0]
    ),
    st.tuples(drive_ids, st.sampled_from("abcdefgh"), st.integers(1, 52)),
    st.sampled_from(["drive", "geo_cell", "week", "geo_cell_week"]),
)
def test_whatever_is_split_by_is_never_divided_and_never_moves(
    rows: list[tuple[str, str, int]], new: tuple[str, str, int], by: str
) -> None:
    policy = POLICY.model_copy(update={"split_by": by})

    def splits(given_rows: list[tuple[str, str, int]]) -> dict[str, tuple[str | None, str]]:
        members = [MemberInfo(d, 1, geo_cell=cell, week=f"2025-W{week}") for d, cell, week in given_rows]
        keys = {m.drive: split_key(m, policy) for m in members}
        return {drive: (key, split_of(str(key), policy)) for drive, key in keys.items()}

    before, after = splits(rows), splits([new, *(row for row in rows if row[0] != new[0])])
    assert all(after[drive] == place for drive, place in before.items() if drive != new[0])
    assert len(set(after.values())) == len({key for key, _ in after.values()})


def test_an_unknown_place_is_no_key() -> None:
    nowhere = MemberInfo("veh001-a", 1, week="2025-06-02")
    assert split_key(nowhere, POLICY.model_copy(update={"split_by": "geo_cell_week"})) is None
    assert split_key(nowhere, POLICY.model_copy(update={"split_by": "week"})) == "2025-06-02"
    assert split_key(nowhere, POLICY) == "veh001-a"
