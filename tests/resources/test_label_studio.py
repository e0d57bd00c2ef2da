"""A real Label Studio on SQLite: tasks go in, two people draw, and exactly what they drew comes back.

Belongs here: the adapter against a running server. Does not belong here: its file format (tests/domain/labels).
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image

from av_assets.domain.errors import AvError, TransientError
from av_assets.domain.labels.exchange.label_studio import tasks
from av_assets.domain.labels.exchange.returned import ReturnedBox, ReturnedSubmission, read_returned
from av_assets.erasure.execution import execute, make_plan
from resources.label_studio import TOOL, LabelStudio
from resources.lake import Lake
from resources.tool_environments import tool, tool_variables
from tests.resources.erasure_lakes import add_drive, asking, installation

pytestmark = pytest.mark.slow

DRIVE = "veh001-20250602t081500z"
OWNER, PASSWORD, TOKEN = "owner@example.org", "a long password 1", "0123456789abcdef0123456789abcdef01234567"
UP_WITHIN_S = 240


@dataclass
class Server:
    """A running server, and calls of its API as one of its users."""

    url: str
    folder: Path

    def call(self, path: str, body: object = None, **headers: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json", **headers}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def sign_up(self, mail: str) -> str:
        """A new person comes by the owner's invitation; gives that person's own access token."""
        invite = self.call("/api/invite", Authorization=f"Token {TOKEN}")["invite_url"]
        cookies = CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
        page = browser.open(self.url + invite, timeout=30).read().decode()
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert found
        form = {"email": mail, "password": PASSWORD, "csrfmiddlewaretoken": found[1]}
        browser.open(self.url + invite, urlencode(form).encode(), timeout=30).read()
        csrf = next(cookie.value for cookie in cookies if cookie.name == "csrftoken") or ""
        request = urllib.request.Request(
            f"{self.url}/api/token/", b"{}", {"Content-Type": "application/json", "X-CSRFToken": csrf}
        )
        with browser.open(request, timeout=30) as answer:
            return str(json.load(answer)["token"])

    def draw(self, personal_token: str, task: int, answer: ReturnedSubmission) -> None:
        """What the page sends when a person presses Submit."""
        access = self.call("/api/token/refresh/", {"refresh": personal_token})["access"]
        (made,) = tasks([answer])
        results = [{k: v for k, v in row.items() if k != "av"} for row in made["annotations"][0]["result"]]
        body = {"result": results, "lead_time": answer.seconds}
        self.call(f"/api/tasks/{task}/annotations/", body, Authorization=f"Bearer {access}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    try:
        command = tool(TOOL, "label-studio")
    except TransientError as error:
        pytest.skip(f"no package registry can be reached to install Label Studio: {error}")
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [command, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its reloader is a second process
            cwd=folder,
            env=tool_variables(
                LABEL_STUDIO_BASE_DATA_DIR=str(folder / "data"),
                LABEL_STUDIO_USERNAME=OWNER,
                LABEL_STUDIO_PASSWORD=PASSWORD,
                LABEL_STUDIO_USER_TOKEN=TOKEN,
                LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN="true",
                COLLECT_ANALYTICS="false",
                LATEST_VERSION_CHECK="false",
                SENTRY_DSN="",
                FRONTEND_SENTRY_DSN="",
            ),
        )
    try:
        yield _up(f"http://127.0.0.1:{port}", process, folder / "log")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _up(url: str, process: subprocess.Popen[bytes], log: Path) -> Server:
    for _ in range(UP_WITHIN_S * 2):
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return Server(url, log.parent)
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture(scope="module")
def proposals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ReturnedSubmission]]:
    """A small drive's pictures, and what a machine saw in them: in the third one nothing."""
    folder, frames = tmp_path_factory.mktemp("pictures"), []
    for number in range(3):
        task = f"{DRIVE}.camera_front.{1_750_000_000_000_000_000 + number}"
        Image.new("RGB", (640, 384), (60 * number, 90, 90)).save(folder / f"{task}.jpg")
        seen = [
            ReturnedBox("vehicle", 64.5, 96.25, 320.75, 288.0, f"auto-{number:04}", 0.25),
            ReturnedBox("pedestrian", 400.0, 100.0, 420.5, 160.0, "auto-0009", None),
        ]
        frames.append(
            ReturnedSubmission(
                submission_id="auto",
                task_id=task,
                file_name=f"{task}.jpg",
                annotator="",
                role="annotate",
                seconds=None,
                submitted_ns=None,
                width=640,
                height=384,
                units="px",
                boxes=tuple(seen if number < 2 else []),
            )
        )
    return folder, frames


