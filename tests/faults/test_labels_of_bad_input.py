"""What people hand back, good and bad, through the commands, the sensor and the assets: nothing is lost silently."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from av_assets.cli.main import main
from av_assets.domain.labels.exchange.coco import write_coco
from av_assets.domain.labels.exchange.cvat import write_cvat
from av_assets.domain.labels.exchange.label_studio import write_label_studio
from av_assets.domain.labels.exchange.returned import ReturnedBox, ReturnedSubmission, read_returned
from av_assets.domain.labels.people.submission_rules import WHOLE
from av_assets.domain.labels.schema import CLASSES
from av_assets.domain.simulation.samples import short_drive
from av_assets.mining import labels
from partitions.drives import drives
from resources import quarantine
from resources.labeling import Annotators
from resources.lake import Lake
from sensors.returned_labels import returned_labels
from tests.faults.conftest import Installation, install

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DRIVE = short_drive().drive
JUDGED = ["label_submissions", "verified_labels"]
FORMATS = ("coco", "cvat", "label-studio")
ACCOUNT = "returned_rows_are_all_accounted_for"
Frames = list[ReturnedSubmission]
Spoil = Callable[[Frames], Frames]


@dataclass
class Office:
    """An installation with a drive that nobody knows the truth of, the people who label it, and the sensor."""

    home: Path
    instance: dg.DagsterInstance
    cursor: str | None = None
    checks: dict[str, dg.AssetCheckEvaluation] = field(default_factory=dict)
    _proposals: Frames = field(default_factory=list)

    @property
    def lake(self) -> Lake:
        return Installation(self.home).lake

    @property
    def folder(self) -> Path:
        return self.home / "labels" / "returned" / DRIVE

    @property
    def resources(self) -> dict[str, Any]:
        people = Annotators(truth=str(self.home / "truth"), labels=str(self.home / "labels"))
        return {"lake": self.lake, "annotators": people}

    def export(self, format_: str, round_: str = "annotate") -> Path:
        out = self.home / "out" / f"{round_}-{format_}"
        words = ("export", DRIVE, "--format", format_, "--round", round_, "--out", str(out), "--json")
        return Path(json.loads(av("labels", *words).output)["file"])

    def proposals(self) -> Frames:
        """What `av labels export` gives to people: every task with the machine's boxes."""
        self._proposals = self._proposals or read_returned(self.export("coco"))
        return self._proposals

    def write(self, name: str, format_: str, frames: Frames) -> Path:
        path = self.home / "desk" / f"{name}{'.xml' if format_ == 'cvat' else '.json'}"
        path.parent.mkdir(exist_ok=True)
        classes = [*CLASSES, "dragon"]
        if format_ == "coco":
            write_coco(path, frames, classes)
        elif format_ == "cvat":
            write_cvat(path, frames, classes, name)
        else:
            write_label_studio(path, frames)
        return path

    def hand_in(self, *paths: Path, annotator: str = "") -> list[str]:
        """The names under which the files wait."""
        who = ["--annotator", annotator] if annotator else []
        done = av("labels", "import", DRIVE, *map(str, paths), *who, "--json")
        assert done.exit_code == 0, done.output
        return [Path(one["landed"]).name for one in json.loads(done.output)]

    def drop(self, name: str, content: bytes) -> None:
        """Put a file where tools put theirs, past the command that would refuse it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(content)

    def look(self) -> list[tuple[str, list[str]]]:
        """What the sensor asks for now."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources=self.resources
        )
        found = returned_labels(context)
        assert isinstance(found, dg.SensorResult)
        self.cursor = found.cursor
        asked = [r for r in found.run_requests or [] if isinstance(r, dg.RunRequest)]
        return [(r.partition_key or "", [k.path[-1] for k in r.asset_selection or []]) for r in asked]

    def judge(self, *more: str) -> None:
        defs = dg.Definitions(
            assets=dg.load_assets_from_modules([labels]),
            asset_checks=dg.load_asset_checks_from_modules([labels]),
            resources=self.resources,
        )
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(a) for a in (*more, *JUDGED)],
            partition_key=DRIVE,
        )
        assert result.success
        self.checks = {e.check_name: e for e in result.get_asset_check_evaluations()}

    def failed(self) -> list[str]:
        return sorted(name for name, evaluation in self.checks.items() if not evaluation.passed)

    def rows(self, asset: str, file: str) -> list[dict[str, Any]]:
        data = self.lake.read_bytes(self.lake.require(asset, DRIVE), file)
        return list(pq.read_table(pa.BufferReader(data)).to_pylist())

    def account(self) -> dict[str, Any]:
        return dict(json.loads(self.lake.read_bytes(self.lake.require(JUDGED[0], DRIVE), "report.json")))

    def states(self) -> list[str]:
        found = self.lake.tables.read("label_frames", [("drive", "=", DRIVE)])
        assert found is not None
        return [row["state"] for row in sorted(found.to_pylist(), key=lambda row: row["ref_ns"])]


