"""What a bundle consists of and needs, as a software bill of materials: sbom.json (CycloneDX 1.6) and requirements.txt.

The serial number follows from the content, and there is no time in it: the same bundle has the same bill.
Belongs here: the bill. Does not belong here: looking at what is installed (the caller passes it).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from av_assets.domain.evidence.digests import canonical_json

NAMESPACE: Final = uuid.UUID("6f9d6c7e-6f3b-5d0e-9a52-5f1f0c1c7a3b")
#: What `OnnxPerception` imports; the closure of these is what a host has to install.
RUNTIME: Final = (
    "onnxruntime-gpu",
    "onnxruntime",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
    "pydantic",
    "pyarrow",
)


@dataclass(frozen=True)
class Package:
    """An installed distribution; `licence` as its metadata says, empty where it says nothing."""

    name: str
    version: str
    licence: str = ""


def installed_closure(roots: Sequence[str] = RUNTIME) -> list[Package]:
    """Those of `roots` that are installed and everything that they need, by name."""
    from importlib.metadata import PackageNotFoundError, distribution

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, Package] = {}
    waiting = list(roots)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            held = distribution(name)
        except PackageNotFoundError:
            continue
        licence = str(held.metadata.json.get("license_expression", ""))
        found[name] = Package(name, held.version, licence)
        needs = [Requirement(text) for text in held.requires or ()]
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [found[name] for name in sorted(found)]


def requirements(packages: Iterable[Package]) -> str:
    """The lock of a host that runs the bundle, for pip."""
    return "".join(f"{p.name}=={p.version}\n" for p in packages)


def bill(config: Mapping[str, Any], dataset: str, packages: Sequence[Package]) -> bytes:
    """The CycloneDX document of a bundle: weights, checkpoint, dataset, packages.

    Args:
        config: inference_config.json. dataset: name of the dataset version.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    model = Component(
        name="model_bundle",
        type=ComponentType.APPLICATION,
        version=str(config["model_sha256"])[:12],
        bom_ref="model_bundle",
    )
    parts = [*_weights(config), *_origins(config, dataset), *(_package(p) for p in packages)]
    bom = Bom(components=parts)
    bom.metadata.component = model
    bom.register_dependency(model, parts)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    return _settled(document)


def _settled(document: dict[str, Any]) -> bytes:
    """Without the time, and with a serial number made of the rest."""
    document.get("metadata", {}).pop("timestamp", None)
    document.pop("serialNumber", None)
    serial = uuid.uuid5(NAMESPACE, canonical_json(document).decode())
    return canonical_json(document | {"serialNumber": f"urn:uuid:{serial}"})


def _weights(config: Mapping[str, Any]) -> list[Any]:
    from cyclonedx.model.component import ComponentType

    files = config["files"].items()
    return [
        _component(ComponentType.MACHINE_LEARNING_MODEL, f["path"], precision, str(f["sha256"]))
        for precision, f in files
    ]


def _origins(config: Mapping[str, Any], dataset: str) -> list[Any]:
    from cyclonedx.model.component import ComponentType

    return [
        _component(ComponentType.DATA, "golden_dataset", dataset, str(config["dataset_digest"])),
        _component(ComponentType.DATA, "checkpoint.pt", "checkpoint", str(config["checkpoint_sha256"])),
    ]


def _component(kind: Any, name: str, version: str, sha256: str) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component

    return Component(
        name=name,
        type=kind,
        version=version,
        bom_ref=f"{name}@{sha256[:12]}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
    )


def _package(package: Package) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    licences = [LicenseFactory().make_from_string(package.licence)] if package.licence else []
    return Component(
        name=package.name,
        type=ComponentType.LIBRARY,
        version=package.version,
        bom_ref=f"pypi/{package.name}@{package.version}",
        purl=PackageURL("pypi", None, package.name, package.version),
        licenses=licences,
    )
