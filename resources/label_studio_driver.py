"""Drives a Label Studio server through its SDK: run by the python of the tool environment `label-studio`.

Reads one JSON request on stdin and writes one JSON answer on stdout: {"answer": ...} or {"error": code, "reason": ...}.
The token comes in with the request, never by argument or variable, and no answer repeats it or what a server said.
Belongs here: calls of the SDK. Does not belong here: imports of this project, which that environment does not have.
"""

from __future__ import annotations

import json
import mimetypes
import sys
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

BATCH = 50
"""Pictures of one upload: the server takes at most 100 files at a time."""
TIMEOUT_S = 60.0


def push(client: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Import the tasks that the project does not have, with their pictures; make the project where there is none.

    What a task is called (`data.task_id`) decides: one that is there is left as it is, whatever became of it.
    """
    project = _project(client, request["project"])
    if project is None:
        project = client.projects.create(
            title=request["project"],
            label_config=request["config"],
            description=request["description"],
            maximum_annotations=request["annotations"],
            show_collab_predictions=True,
        ).id
    there = {task.data.get("task_id") for task in client.tasks.list(project=project, page_size=500)}
    due = [task for task in request["tasks"] if task["data"]["task_id"] not in there]
    for start in range(0, len(due), BATCH):
        batch = due[start : start + BATCH]
        names = [task["data"]["file_name"] for task in batch]
        places = _upload(client, project, [Path(request["pictures"]) / name for name in names])
        tasks = [
            {**task, "data": {**task["data"], "image": place}}
            for task, place in zip(batch, places, strict=True)
        ]
        client.projects.import_tasks(id=project, request=tasks)
    return {"project": project, "pushed": len(due), "already": len(request["tasks"]) - len(due)}


def pull(client: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Write every task of each project with all its annotations into the file named for it; None: no such project."""
    people = {user.id: user.email for user in client.users.list()}
    found: dict[str, Any] = {}
    for title, path in request["projects"].items():
        project = _project(client, title)
        if project is None:
            found[title] = None
            continue
        tasks = client.projects.exports.as_json(project)
        for task in tasks:
            for annotation in task.get("annotations", []):
                who = annotation.get("completed_by")
                annotation["completed_by"] = {"id": who, "email": people.get(who, "")}
        Path(path).write_text(json.dumps(tasks), "utf-8")
        found[title] = sum(len(task.get("annotations", [])) for task in tasks)
    return found


def projects(client: Any, request: dict[str, Any]) -> list[tuple[str, int]]:
    """Title and number of all projects."""
    return sorted((project.title, project.id) for project in client.projects.list())


def forget(client: Any, request: dict[str, Any]) -> list[str]:
    """Delete every project with one of the titles and what the server knows of it; gives the titles that were there."""
    found = [project for project in client.projects.list() if project.title in request["projects"]]
    for project in found:
        client.files.delete_many(project.id)
        client.projects.delete(project.id)
    return sorted({project.title for project in found})


def annotators(client: Any, request: dict[str, Any]) -> list[str]:
    """Mail addresses of everybody who can draw."""
    return sorted(user.email for user in client.users.list())


def _project(client: Any, title: str) -> int | None:
    """The project of that title; the oldest, should somebody have made a second one."""
    return min((project.id for project in client.projects.list() if project.title == title), default=None)


def _upload(client: Any, project: int, pictures: list[Path]) -> list[str]:
    """Addresses of the pictures on the server, in their order."""
    wrapper = client._client_wrapper  # the SDK has no call for files that are not tasks by themselves
    with ExitStack() as opened:
        files = {
            picture.name: (
                picture.name,
                opened.enter_context(picture.open("rb")),
                mimetypes.guess_type(picture.name)[0] or "application/octet-stream",
            )
            for picture in pictures
        }
        answer = wrapper.httpx_client.httpx_client.post(
            f"{wrapper.get_base_url().rstrip('/')}/api/projects/{project}/import",
            params={"commit_to_project": "false"},
            headers=wrapper.get_headers(),
            files=files,
            timeout=TIMEOUT_S,
        )
    if answer.status_code >= 300:
        raise RefusedError(answer.status_code)
    uploaded = [client.files.get(key).file for key in answer.json()["file_upload_ids"]]
    places = {name.rsplit("/", 1)[-1].split("-", 1)[1]: f"/data/{name}" for name in uploaded}
    return [places[picture.name] for picture in pictures]


class RefusedError(Exception):
    """The server answered with an error; holds the status alone."""


ACTIONS = {"push": push, "pull": pull, "projects": projects, "forget": forget, "annotators": annotators}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    import httpx
    from label_studio_sdk.client import LabelStudio
    from label_studio_sdk.core.api_error import ApiError

    try:
        client = LabelStudio(base_url=request["url"], api_key=request["token"], timeout=TIMEOUT_S)
        return {"answer": ACTIONS[request["action"]](client, request)}
    except ApiError as error:
        return {"error": "label_studio_refused", "reason": f"status {error.status_code}"}
    except RefusedError as error:
        return {"error": "label_studio_refused", "reason": f"status {error}"}
    except httpx.HTTPError as error:
        return {"error": "label_studio_unreachable", "reason": type(error).__name__}


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        given = answer(json.load(sys.stdin))
    json.dump(given, sys.stdout)