def av(*words: str) -> Result:
    done = CliRunner().invoke(main, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def by(who: str, frames: Sequence[ReturnedSubmission], off_px: float = 0.0, **facts: Any) -> Frames:
    """The frames as somebody hands them back, with the boxes moved to the right."""
    said = {"annotator": who, "seconds": 12.0, "role": "annotate"} | facts
    return [
        replace(f, submission_id="", **said, boxes=tuple(moved(box, off_px) for box in f.boxes))  # type: ignore[arg-type]
        for f in frames
    ]


def moved(box: ReturnedBox, off_px: float) -> ReturnedBox:
    return replace(box, x1=box.x1 + off_px, x2=box.x2 + off_px)


@pytest.fixture(scope="module")
def waiting(equipped: Path, short_drive_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of an installation whose drive is through, up to labels, which wait for people."""
    home = tmp_path_factory.mktemp("labels") / "home"
    install(home, equipped).av("land", str(short_drive_folder), "--here", "--json")
    return home


def opened(waiting: Path, home: Path) -> Iterator[Office]:
    shutil.copytree(waiting, home, symlinks=True, copy_function=os.link)  # objects are never written twice
    shutil.rmtree(home / "dagster")
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name in [
            n for n in os.environ if n.startswith("AV_") and n not in ("AV_SIGNING_KEY", "AV_TOOLS")
        ]:
            patch.delenv(name)
        patch.setenv("AV_HOME", str(home))
        instance.add_dynamic_partitions(drives.name or "", [DRIVE])
        yield Office(home, instance)


@pytest.fixture
def office(waiting: Path, tmp_path: Path) -> Iterator[Office]:
    yield from opened(waiting, tmp_path / "home")


@pytest.fixture(scope="module")
def busy(waiting: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    yield from opened(waiting, tmp_path_factory.mktemp("busy") / "home")


def every(change: Callable[[ReturnedSubmission], ReturnedSubmission]) -> Spoil:
    return lambda frames: [change(frame) for frame in frames]


def first_box(**corners: Any) -> Spoil:
    """The first box of every frame is another one."""
    return every(lambda f: replace(f, boxes=(replace(f.boxes[0], **corners), *f.boxes[1:])))


def scaled(frame: ReturnedSubmission, full: float) -> ReturnedSubmission:
    """The same boxes in shares of the picture, while the file still says pixels."""
    w, h = full / (frame.width or 1), full / (frame.height or 1)
    made = [replace(b, x1=b.x1 * w, x2=b.x2 * w, y1=b.y1 * h, y2=b.y2 * h) for b in frame.boxes]
    return replace(frame, boxes=tuple(made))


def elsewhere(frame: ReturnedSubmission) -> ReturnedSubmission:
    name = f"{DRIVE}.camera_front.17"
    return replace(frame, task_id=name, file_name=f"{name}.jpg")


def twice(frames: Frames) -> Frames:
    return [*frames, *(replace(f, boxes=f.boxes[:1]) for f in frames)]


def own_review(frames: Frames) -> Frames:
    return [*frames, *(replace(f, role="review") for f in frames)]


# What is wrong -> how it is made of good frames, the constraint, submissions rejected of each two handed in.
BAD: dict[str, tuple[Spoil, str, int]] = {
    "unknown_frame": (every(elsewhere), "unknown_task", 2),
    "other_drive": (
        every(lambda f: replace(f, task_id=f.task_id.replace("veh001", "veh002"))),
        "unknown_task",
        2,
    ),
    "unknown_class": (first_box(cls="dragon"), "incomplete_submission", 2),
    "outside": (first_box(x1=600.0, x2=700.0), "incomplete_submission", 2),
    "far_outside": (first_box(x1=-1e12, x2=1e12), "incomplete_submission", 2),
    "inside_out": (first_box(x1=90.0, x2=20.0), "incomplete_submission", 2),
    "hidden_more_than_whole": (first_box(occlusion=1.5), "incomplete_submission", 2),
    "mixed": (lambda frames: [frames[0], scaled(frames[1], 1.0)], "mixed_coordinates", 2),
    "shares_as_pixels": (every(lambda f: scaled(f, 1.0)), "mixed_coordinates", 2),
    "percent_as_pixels": (every(lambda f: scaled(f, 100.0)), "mixed_coordinates", 2),
    "twice": (twice, "duplicate_submission", 2),
    "own_review": (own_review, "self_review", 2),
    "unknown_role": (every(lambda f: replace(f, role="boss")), "unknown_role", 2),
    "other_picture": (every(lambda f: replace(f, width=1920, height=1080)), "wrong_picture_size", 2),
    "time_backwards": (every(lambda f: replace(f, seconds=-5.0)), "bad_seconds", 2),
    "time_without_end": (every(lambda f: replace(f, seconds=1e308)), "bad_seconds", 2),
    "nobody": (every(lambda f: replace(f, annotator=" ")), "no_annotator", 2),
}
BOXES = {
    "unknown_class": "unknown_class",
    "outside": "outside_picture",
    "far_outside": "not_finite",
    "inside_out": "empty_box",
    "hidden_more_than_whole": "occlusion_out_of_range",
}
CASES = [(name, format_) for name in BAD for format_ in FORMATS]


@pytest.fixture(scope="module")
def judged(busy: Office) -> dict[tuple[str, str], str]:
    """Two frames of every case in every format, and one good file, in one folder; gives the names they wait under."""
    two = busy.proposals()[:2]
    paths = [busy.write(f"{n}-{f}", f, BAD[n][0](by(f"{n} {f}", two, submitted_ns=None))) for n, f in CASES]
    paths.append(busy.write("good", "coco", by("anna", two)))
    names = busy.hand_in(*paths)
    assert len(set(names)) == len(names)
    busy.judge()
    return dict(zip([*CASES, ("good", "coco")], names, strict=True))


class TestBadRows:
    @pytest.mark.parametrize(("name", "format_"), CASES)
    def test_each_is_rejected_for_its_constraint_with_its_values(
        self, busy: Office, judged: dict[tuple[str, str], str], name: str, format_: str
    ) -> None:
        file, (_, constraint, bad) = judged[name, format_], BAD[name]
        rows = [r for r in busy.rows("label_submissions", "rejected.parquet") if r["origin"] == file]
        whole = [r for r in rows if r["row"] == WHOLE]
        assert [r["constraint"] for r in whole] == [constraint] * bad
        of_boxes = {r["constraint"] for r in rows if r["row"] != WHOLE}
        assert of_boxes <= {BOXES.get(name, ""), "submission_rejected"}
        assert BOXES.get(name, "submission_rejected") in of_boxes
        assert all(json.loads(r["value"]) for r in rows)
        assert {r["annotator"].strip() for r in rows} == {"" if name == "nobody" else f"{name} {format_}"}

    def test_what_came_in_is_accepted_or_rejected_file_by_file(
        self, busy: Office, judged: dict[tuple[str, str], str]
    ) -> None:
        files = busy.account()["files"]
        assert set(files) == set(judged.values())
        accepted = busy.rows("label_submissions", "submissions.parquet")
        rejected = busy.rows("label_submissions", "rejected.parquet")
        for name in judged.values():
            content = read_returned(busy.folder / name)
            taken = [r for r in accepted if r["origin"] == name]
            lost = [r for r in rejected if r["origin"] == name]
            whole = sum(r["row"] == WHOLE for r in lost)
            assert len(content) == len(taken) + whole == files[name]["submissions"]
            assert sum(len(c.boxes) for c in content) == sum(r["boxes"] for r in taken) + len(lost) - whole
            assert (files[name]["accepted"], files[name]["rejected"]) == (len(taken), whole)
        assert files[judged["good", "coco"]]["rejected"] == 0
        assert len(rejected) == sum(busy.account()["constraints"].values())

    def test_the_check_counts_the_same(self, busy: Office, judged: dict[tuple[str, str], str]) -> None:
        assert ACCOUNT not in busy.failed()
        shown = busy.checks[ACCOUNT].metadata["rejected rows"].value
        assert shown == len(busy.rows("label_submissions", "rejected.parquet"))

    def test_a_person_who_is_wrong_once_is_heard_where_they_are_right(
        self, busy: Office, judged: dict[tuple[str, str], str]
    ) -> None:
        taken = busy.rows("label_submissions", "submissions.parquet")
        wanted = {"anna"} | {f"{name} {f}" for name in ("twice", "own_review") for f in FORMATS}
        assert {r["annotator"] for r in taken} == wanted
        assert {r["role"] for r in taken} == {"annotate"}


BOMB = '<!DOCTYPE a [<!ENTITY a0 "ha">' + "".join(
    f'<!ENTITY a{n} "&a{n - 1};&a{n - 1};&a{n - 1};&a{n - 1};">' for n in range(1, 40)
)
BOMB += "]><annotations>&a39;</annotations>"
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>'
ONE = '{"images": [{"id": 1, "file_name": "a.jpg", "av": {"annotator": "%s"}}], "categories": '
ONE += (
    '[{"id": 1, "name": "cone"}], "annotations": [{"id": 1, "image_id": %s, "category_id": 1, "bbox": [%s]}]}'
)
# Name -> content and the code of the error.
BROKEN: dict[str, tuple[bytes, str]] = {
    "bomb.xml": (BOMB.encode(), "bad_cvat"),
    "passwd.xml": (OUTSIDE.encode(), "bad_cvat"),
    "cut.xml": (b'<annotations><image id="0" name="a.jpg" width="9"', "bad_cvat"),
    "deep.xml": (b"<annotations>" + b"<a>" * 100_000, "bad_cvat"),
    "cut.json": ((ONE % ("ann", 1, "1, 2, 3, 4"))[:-20].encode(), "bad_coco"),
    "nan.json": ((ONE % ("ann", 1, "1, NaN, 3, 4")).encode(), "bad_coco"),
    "endless.json": ((ONE % ("ann", 1, "1, 1e999, 3, 4")).encode(), "bad_coco"),
    "astray.json": ((ONE % ("ann", 2, "1, 2, 3, 4")).encode(), "bad_coco"),
    "half_a_character.json": ((ONE % ("\\ud83d", 1, "1, 2, 3, 4")).encode(), "bad_coco"),
    "deep.json": (b'{"info": ' + b"[" * 200_000, "bad_coco"),
    "deep list.json": (b"[" * 200_000, "bad_label_studio"),
    "no list of tasks.json": (b"[1, 2, 3]", "bad_label_studio"),
    "empty.json": (b"", "unknown_label_format"),
    "picture.json": (b"\xff\xd8\xff\xe0" + bytes(500), "unknown_label_format"),
    "task 7.zip": (b"PK\x03\x04" + bytes(100), "unknown_label_format"),
}


class TestFilesThatNobodyCanRead:
    @pytest.mark.parametrize("name", BROKEN)
    def test_the_command_refuses_them_by_name_and_hands_in_nothing_beside_them(
        self, busy: Office, judged: dict[tuple[str, str], str], tmp_path: Path, name: str
    ) -> None:
        content, code = BROKEN[name]
        good = busy.write(f"beside {name}", "coco", by("zoe", busy.proposals()))
        (tmp_path / name).write_bytes(content)
        before = sorted(p.name for p in busy.folder.iterdir())
        done = av("labels", "import", DRIVE, str(good), str(tmp_path / name))
        assert (done.exit_code, done.output.count("\n")) == (1, 1), done.output
        assert f"[{code}]" in done.output
        assert str(tmp_path / name) in done.output
        assert sorted(p.name for p in busy.folder.iterdir()) == before

    def test_dropped_past_the_command_they_stop_nothing_and_are_told(self, office: Office) -> None:
        [good] = office.hand_in(office.write("good", "cvat", by("anna", office.proposals())))
        for name, (content, _) in BROKEN.items():
            office.drop(name, content)
        office.judge()
        files = office.account()["files"]
        assert {n: f["unreadable"] for n, f in files.items()} == {n: c for n, (_, c) in BROKEN.items()} | {
            good: ""
        }
        rejected = office.rows("label_submissions", "rejected.parquet")
        assert sorted(r["origin"] for r in rejected) == sorted(BROKEN)
        assert office.failed() == [ACCOUNT]
        wrong = [row.data for row in office.checks[ACCOUNT].metadata["wrong"].records]  # type: ignore[union-attr]
        assert {row["file"] for row in wrong} == set(BROKEN)
        assert set(office.states()) == {"in_review"}
        held = {f.path for f in office.lake.require("label_submissions", DRIVE).files}
        assert {f"returned/{name}" for name in BROKEN} <= held

    def test_a_drive_that_has_no_tasks_takes_no_labels(self, office: Office) -> None:
        good = office.write("good", "coco", by("anna", office.proposals()))
        done = av("labels", "import", DRIVE.replace("veh001", "veh002"), str(good))
        assert done.exit_code == 1
        assert "[missing_bundle]" in done.output
        assert not (office.home / "labels").exists()

    def test_known_answers_that_nobody_can_read_set_the_drive_aside_until_they_are_gone(
        self, office: Office
    ) -> None:
        assert office.look() == []
        gold = office.home / "labels" / "gold" / f"{DRIVE}.json"
        gold.parent.mkdir(parents=True)
        gold.write_text('{"images"')
        assert office.look() == [(DRIVE, ["label_tasks", *JUDGED])]
        office.judge("label_tasks")
        [row] = quarantine.listing(office.lake)
        assert (row["stage"], row["code"], row["file"]) == ("label_tasks", "bad_gold", str(gold))
        assert office.look() == []
        gold.unlink()
        assert office.look() == [(DRIVE, ["label_tasks", *JUDGED])]
        office.judge("label_tasks")
        assert quarantine.listing(office.lake) == []
        assert office.look() == []


class TestGoodWork:
    def test_two_people_in_two_formats_make_every_frame_final(self, office: Office) -> None:
        """And the sensor asks once for each file that came, for nothing else."""
        assert office.look() == []
        frames = office.proposals()
        [first] = office.hand_in(office.write("anna", "coco", by("anna", frames)))
        assert office.look() == [(DRIVE, JUDGED)]
        assert office.look() == []
        office.judge()
        assert (office.failed(), set(office.states())) == ([], {"in_review"})
        [second] = office.hand_in(office.write("ben", "cvat", by("ben", frames, off_px=1.0)))
        assert office.look() == [(DRIVE, JUDGED)]
        office.judge()
        assert office.look() == []
        assert (office.failed(), set(office.states())) == ([], {"final"})
        boxes = sum(len(f.boxes) for f in frames)
        for name in (first, second):
            told = office.account()["files"][name]
            assert (told["accepted"], told["accepted_boxes"]) == (len(frames), boxes)
            assert (told["rejected"], told["rejected_boxes"], told["unreadable"]) == (0, 0, "")
        made = office.rows("verified_labels", "labels.parquet")
        assert len(made) == boxes
        assert {row["rule"] for row in made} == {"human"}
        digest = office.lake.require("verified_labels", DRIVE).digest
        assert office.hand_in(office.write("ben", "cvat", by("ben", frames, off_px=1.0))) == [second]
        assert office.look() == [], "the same file again is no other input"
        office.judge()
        assert office.lake.require("verified_labels", DRIVE).digest == digest

    def test_a_label_studio_file_of_several_people_does_the_same(self, office: Office) -> None:
        frames = office.proposals()
        both = [f for one in frames for f in (*by("anna", [one]), *by("ben", [one], off_px=1.0))]
        office.hand_in(office.write("both", "label-studio", both))
        office.judge()
        assert (office.failed(), set(office.states())) == ([], {"final"})
        assert len(office.rows("verified_labels", "labels.parquet")) == sum(len(f.boxes) for f in frames)

    def test_who_corrects_themselves_is_taken_at_their_last_word(self, office: Office) -> None:
        frames = office.proposals()[:1]
        wrong, right = by("anna", frames, 200.0, submitted_ns=1), by("anna", frames, submitted_ns=2)
        names = office.hand_in(
            office.write("right", "coco", right),
            office.write("wrong", "cvat", wrong),
            office.write("ben", "coco", by("ben", frames, 1.0)),
        )
        office.judge()
        assert sorted(office.states()) == ["final"] + ["queued"] * (len(office.proposals()) - 1)
        [whole] = [r for r in office.rows("label_submissions", "rejected.parquet") if r["row"] == WHOLE]
        assert (whole["origin"], whole["constraint"]) == (names[1], "duplicate_submission")
        assert len(office.rows("verified_labels", "labels.parquet")) == len(frames[0].boxes)


class TestDisputes:
    @pytest.mark.parametrize("format_", FORMATS)
    def test_a_third_person_decides_with_the_exported_file(self, office: Office, format_: str) -> None:
        frames = office.proposals()[:3]
        shifted = [*by("ben", frames[:1], 40.0), *by("ben", frames[1:], 1.0)]
        office.hand_in(
            office.write("anna", "coco", by("anna", frames)), office.write("ben", "label-studio", shifted)
        )
        office.judge()
        assert office.states()[:3] == ["adjudication", "final", "final"]
        exported = office.export(format_, "adjudicate")
        assert "anna" not in exported.read_text()
        assert "ben" not in exported.read_text()
        assert [p.name for p in (exported.parent / "pictures").iterdir()] == [f"{frames[0].task_id}.jpg"]
        decided = EDITS[format_](exported, office.home / "desk")
        own = office.hand_in(decided, annotator="anna")
        office.judge()
        assert office.states()[0] == "adjudication", "nobody decides about their own work"
        reasons = [r for r in office.rows("label_submissions", "rejected.parquet") if r["row"] == WHOLE]
        assert [(r["origin"], r["constraint"]) for r in reasons] == [(own[0], "self_review")]
        (office.folder / own[0]).unlink()
        office.hand_in(decided, annotator="dora")
        assert office.look() == [(DRIVE, JUDGED)]
        office.judge()
        assert (office.states()[0], office.account()["constraints"]) == ("final", {})
        steps = json.loads(av("labels", "audit", frames[0].task_id, "--json").output)
        assert (steps[-1]["by"], steps[-1]["role"], steps[-1]["state_to"]) == ("dora", "adjudicate", "final")
        found = [
            r for r in office.rows("verified_labels", "labels.parquet") if r["ref_ns"] == ref_ns(frames[0])
        ]
        assert sorted(r["x1"] for r in found) == pytest.approx(
            sorted(b.x1 for b in frames[0].boxes), abs=0.01
        )
        done = av("labels", "export", DRIVE, "--format", format_, "--round", "adjudicate", "--out", "none")
        assert "[nothing_to_label]" in done.output
        assert done.exit_code == 1


def ref_ns(frame: ReturnedSubmission) -> int:
    return int(frame.task_id.rpartition(".")[2])


def _edit_coco(exported: Path, desk: Path) -> Path:
    """The first answer is right: the second one is taken out."""
    whole = json.loads(exported.read_text())
    kept = whole["images"][0]
    whole["images"] = [kept]
    whole["annotations"] = [a for a in whole["annotations"] if a["image_id"] == kept["id"]]
    (desk / "decided.json").write_text(json.dumps(whole))
    return desk / "decided.json"


def _edit_cvat(exported: Path, desk: Path) -> Path:
    text = exported.read_text()
    second = text.index("<image", text.index("<image") + 1)
    (desk / "decided.xml").write_text(text[:second] + text[text.rindex("</image>") + len("</image>") :])
    return desk / "decided.xml"


def _edit_label_studio(exported: Path, desk: Path) -> Path:
    """As the tool does when a person takes a prediction over; it is not told who they are."""
    [task] = json.loads(exported.read_text())
    taken = {"id": 7, "completed_by": None, "lead_time": 9.5, "result": task["predictions"][0]["result"]}
    (desk / "decided.json").write_text(json.dumps([{"data": task["data"], "annotations": [taken]}]))
    return desk / "decided.json"


EDITS: dict[str, Callable[[Path, Path], Path]] = {
    "coco": _edit_coco,
    "cvat": _edit_cvat,
    "label-studio": _edit_label_studio,
}
