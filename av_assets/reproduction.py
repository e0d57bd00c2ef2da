"""Making a recorded result again, and telling why two evaluations differ: what `av reproduce` and `av diff` do.

Nothing is published here. Inputs are those that the manifest names by digest, whatever is current now.
Belongs here: what is read from the lake for it. Does not belong here: comparing (`domain/reproduction`), printing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from av_assets.domain.errors import EvidenceError, PolicyError
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.evidence.manifest import FileEntry, Manifest, bundle_name
from av_assets.domain.reproduction.files import FileState, compare_files, where_json_differs
from av_assets.domain.reproduction.ingredients import Difference, Origin, differences
from av_assets.production import environment_digest
from av_assets.releases import dataset_of, is_named_after

if TYPE_CHECKING:
    from av_assets.domain.reproduction.rescoring import Evaluation
    from av_assets.policies.evaluation import EvaluationPolicy
    from av_assets.policies.training import TrainingPolicy
    from resources.lake import Lake

CHECKPOINTS, BUNDLES, EVALS, GOLDEN = "checkpoints", "model_bundles", "eval_reports", "golden_slices"
FACTS_FILE: Final = "environment.json"
CHAIN: Final = (EVALS, BUNDLES, CHECKPOINTS)
NO_PART_OF_A_MODEL: Final = {
    # A dataset and thresholds choose the smaller precisions of a bundle; evaluations run the float32 network.
    BUNDLES: (CHECKPOINTS, GOLDEN, "evaluation"),
    CHECKPOINTS: ("dataset_digest",),
}
"""Ingredients that change nothing of what the evaluated network says, or that are told by another name."""
LABEL_FILES: Final = ("dataset.json", "index.parquet", "drives/*/*.parquet", "drives/*/*.json")


def reproduce(lake: Lake, name: str, out: Path) -> dict[str, Any]:
    """Make `checkpoints/<release>` or `eval_reports/<release>` again below `out` and compare it file by file.

    Raises:
        EvidenceError: missing_bundle; missing_input, something that it was made from is gone; not_reproducible, the
            name is of another asset.
        DatasetError: erased_version.
        PolicyError: other_policy, its numbers are not known any more.
    """
    asset, _, release = name.partition("/")
    if asset not in (CHECKPOINTS, EVALS):
        raise EvidenceError(
            f"{name} is neither a checkpoint nor an evaluation",
            code="not_reproducible",
            remedy=f"name {CHECKPOINTS}/RELEASE or {EVALS}/RELEASE",
        )
    recorded = lake.require(asset, release)
    inputs = inputs_of(lake, recorded)
    with lake.workdir() as folder:
        folders = {m.asset: lake.checkout(m, _made(folder / m.asset)) for m in inputs.values()}
        if asset == CHECKPOINTS:
            policies = _teach(lake, recorded, folders[GOLDEN], _made(out))
        else:
            policies = _evaluate(lake, recorded, folders, _made(out))
    files = _compared(lake, recorded, out)
    then = _origin(lake, recorded)
    differing = differences(then, _now(recorded, then, policies, _facts_of(out)))
    return {
        "name": name,
        "manifest": recorded.digest,
        "identical": all(f.state in ("identical", "extra") for f in files),
        "files": [{"path": f.path, "state": f.state, "where": list(f.where)} for f in files],
        "ingredients": [d.to_dict() for d in differing],
        "note": _ended_early(lake, recorded),
        "misnamed": _misnamed(recorded, inputs),
        "out": str(out),
    }


def inputs_of(lake: Lake, manifest: Manifest) -> dict[str, Manifest]:
    """The very bundles that a bundle of a release was made from.

    Raises:
        EvidenceError: missing_input. DatasetError: erased_version.
    """
    found = {}
    for bundle, digest in manifest.made_from.inputs.items():
        if bundle.startswith(f"{GOLDEN}/"):
            found[bundle] = dataset_of(lake, manifest.partition, manifest)
            continue
        held = lake.past_manifest(bundle, digest)
        if held is None:
            raise EvidenceError(
                f"{bundle} with digest {digest[:12]} is gone",
                code="missing_input",
                file=bundle_name(manifest.asset, manifest.partition),
            )
        found[bundle] = held
    return found


def explain(
    lake: Lake, before: str, after: str, folder: Path, policies: Mapping[str, EvaluationPolicy]
) -> Any:
    """Why the figures of two evaluations differ: parts per slice and metric, and what differs behind each part.

    Args:
        folder: an empty folder for labels and predictions.
        policies: evaluation policies by digest, besides the shipped one.
    """
    from av_assets.domain.reproduction.rescoring import Exchange, changes, slices_of

    sides = [lake.require(EVALS, name.partition("/")[2]) for name in (before, after)]
    causes = _causes(lake, *sides)
    unresolved = [m.made_from.policies.get("evaluation", "") for m in sides]
    known = [_policy(digest, policies) for digest in unresolved]
    if known[0] is None or known[1] is None:
        from av_assets.policies.evaluation import EvaluationPolicy

        # Without the numbers of one side nothing can be exchanged: what they did is in the part `code`.
        causes["code"] = causes.pop("thresholds") + causes["code"]
        causes["thresholds"] = []
        known = [EvaluationPolicy.load()] * 2
    made = [
        _evaluation(lake, manifest, policy, folder / side)
        for manifest, policy, side in zip(sides, known, ("before", "after"), strict=True)
        if policy is not None
    ]
    exchange = Exchange(*made)
    return {
        "before": before,
        "after": after,
        "frames": exchange.frames,
        "slices": changes(exchange, slices_of(*made)),
        "because": {part: [d.to_dict() for d in found] for part, found in causes.items()},
        "model_part": _model_part(causes["model"]),
    }


def _evaluation(lake: Lake, manifest: Manifest, policy: EvaluationPolicy, folder: Path) -> Evaluation:
    from av_assets.domain.reproduction.rescoring import Evaluation

    [golden] = [m for m in inputs_of(lake, manifest).values() if m.asset == GOLDEN]
    dataset = lake.checkout(golden, _made(folder / "dataset"), *LABEL_FILES)
    kept = lake.checkout(manifest, _made(folder / "eval"), "predictions.parquet")
    report = json.loads(lake.read_bytes(manifest, "report.json"))
    return Evaluation(report, kept / "predictions.parquet", dataset, policy)


def _causes(lake: Lake, before: Manifest, after: Manifest) -> dict[str, list[Difference]]:
    """What differs behind each part, found by walking from the evaluations to what they were made from."""
    a, b = ({m.asset: m for m in _walk(lake, side)} for side in (before, after))
    found: dict[str, list[Difference]] = {
        part: [] for part in ("code", "data", "labels", "model", "thresholds")
    }
    for one in differences(_origin(lake, before), _origin(lake, after)):
        if one.ingredient == "policy":
            found["thresholds"].append(one)
        elif one.what == GOLDEN:
            found["data"].append(one)
            found["labels"].append(one)
        elif one.ingredient in ("code version", "environment"):
            found["code"].append(one)
    for asset in (BUNDLES, CHECKPOINTS):
        if asset in a and asset in b:
            pair = differences(_origin(lake, a[asset]), _origin(lake, b[asset]))
            found["model"] += [_of_model(d, asset) for d in pair if d.what not in NO_PART_OF_A_MODEL[asset]]
    return found


def _of_model(found: Difference, asset: str) -> Difference:
    kinds = {"policy": "training config" if asset == CHECKPOINTS else "packaging config"}
    kinds |= {"input content": "training data", "code version": f"{asset} code"}
    return Difference(kinds.get(found.ingredient, found.ingredient), found.what, found.before, found.after)


def _model_part(found: list[Difference]) -> str:
    """What the model's part is the part of: one ingredient alone is told, several cannot be parted without teaching."""
    kinds = list(dict.fromkeys(d.ingredient for d in found))
    return " and ".join(kinds) if kinds else "nothing that is recorded"


