"""Mining specs that people took over from what the platform proposed, or wrote themselves: they run every night.

They lie as YAML files in the folder `mining` of the installation's policies (AV_POLICIES).
Belongs here: reading and adding them. Does not belong here: what a spec may say (policies/mining), running specs.
"""

from pathlib import Path

from av_assets.domain.errors import PolicyError
from av_assets.policies.mining import ACCEPTED_FOLDER, MiningSpec, dump_specs, load_specs
from resources.environment import environment


def accepted_specs() -> list[MiningSpec]:
    """All accepted specs, by file name.

    Raises:
        PolicyError: a file that is no list of specs; two specs of one name (duplicate_spec).
    """
    found: dict[str, MiningSpec] = {}
    for path in sorted(_folder().glob("*.yaml")):
        for spec in load_specs(path):
            if spec.name in found:
                raise PolicyError(f"two specs are named {spec.name}", code="duplicate_spec", file=path)
            found[spec.name] = spec
    return list(found.values())


def accept(spec: MiningSpec) -> Path:
    """Let a spec run from the next night on; gives its file, which may be edited and removed by hand.

    Raises:
        PolicyError: duplicate_spec, one of that name runs already.
    """
    path = _folder() / f"{spec.name}.yaml"
    if any(spec.name == other.name for other in accepted_specs()):
        raise PolicyError(
            f"{spec.name} was accepted already",
            code="duplicate_spec",
            file=path,
            remedy="remove its file first",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(dump_specs([spec]), "utf-8")
    part.replace(path)
    return path


def _folder() -> Path:
    return environment().policies / ACCEPTED_FOLDER
