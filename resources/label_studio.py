"""A Label Studio server: tasks go to it, what people drew comes back. One project for each drive and round.

Its SDK runs in the tool environment `label-studio`, behind `label_studio_driver.py`. What comes back is a file of the
folder that all tools hand over in, so that nothing later knows a server. Only redacted pictures are given to it.
Belongs here: talking to the server. Does not belong here: the format (domain/labels/exchange), which tasks there are.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from av_assets.domain.errors import AvError, TransientError
from av_assets.domain.labels.exchange.label_studio import label_config, tasks
from av_assets.domain.labels.exchange.returned import ReturnedSubmission
from av_assets.domain.labels.schema import CLASSES
from resources.environment import environment
from resources.tool_environments import tool, tool_variables

TOOL: Final = "label-studio"
ROUNDS: Final = ("annotate", "review", "adjudicate")
DRIVER: Final = Path(__file__).with_name("label_studio_driver.py")
TIMEOUT_S: Final = 600


@dataclass(frozen=True)
class LabelStudio:
    """A server; the token is a personal access token, or a legacy one where the server still takes those.

    Attributes:
        timeout_s: the longest that one call may take.
    """

    url: str
    token: str = field(repr=False)
    timeout_s: float = TIMEOUT_S

    def push(
        self,
        drive: str,
        round_: str,
        frames: Sequence[ReturnedSubmission],
        pictures: Path,
        annotations: int = 1,
    ) -> dict[str, int]:
        """Import the tasks that the project of this round does not have yet; nothing is ever imported twice.

        Args:
            frames: what is proposed, one or several for each task, with no annotator.
            pictures: folder with the redacted picture of each task, by `file_name`.
            annotations: people who are to draw each task.

        Returns:
            The numbers of tasks `pushed` and `already` there, and of the `project`.

        Raises:
            TransientError: label_studio_unreachable, label_studio_failed, tool_not_installed.
            AvError: label_studio_refused.
        """
        found = self._drive(
            "push",
            project=_title(drive, round_),
            config=label_config(CLASSES),
            description=f"{round_}: objects of {drive}",
            annotations=annotations,
            tasks=list(tasks(frames)),
            pictures=str(pictures.absolute()),
        )
        return {name: int(found[name]) for name in ("project", "pushed", "already")}

    def pull(self, drive: str, folder: Path) -> list[Path]:
        """Bring the annotations of all rounds into `folder`; gives the files that are others than before.

        Raises:
            TransientError, AvError: as `push`.
        """
        changed = []
        with tempfile.TemporaryDirectory() as temporary:
            fresh = {r: Path(temporary) / f"label-studio-{r}.json" for r in ROUNDS}
            found = self._drive("pull", projects={_title(drive, r): str(path) for r, path in fresh.items()})
            for round_, path in fresh.items():
                target, count = folder / path.name, found[_title(drive, round_)]
                if count or (count is not None and target.is_file()):
                    data = path.read_bytes()
                    if not target.is_file() or target.read_bytes() != data:
                        _replace(target, data)
                        changed.append(target)
        return changed

    def forget(self, drive: str) -> list[str]:
        """Delete the drive's projects of all rounds, with tasks and annotations; gives their titles.

        The server serves no picture of them any more, and leaves the files in its media folder: see `uploads`.

        Raises:
            TransientError, AvError: as `push`.
        """
        titles = [_title(drive, round_) for round_ in ROUNDS]
        return [str(title) for title in self._drive("forget", projects=titles)]

    def drives(self) -> list[str]:
        """Drives that have a project of any round."""
        return sorted({drive for drive, _ in self._projects()})

    def uploads(self, drives: Collection[str]) -> dict[str, str]:
        """Folder `upload/<project>` below the server's media folder -> drive, for each project of the drives."""
        return {f"upload/{number}": drive for drive, number in self._projects() if drive in drives}

    def _projects(self) -> list[tuple[str, int]]:
        ends = tuple(_title("", round_) for round_ in ROUNDS)
        return [
            (title.rsplit(" - ", 1)[0], number)
            for title, number in self._drive("projects")
            if title.endswith(ends)
        ]

    def annotators(self) -> list[str]:
        """Mail addresses of everybody who can draw there."""
        return [str(who) for who in self._drive("annotators")]

    def _drive(self, action: str, **request: Any) -> Any:
        given = json.dumps({"action": action, "url": self.url, "token": self.token, **request})
        try:
            done = subprocess.run(
                [str(tool(TOOL, "python")), str(DRIVER)],
                input=given,
                capture_output=True,
                text=True,
                timeout=self.timeout_s,
                env=tool_variables(),
            )
            answer = json.loads(done.stdout)
        except (subprocess.SubprocessError, json.JSONDecodeError, OSError) as error:
            # What the driver printed may hold what a server said: it is not repeated.
            raise TransientError(
                f"{action} did not come to an end ({type(error).__name__})",
                code="label_studio_failed",
                remedy="look at the log of the Label Studio server, then run it again",
            ) from None
        if "error" in answer:
            raise _error(action, answer)
        return answer["answer"]


def configured() -> LabelStudio | None:
    """The server of this installation, if it has one.

    Raises:
        AvError: label_studio_refused, an address that is none.
    """
    here = environment()
    if not here.label_studio:
        return None
    if not here.label_studio.startswith(("http://", "https://")):
        raise AvError(
            "the address of Label Studio is not one of http or https",
            code="label_studio_refused",
            remedy="set AV_LABEL_STUDIO_URL to the address that a browser uses, e.g. https://labels.example.org",
        )
    return LabelStudio(here.label_studio, here.label_studio_token)


def _title(drive: str, round_: str) -> str:
    return f"{drive} - {round_}"


def _replace(target: Path, data: bytes) -> None:
    """A reader finds the old file or the new one, and never half of one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(data)
    part.replace(target)


def _error(action: str, answer: dict[str, str]) -> AvError:
    if answer["error"] == "label_studio_unreachable":
        return TransientError(
            f"Label Studio cannot be reached for {action} ({answer['reason']})",
            code="label_studio_unreachable",
            remedy="check AV_LABEL_STUDIO_URL and that the server runs",
        )
    return AvError(
        f"Label Studio refused {action} ({answer['reason']})",
        code="label_studio_refused",
        remedy="check AV_LABEL_STUDIO_TOKEN: a personal access token of a user who may manage projects",
    )
