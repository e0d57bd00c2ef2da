"""Tools that do not live beside the platform's own packages get a virtual environment of their own.

What is in it is pinned by `deployments/tools/<name>.txt`; the folder's name holds the digest of that file, so that
other pins are another environment. It is made at its first use and shared by all processes of the machine.
Belongs here: making and finding environments. Does not belong here: what is done with the tools in them.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

from av_assets.domain.errors import TransientError
from av_assets.domain.evidence.digests import sha256_file
from resources.environment import PROJECT, child_environment, environment

PINS = PROJECT / "deployments" / "tools"
READY = "ready"
INSTALL_TIMEOUT_S = 1200
# Environments that do not run on the platform's own interpreter, and why. Triton's python backend is linked against the
# library of Debian's Python 3.11 and fails with the standard library of another patch release.
INTERPRETERS = {"triton": "/usr/bin/python3.11"}


def tool(name: str, command: str) -> Path:
    """The executable `command` of the environment `name`, e.g. `tool("dvc", "dvc")`.

    Raises:
        TransientError: tool_not_installed, the environment cannot be made here (no registry, no disk).
    """
    return tool_environment(name) / "bin" / command


def tool_environment(name: str) -> Path:
    """The folder of the environment, made now if this is its first use.

    Raises:
        TransientError: tool_not_installed.
    """
    pins, folder = _place(name)
    if installed(name):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two processes one installs and the other waits for it
        if not installed(name):
            _install(name, pins, folder)
    return folder


def installed(name: str) -> bool:
    """Whether the environment is here already: making it takes minutes, which a sensor does not have."""
    return (_place(name)[1] / READY).is_file()


def tool_variables(**more: str) -> dict[str, str]:
    """The variables that a tool's process gets: this process's without its interpreter's, and `more`."""
    kept = {
        k: v for k, v in child_environment().items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    return kept | more


def _place(name: str) -> tuple[Path, Path]:
    """The file of pins, and the folder of the environment that holds them."""
    pins = PINS / f"{name}.txt"
    return pins, environment().tools / f"{name}-{sha256_file(pins)[:12]}"


def _install(name: str, pins: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what an attempt that died has left
    python = INTERPRETERS.get(name, sys.executable)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    options = ["--quiet", "--disable-pip-version-check", "-r", str(pins)]
    try:
        # This interpreter's pip installs into it: another one may have come without.
        subprocess.run(
            [python, "-m", "venv", "--without-pip", str(folder)], check=True, capture_output=True, timeout=120
        )
        subprocess.run(
            [*pip, *options],
            check=True,
            capture_output=True,
            timeout=INSTALL_TIMEOUT_S,
            env=tool_variables(),
        )
    except (subprocess.SubprocessError, OSError) as error:
        # The client's own words may hold addresses and credentials of the registry: they are not repeated.
        raise TransientError(
            f"the tools of {name} could not be installed",
            code="tool_not_installed",
            file=pins.name,
            remedy=f"check that pip reaches a package registry: pip install -r deployments/tools/{pins.name}",
        ) from error
    (folder / READY).touch()