def _answers(proposed: list[ReturnedSubmission]) -> list[ReturnedSubmission]:
    """Ann moves a box, drops one and draws one; Ben takes the first as it is; Ann finds the third empty."""
    first, _, third = proposed
    moved = replace(first.boxes[0], x2=330.0)
    drawn = ReturnedBox("cone", 10.0, 20.0, 30.0, 50.0, None, 0.5)
    return [
        replace(first, annotator="ann@example.org", seconds=21.5, boxes=(moved, drawn)),
        replace(first, annotator="ben@example.org", seconds=8.25),
        replace(third, annotator="ann@example.org", seconds=2.0),
    ]


def _known(submissions: list[ReturnedSubmission]) -> list[tuple[object, ...]]:
    """What a person's answer is, without the name and time that the server gave it; 1e-9 px is percent's rounding."""
    return sorted(
        (
            *(s.task_id, s.file_name, s.annotator, s.role, s.seconds, s.width, s.height, s.units),
            tuple(
                (b.cls, b.label_id, b.occlusion, *(round(v, 9) for v in (b.x1, b.y1, b.x2, b.y2)))
                for b in s.boxes
            ),
        )
        for s in submissions
    )


def test_what_two_people_draw_comes_back_exactly(
    server: Server, proposals: tuple[Path, list[ReturnedSubmission]], tmp_path: Path
) -> None:
    pictures, proposed = proposals
    owner = str(server.call("/api/token/", {}, Authorization=f"Token {TOKEN}")["token"])
    studio = LabelStudio(server.url, owner)  # a personal access token, as the server hands them out

    assert studio.drives() == []
    first = studio.push(DRIVE, "annotate", proposed[:2], pictures, annotations=2)
    assert (first["pushed"], first["already"]) == (2, 0)
    again = studio.push(DRIVE, "annotate", proposed, pictures, annotations=2)
    assert (again["pushed"], again["already"], again["project"]) == (1, 2, first["project"])
    assert studio.drives() == [DRIVE]
    assert studio.pull(DRIVE, tmp_path) == []  # nobody has drawn anything

    listed = server.call(f"/api/tasks?project={first['project']}&fields=all", Authorization=f"Token {TOKEN}")
    ids = {task["data"]["task_id"]: task["id"] for task in listed["tasks"]}
    assert len(listed["tasks"]) == len(ids) == 3
    one = next(task for task in listed["tasks"] if task["data"]["task_id"] == proposed[0].task_id)
    assert {row["id"] for row in one["predictions"][0]["result"]} == {"auto-0000", "auto-0009"}
    picture = urllib.request.Request(
        server.url + one["data"]["image"], headers={"Authorization": f"Token {TOKEN}"}
    )
    with urllib.request.urlopen(picture, timeout=30) as served:
        assert served.read() == (pictures / proposed[0].file_name).read_bytes()

    people = {mail: server.sign_up(mail) for mail in ("ann@example.org", "ben@example.org")}
    assert studio.annotators() == sorted([*people, OWNER])
    answers = _answers(proposed)
    for answer in answers:
        server.draw(people[answer.annotator], ids[answer.task_id], answer)

    (file,) = studio.pull(DRIVE, tmp_path)
    returned = read_returned(file)
    assert _known(returned) == _known(answers)
    assert len({submission.submission_id for submission in returned}) == 3
    assert all(submission.submitted_ns for submission in returned)
    assert studio.pull(DRIVE, tmp_path) == []  # nothing new: the file stays as it is

    other = "veh002-20250602t081500z"
    studio.push(other, "annotate", proposed[:1], pictures)
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "scratch"))
    add_drive(lake, tmp_path, DRIVE)
    place = dataclasses.replace(installation(lake, tmp_path), label_studio=studio)
    receipt = execute(place, make_plan(place, asking(DRIVE), 1).id, 2)
    assert receipt.removed["files"][f"label_studio/upload/{first['project']}"] == 1
    assert studio.drives() == [other]
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(picture, timeout=30)
    assert studio.forget(DRIVE) == []
    # No call of the server takes files away: who runs it does, by the folder that the receipt names.
    assert len(list((server.folder / "data" / "media" / "upload" / str(first["project"])).iterdir())) == 3


def test_a_token_that_the_server_does_not_know_is_refused_and_not_repeated(server: Server) -> None:
    with pytest.raises(AvError, match="label_studio_refused") as refused:
        LabelStudio(server.url, "f" * 40).drives()
    assert "f" * 40 not in str(refused.value)
    assert "f" * 40 not in repr(LabelStudio(server.url, "f" * 40))


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(TransientError, match="label_studio_unreachable"):
            LabelStudio(f"http://127.0.0.1:{nobody.getsockname()[1]}", TOKEN).pull(DRIVE, tmp_path)