def _walk(lake: Lake, manifest: Manifest) -> Iterator[Manifest]:
    """A bundle and those of the model's chain that it was made from."""
    yield manifest
    for above in inputs_of(lake, manifest).values():
        if above.asset in CHAIN:
            yield from _walk(lake, above)


def _origin(lake: Lake, manifest: Manifest) -> Origin:
    """Inputs by asset, since the same input may lie under the name of another week or release."""
    contents: dict[str, str] = {}
    for bundle, digest in manifest.made_from.inputs.items():
        held = lake.past_manifest(bundle, digest)
        contents[bundle.partition("/")[0]] = _files_digest(held) if held else digest
    paths = {f.path for f in manifest.files}
    facts = json.loads(lake.read_bytes(manifest, FACTS_FILE)) if FACTS_FILE in paths else {}
    return Origin(manifest.made_from, contents, facts)


def _files_digest(manifest: Manifest) -> str:
    from av_assets.domain.evidence.digests import sha256_json

    return sha256_json([f.model_dump() for f in manifest.files])


def _now(recorded: Manifest, then: Origin, policies: dict[str, str], facts: dict[str, Any]) -> Origin:
    """What this installation made it from: the recorded inputs, with its own code, environment and policies."""
    import dagster as dg

    from av_assets.definitions import defs

    code = defs.resolve_asset_graph().get(dg.AssetKey(recorded.asset)).code_version or ""
    mine = {"code_version": code, "policies": policies, "environment": environment_digest()}
    return Origin(recorded.made_from.model_copy(update=mine), then.contents, facts)


