"""The datasheet of a frozen dataset (Gebru et al. 2021, "Datasheets for Datasets"), from evidence only.

What no manifest, report or policy says is "not recorded": no sentence here claims what the platform does not know.
Belongs here: the wording of evidence. Does not belong here: gathering it; Croissant (croissant).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NOT_RECORDED: Final = "not recorded"


def datasheet(evidence: Mapping[str, Any]) -> str:
    """Markdown.

    Args:
        evidence: `dataset` (dataset.json), `leaks` (leaks.json), `drives` (rows of the catalog), `reports` (report.json
            of the verified labels, by drive), `made_by` (asset -> policies and code versions as (name, digest)).
    """
    sections = {
        "Motivation": _motivation(evidence),
        "Composition": _composition(evidence),
        "Collection": _collection(evidence["drives"]),
        "Preprocessing": _preprocessing(evidence),
        "Labelling": _labelling(evidence["reports"]),
        "Uses": _uses(evidence),
        "Distribution": [("Licence", None), ("Third parties", None), ("Export controls", None)],
        "Maintenance": _maintenance(evidence["dataset"]),
    }
    parts = [f"# Datasheet: golden dataset of {evidence['dataset']['week']}"]
    parts += [f"## {title}\n\n" + _lines(rows) for title, rows in sections.items()]
    parts.insert(3, _tables(evidence["dataset"]))
    return "\n\n".join(parts) + "\n"


def _lines(rows: Iterable[tuple[str, Any]]) -> str:
    return "\n".join(
        f"- {name}: {NOT_RECORDED if value in (None, '', []) else value}" for name, value in rows
    )


def _motivation(evidence: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [("Purpose", None), ("Creators", None), ("Funding", None)]


def _composition(evidence: Mapping[str, Any]) -> list[tuple[str, Any]]:
    data, leaks = evidence["dataset"], evidence["leaks"]
    counts = data["counts"]
    return [
        ("Instances", f"{sum(c['frames'] for c in counts.values()):,} labelled frames of {data['camera']}"),
        ("Recordings", f"{len(data['members'])} drives"),
        ("Classes", ", ".join(data["classes"])),
        ("Splits", f"by {data['spec']['split_by']}, salted hash, shares {data['spec']['train_share']} / "
                   f"{data['spec']['val_share']} / the rest"),
        ("Chosen frames", data["spec"]["only"] or "all verified frames"),
        ("Recordings left out", _listed(data["left_out"])),
        ("Relations between splits", "; ".join(
            f"{kind}: {f['pairs']:,} pairs, {_ACTIONS[f['action']]}" for kind, f in leaks["kinds"].items())),
        ("Items taken out of it for leaking", str(len(leaks["dropped"]))),
        ("Too small to prove anything", _listed(data["thin_slices"])),
        ("People and consent", None),
    ]  # fmt: skip


_ACTIONS: Final = {"refuse": "would be refused", "drop": "dropped", "warn": "kept and told"}


def _tables(data: Mapping[str, Any]) -> str:
    split_rows = [
        [split, c["drives"], c["frames"], *(c["objects"].get(cls, 0) for cls in data["classes"])]
        for split, c in data["counts"].items()
    ]
    slice_rows = [
        [name, *(c[split][what] for split in c for what in ("drives", "frames", "objects"))]
        for name, c in data["slice_counts"].items()
    ]
    splits = list(next(iter(data["slice_counts"].values()), {}))
    heads = [f"{split} {what}" for split in splits for what in ("drives", "frames", "objects")]
    return (
        _table(["split", "drives", "frames", *data["classes"]], split_rows)
        + "\n\n"
        + _table(["slice", *heads], slice_rows)
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(v) for v in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _collection(drives: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    def known(name: str) -> list[Any]:
        return [row[name] for row in drives if row.get(name) is not None]

    starts, ends = known("start_ns"), known("end_ns")
    return [
        ("Vehicles", str(len(set(known("vehicle")))) if known("vehicle") else None),
        ("Recorded, ns since the Unix epoch", f"{min(starts)} to {max(ends)}" if starts and ends else None),
        ("Hours", _sum(known("duration_s"), 3600)),
        ("Kilometres", _sum(known("distance_m"), 1000)),
        ("Regions", ", ".join(sorted(set(known("region"))))),
        *((tag.capitalize(), _histogram(row.get(tag) for row in drives)) for tag in ("light", "weather", "zone")),
        ("Who drove, and how they were paid", None),
        ("Ethical review", None),
    ]  # fmt: skip


def _preprocessing(evidence: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        (asset, ", ".join(f"{name} {value[:12]}" for name, value in sorted(made)) or None)
        for asset, made in sorted(evidence["made_by"].items())
    ] + [("Raw recordings kept", None)]


def _labelling(reports: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Any]]:
    held = [report for _, report in sorted(reports.items())]

    def figures(name: str) -> list[float]:
        return [float(r[name]) for r in held if isinstance(r.get(name), (int, float))]

    people = {name for r in held for name in (r.get("annotators") or r.get("gold") or {})}
    labellers = {str(r["labeller_digest"]) for r in held if r.get("labeller_digest")}
    rules = {str(r["rules"]) for r in held if r.get("rules")}
    return [
        ("Annotators", str(len(people)) if people else None),
        ("Boxes", _sum(figures("labels"), 1)),
        ("Hours of work", _sum(figures("minutes"), 60)),
        ("Agreement, Krippendorff's alpha", _range(figures("alpha"))),
        ("Agreement, Cohen's kappa", _range(figures("kappa"))),
        ("Mean IoU of matched boxes", _range(figures("mean_iou"))),
        ("Pre-annotation against the verified labels, precision", _range(figures("precision"))),
        ("Pre-annotation against the verified labels, recall", _range(figures("recall"))),
        ("Labellers that pre-annotated", ", ".join(digest[:12] for digest in sorted(labellers))),
        ("Rules of review", ", ".join(sorted(rules))),
        ("Payment", None),
    ]


def _uses(evidence: Mapping[str, Any]) -> list[tuple[str, Any]]:
    thin = sorted(evidence["dataset"]["thin_slices"])
    return [
        ("Used for", None),
        ("Proves nothing about", ", ".join(thin) or "no slice of the policy is too small"),
        ("Should not be used for", None),
    ]


def _maintenance(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("Spec", f"golden policy {data['spec']['version']}, digest {data['spec']['policy_digest'][:12]}"),
        ("Digest of spec and members", data["version"]),
        ("Changes", "never: another content is another version"),
        ("Contact", None),
        ("Erratum", None),
    ]


def _sum(values: Sequence[float], per: float) -> str | None:
    return f"{sum(values) / per:,.2f}".removesuffix(".00") if values else None


def _range(values: Sequence[float]) -> str | None:
    return f"{min(values):.3f} to {max(values):.3f} over {len(values)} drives" if values else None


def _histogram(values: Iterable[Any]) -> str:
    held = [NOT_RECORDED if v is None else str(v) for v in values]
    return ", ".join(f"{name} {held.count(name)}" for name in sorted(set(held)))


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name} ({why})" for name, why in sorted(reasons.items())) or "none"
