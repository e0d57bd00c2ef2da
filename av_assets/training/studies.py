"""Sweeps of this installation: starting one, finding its specification and its study.

    sweep_specs/<sweep>     the specification, its dataset and its baseline's figures; written once, signed
The study itself grows while the sweep runs, so it is no bundle: it is a journal under the installation's home, or a
database that all machines of a cluster reach.
Belongs here: those places. Does not belong here: what a sweep tries (`domain/sweeps`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml
from pydantic import ValidationError

from av_assets.domain.errors import EvidenceError, LandingError, PolicyError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.manifest import MadeFrom, Manifest, bundle_name
from av_assets.domain.evidence.signatures import sign
from av_assets.policies.sweeps import SweepPolicy, training_policy
from av_assets.policies.training import TrainingPolicy
from resources.environment import environment
from resources.policies import active
from resources.policy_versions import require_intact
from resources.production_models import require_production_model
from resources.signing import signing_key

if TYPE_CHECKING:
    import optuna

    from av_assets.domain.sweeps.asking import Launch
    from resources.lake import Lake

SPECS: Final = "sweep_specs"
GOLDEN: Final = "golden_slices"
PRODUCTION: Final = "production"
"""A baseline: whatever is in production when the sweep is started."""
SPEC_FILE, BASELINE_FILE = "sweep.yaml", "baseline.json"


@dataclass(frozen=True)
class Sweep:
    """A sweep that was started.

    Attributes:
        golden: the dataset that every trial learns from, whatever is frozen later.
        baseline: figures of the baseline's last epoch on the same val frames; empty without a baseline.
        base: digest of the training policy that was active when it was started.
    """

    spec: SweepPolicy
    manifest: Manifest
    golden: Manifest
    baseline: dict[str, float]
    base: str


def start(lake: Lake, path: Path) -> Sweep:
    """Fix a specification to a dataset and a baseline and keep it. Repeating it changes nothing.

    Raises:
        PolicyError: policy_unreadable, policy_invalid, policy_too_large (the file); sweep_exists, one of this name has
            another specification; no_comparable_baseline.
        EvidenceError: missing_bundle, there is no such dataset or release.
    """
    asked, base = SweepPolicy.load(path), active(lake, TrainingPolicy)
    present = lake.manifest(SPECS, asked.sweep)
    if present is not None and lake.signature(present) is not None:
        if present.made_from.policies[asked.name] == asked.digest:
            return sweep_of(lake, asked.sweep)
        raise _exists(asked, path)
    spec = _on_top_of(base, asked)
    golden = _golden(lake, spec)
    figures = {} if spec.baseline is None else _baseline(lake, spec, golden)
    inputs = {bundle_name(GOLDEN, golden.partition): golden.digest}
    with lake.workdir() as folder:
        (folder / SPEC_FILE).write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
        (folder / BASELINE_FILE).write_bytes(canonical_json({"release": spec.baseline, "figures": figures}))
        made_from = MadeFrom(inputs=inputs, policies={p.name: p.digest for p in (asked, base)})
        try:
            manifest = lake.publish(SPECS, spec.sweep, folder, made_from=made_from, write_once=True)
        except LandingError as error:
            raise _exists(spec, path) from error
    lake.keep_signature(manifest, sign(signing_key(), manifest))
    return sweep_of(lake, spec.sweep)


def sweep_of(lake: Lake, name: str) -> Sweep:
    """A sweep that was started, checked again.

    Raises:
        EvidenceError: missing_bundle; unsigned, broken_signature, untrusted_key, damaged_object; missing_input, its
            dataset is gone.
    """
    manifest = lake.require(SPECS, name)
    require_intact(lake, manifest)
    with lake.workdir() as folder:
        spec = SweepPolicy.load(lake.checkout(manifest, folder, SPEC_FILE) / SPEC_FILE)
    [(bundle, digest)] = manifest.made_from.inputs.items()
    golden = lake.past_manifest(bundle, digest)
    if golden is None:
        raise EvidenceError(
            f"{bundle} with digest {digest[:12]} is gone", code="missing_input", file=f"{SPECS}/{name}"
        )
    figures = json.loads(lake.read_bytes(manifest, BASELINE_FILE))["figures"]
    return Sweep(spec, manifest, golden, figures, manifest.made_from.policies.get(TrainingPolicy.name, ""))


def storage_place(sweep: str) -> Path | str:
    """Where the study is: a database's URL where one is configured, else a journal of its own."""
    here = environment()
    return here.sweeps or here.home / "sweeps" / f"{sweep}.journal"


