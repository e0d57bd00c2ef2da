"""Where people's files and the truth of synthetic drives are found."""

from pathlib import Path

from resources.labeling import Annotators

DRIVE = "veh001-20250601t080000z"


def test_files_are_found_by_drive_and_in_order(tmp_path: Path) -> None:
    people = Annotators(truth=str(tmp_path / "truth"), labels=str(tmp_path / "labels"))
    assert (people.knows(DRIVE), people.truth_of(DRIVE), people.returned(DRIVE)) == (False, {}, [])
    assert people.gold_of(DRIVE) is None
    folder = tmp_path / "labels" / "returned" / DRIVE
    (folder / "drafts.json").mkdir(parents=True)
    for name in ("b.XML", "a.json", "task 7.zip", "c.json.part", ".d.json"):
        (folder / name).touch()
    assert [path.name for path in people.returned(DRIVE)] == ["a.json", "b.XML", "task 7.zip"]
    gold = tmp_path / "labels" / "gold" / f"{DRIVE}.json"
    gold.parent.mkdir()
    gold.touch()
    assert people.gold_of(DRIVE) == gold


def test_without_a_folder_there_are_simulated_people_only(tmp_path: Path) -> None:
    people = Annotators(truth=str(tmp_path))
    assert (people.returned(DRIVE), people.gold_of(DRIVE)) == ([], None)
