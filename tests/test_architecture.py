"""The shape of the code: who may import whom, who reads the environment, how modules are named and described.

Belongs here: rules that hold for every module. Does not belong here: the graph of assets (test_graph.py).
The directions between packages are held by import-linter (.importlinter); what it cannot see is held here.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("av_assets", "partitions", "resources", "sensors")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
DOMAIN = [path for path in SOURCES if path.is_relative_to(ROOT / "av_assets" / "domain")]
PLATFORM = {"dagster", "resources", "sensors", "partitions"}
GROUPS = {"foundations", "mining", "training", "promotion", "monitoring", "reliability", "locations"}
NETWORK = {"urllib.request", "http.client", "requests", "httpx", "socket", "boto3", "obstore"}
HEAVY = {"torch", "cv2", "onnxruntime", "evidently", "wandb", "lancedb", "deltalake"}
MAX_LINES = 350


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def breaking(rule: Callable[[Path], Any], paths: Iterable[Path] = SOURCES) -> dict[str, Any]:
    """What `rule` finds in each module where it finds anything: one test per rule, since one per module and rule
    would be thousands."""
    return {named(path): found for path in paths if (found := rule(path))}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(path: Path) -> set[str]:
    """Dotted names of all that the module imports, at its top or inside functions; relative ones made absolute."""
    found = set()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def attributes(path: Path) -> set[str]:
    """`a.b.c` chains that the module names, with imported names spelt out in full."""
    names = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {
                (a.asname or a.name.split(".")[0]): (a.name if a.asname else a.name.split(".")[0])
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return {
        ".".join([names.get(parts[0], parts[0]), *parts[1:]])
        for node in ast.walk(tree(path))
        if (parts := _chain(node))
    }


def _chain(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (inner := _chain(node.value)):
        return [*inner, node.attr]
    return []


def reads_environment(path: Path) -> set[str]:
    doors = ("os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv")
    return {name for name in attributes(path) | imports(path) if name.startswith(doors)}


def knows_the_platform(path: Path) -> set[str]:
    groups = tuple(f"av_assets.{group}" for group in GROUPS)
    return {
        name
        for name in imports(path)
        if name.split(".")[0] in PLATFORM or name.startswith(("dagster", *groups))
    }


def test_domain_knows_nothing_of_the_platform() -> None:
    assert breaking(knows_the_platform, DOMAIN) == {}


def takes_unasked(path: Path) -> set[str]:
    """Clocks, chance and networks that the module reaches for itself."""
    clocks = {
        "time.time",
        "time.time_ns",
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.date.today",
    }
    # Teaching sets the generators that libraries draw from: their states are part of a checkpoint.
    seeds = (
        set()
        if named(path) == "av_assets/domain/learning/precision.py"
        else {"random.seed", "numpy.random.seed"}
    )
    chances = seeds | {
        "random.random",
        "numpy.random.rand",
        "numpy.random.randn",
        "uuid.uuid4",
    }
    return (attributes(path) & (clocks | chances)) | (imports(path) & NETWORK)


def test_domain_takes_time_chance_and_network_as_arguments() -> None:
    assert breaking(takes_unasked, DOMAIN) == {}


def test_environment_is_read_in_one_place() -> None:
    assert set(breaking(reads_environment)) <= {"resources/environment.py"}


def test_module_is_named_after_what_it_holds() -> None:
    empty = {"utils", "helpers", "common", "misc", "util", "helper"}
    assert breaking(lambda path: {path.stem, *path.relative_to(ROOT).parts} & empty) == {}


def test_module_says_what_it_is() -> None:
    assert breaking(lambda path: not ast.get_docstring(tree(path))) == {}


def test_file_is_read_in_one_sitting() -> None:
    def lines(path: Path) -> int:
        return len(path.read_text("utf-8").splitlines())

    assert breaking(lambda path: lines(path) > MAX_LINES and lines(path)) == {}


def test_pods_are_spelt_in_one_place() -> None:
    spelt = {named(path) for path in SOURCES if "dagster-k8s/config" in path.read_text("utf-8")}
    assert spelt <= {"resources/compute.py"}


def test_loading_a_location_imports_nothing_heavy() -> None:
    script = f"import sys, av_assets.definitions; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


class TestTheseRulesBite:
    """A rule that nothing can break holds nothing."""

    @pytest.mark.parametrize(
        "code",
        [
            "import os\nos.environ['A']",
            "import os as o\no.getenv('A')",
            "from os import environ",
            "from os import getenv as g",
        ],
    )
    def test_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
        assert reads_environment(self._module(tmp_path, monkeypatch, code))

    def test_imports_inside_functions_and_relative_ones(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code = "from ..production import produce\ndef f():\n    import dagster.core\n    from resources import lake\n"
        found = imports(self._module(tmp_path, monkeypatch, code))
        assert {"av_assets.production", "dagster.core", "resources.lake"} <= found

    def test_clocks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        code = "from datetime import datetime as d\nimport time as t\nd.now()\nt.time()"
        assert takes_unasked(self._module(tmp_path, monkeypatch, code)) == {
            "datetime.datetime.now",
            "time.time",
        }

    def test_chance_and_networks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        code = "import numpy as np\nimport socket\nnp.random.seed(0)"
        assert takes_unasked(self._module(tmp_path, monkeypatch, code)) == {"numpy.random.seed", "socket"}

    def test_platform(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        code = "def f():\n    import dagster\n    from av_assets.mining import scenes\n    import json"
        path = self._module(tmp_path, monkeypatch, code)
        assert knows_the_platform(path) == {"dagster", "av_assets.mining", "av_assets.mining.scenes"}
        assert breaking(knows_the_platform, [path]).keys() == {"av_assets/domain/planted.py"}

    def _module(self, folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Path:
        monkeypatch.setattr(sys.modules[__name__], "ROOT", folder)
        path = folder / "av_assets" / "domain" / "planted.py"
        path.parent.mkdir(parents=True)
        path.write_text(code)
        return path