def study_of(spec: SweepPolicy) -> optuna.Study:
    from av_assets.domain.sweeps.journal import open_storage
    from av_assets.domain.sweeps.study import open_study

    return open_study(open_storage(storage_place(spec.sweep)), spec)


def state_folder(sweep: str, launch: Launch) -> Path:
    """Where a trial's training keeps its state; a repetition finds what the trial before it left."""
    return environment().scratch / "sweeps" / sweep / f"{launch.origin}-{launch.seed}"


def _on_top_of(base: TrainingPolicy, asked: SweepPolicy) -> SweepPolicy:
    """The specification with `fixed` naming all in which the active training policy is not the shipped one.

    Raises:
        PolicyError: policy_invalid, on top of it the training policy refuses the space.
    """
    now, shipped = base.model_dump(mode="json"), TrainingPolicy.load().model_dump(mode="json")
    other = {n: v for n, v in now.items() if v != shipped[n] and n != "version" and n not in asked.space}
    fixed = other | asked.model_dump(mode="json")["fixed"]
    try:
        return SweepPolicy.model_validate(asked.model_dump(mode="json") | {"fixed": fixed})
    except ValidationError as error:
        raise PolicyError(
            f"on top of training {base.version}: {error.errors()[0]['msg']}", code="policy_invalid"
        ) from error


def _exists(spec: SweepPolicy, path: Path) -> PolicyError:
    return PolicyError(
        f"sweep {spec.sweep} was started with another specification",
        code="sweep_exists",
        file=path,
        remedy="give the sweep another name",
    )


def _golden(lake: Lake, spec: SweepPolicy) -> Manifest:
    weeks = lake.partitions(GOLDEN)
    if spec.week is None and not weeks:
        raise EvidenceError("no dataset was frozen yet", code="missing_bundle", remedy="freeze golden_slices")
    return lake.require(GOLDEN, spec.week or weeks[-1])


def _baseline(lake: Lake, spec: SweepPolicy, golden: Manifest) -> dict[str, float]:
    """Figures of the baseline's last epoch, if they were measured on the very frames that the trials are."""
    from av_assets.domain.sweeps.teaching import figures

    release = _release(lake, str(spec.baseline))
    made = lake.require("checkpoints", release)
    learnt = (
        lake.past_manifest(*item) for item in made.made_from.inputs.items() if item[0].startswith(GOLDEN)
    )
    same = [dataset for dataset in learnt if dataset and dataset.content == golden.content]
    was = json.loads(lake.read_bytes(made, "config.json")).get("max_val_frames")
    first = {n: d.values[0] if d.kind == "choice" else d.low for n, d in spec.space.items()}
    now = training_policy(spec, first).max_val_frames
    history = json.loads(lake.read_bytes(made, "history.json"))
    found = figures(history[-1]) if history else {}
    compared = {c.metric for c in spec.constraints if c.max_loss is not None}
    for wrong, reason in (
        (not same, f"it learnt from another dataset than {golden.partition} ({golden.content[:12]})"),
        (was != now, f"it was scored on {was} val frames, the trials are on {now}"),
        (bool(compared - set(found)), f"it does not tell {', '.join(sorted(compared - set(found)))}"),
    ):
        if wrong:
            raise PolicyError(
                f"{release} cannot be compared with: {reason}",
                code="no_comparable_baseline",
                remedy="name another baseline, or leave max_loss out",
            )
    return {name: value for name, value in found.items() if name in compared}


def _release(lake: Lake, named: str) -> str:
    return require_production_model(lake).partition if named == PRODUCTION else named