def _teach(lake: Lake, recorded: Manifest, dataset: Path, out: Path) -> dict[str, str]:
    """Train again with the recorded numbers and seed; gives the policy digests that were used."""
    from av_assets.domain.learning.train import train
    from av_assets.training.checkpoints import SEED

    policy = _training_policy(lake, recorded)
    paths = {f.path for f in recorded.files}
    facts = json.loads(lake.read_bytes(recorded, FACTS_FILE)) if FACTS_FILE in paths else {}
    train(policy, dataset, out, seed=facts.get("seed", SEED))
    return {policy.name: policy.digest}


def _ended_early(lake: Lake, recorded: Manifest) -> str:
    """Why the same ingredients may give other bytes: the clock ended the training."""
    if recorded.asset != CHECKPOINTS:
        return ""
    history = json.loads(lake.read_bytes(recorded, "history.json"))
    epochs = json.loads(lake.read_bytes(recorded, "config.json"))["epochs"]
    if len(history) >= epochs:
        return ""
    return f"its time was over after {len(history)} of {epochs} epochs: where that is depends on the machine"


def _misnamed(recorded: Manifest, inputs: Mapping[str, Manifest]) -> str:
    """That a release was made from another dataset than its name says; it is made again from that other one."""
    others = [m for m in inputs.values() if m.asset == GOLDEN and not is_named_after(recorded.partition, m)]
    return "".join(f"it was made from golden@{m.content[:12]}, which its name does not say" for m in others)


def _training_policy(lake: Lake, recorded: Manifest) -> TrainingPolicy:
    from pydantic import ValidationError

    from av_assets.policies.training import TrainingPolicy

    try:
        return TrainingPolicy.model_validate_json(lake.read_bytes(recorded, "config.json"))
    except ValidationError as error:
        raise PolicyError(
            f"its config is of another model of the training policy ({error.error_count()} fields)",
            code="other_policy",
            file=f"{bundle_name(recorded.asset, recorded.partition)}/config.json",
            remedy="reproduce it with the code version that trained it",
        ) from error


def _evaluate(lake: Lake, recorded: Manifest, folders: Mapping[str, Path], out: Path) -> dict[str, str]:
    """Evaluate again; with the numbers of this installation, so that others are named as an ingredient."""
    from av_assets.domain.metrics.evaluate import evaluate_bundle
    from av_assets.policies.evaluation import EvaluationPolicy

    policy = EvaluationPolicy.load()
    evaluate_bundle(folders[BUNDLES], folders[GOLDEN], policy, out)
    (out / "latency.json").unlink()  # differs from run to run, and is no part of the bundle
    return {policy.name: policy.digest}


def _policy(digest: str, policies: Mapping[str, EvaluationPolicy]) -> EvaluationPolicy | None:
    from av_assets.policies.evaluation import EvaluationPolicy

    shipped = EvaluationPolicy.load()
    return shipped if shipped.digest == digest else policies.get(digest)


def _compared(lake: Lake, recorded: Manifest, out: Path) -> list[FileState]:
    made = [
        FileEntry(path=p.relative_to(out).as_posix(), bytes=p.stat().st_size, sha256=sha256_file(p))
        for p in sorted(out.rglob("*"))
        if p.is_file()
    ]
    found = []
    for one in compare_files(recorded.files, made):
        if one.state == "differs" and one.path.endswith(".json"):
            where = where_json_differs(lake.read_bytes(recorded, one.path), (out / one.path).read_bytes())
            one = FileState(one.path, one.state, where)
        found.append(one)
    return found


def _facts_of(out: Path) -> dict[str, Any]:
    path = out / FACTS_FILE
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def scratch(lake: Lake, out: Path | None) -> Iterator[Path]:
    """The folder that somebody named, which stays and has to be empty, or one that is gone afterwards."""
    if out is None:
        with lake.workdir() as folder:
            yield folder
        return
    if out.exists() and any(out.iterdir()):
        raise EvidenceError("the folder is not empty", code="not_empty", file=out, remedy="name an empty one")
    yield out
