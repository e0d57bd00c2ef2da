"""The Croissant 1.0 description (JSON-LD) of a frozen dataset, from its files and counts only.

The resources are the files of the bundle itself: loaders read `index.parquet` where the bundle was checked out.
Belongs here: the description. Does not belong here: the datasheet's prose (datasheet), exporting files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from av_assets.domain.datasets.frames import INDEX

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFORMS_TO: Final = "http://mlcommons.org/croissant/1.0"
_PARQUET: Final = "application/x-parquet"
_MEANINGS: Final = {
    "drive": "recording that the frame is of",
    "split": "train, val or test",
    "clip_id": "clip of the drive",
    "ref_ns": "time of the frame, nanoseconds since the Unix epoch",
    "camera": "camera whose picture is labelled",
    "shard": "file of the dataset that holds the frame",
    "shard_sha256": "sha256 of that file",
    "row": "row of the frame in that file",
    "boxes": "verified boxes of the frame",
    "slices": "slices that the frame belongs to",
}
_CONTEXT: Final[dict[str, Any]] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip


def croissant(dataset: Mapping[str, Any], files: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
    """JSON-LD.

    Args:
        dataset: the content of dataset.json.
        files: path -> bytes and sha256 of the small files beside the drives; `index.parquet` must be among them.
    """
    frames = sum(c["frames"] for c in dataset["counts"].values())
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": f"golden-{dataset['week']}",
        "description": f"{frames:,} labelled frames of {dataset['camera']} of {len(dataset['members'])} drives; "
        f"classes {', '.join(dataset['classes'])}.",
        "identifier": f"sha256:{dataset['version']}",
        "isLiveDataset": False,
        "distribution": [*(_file(path, *files[path]) for path in sorted(files)), *_FILE_SETS],
        "recordSet": [_frames()],
    }


def _file(path: str, size: int, sha256: str) -> dict[str, Any]:
    kind = {"parquet": _PARQUET, "json": "application/json"}.get(path.rpartition(".")[2], "text/markdown")
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{size} B",
        "encodingFormat": kind,
        "sha256": sha256,
    }


def _set(name: str, includes: str, description: str, kind: str = _PARQUET) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": description,
        "encodingFormat": kind,
        "includes": includes,
    }


_FILE_SETS: Final = (
    _set("shards", "drives/*/clips/*.parquet", "synchronized, redacted sensor data, one file a clip"),
    _set("labels", "drives/*/labels.parquet", "verified boxes"),
    _set("cuboids", "drives/*/cuboids.parquet", "cuboids of verified boxes that the lidar measured"),
    _set("drivable", "drives/*/drivable.parquet", "drivable area of labelled frames"),
    _set("calibrations", "drives/*/calibration.json", "calibration of each drive", "application/json"),
)


def _frames() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "frames",
        "name": "frames",
        "description": "labelled frames",
        "key": [{"@id": "frames/clip_id"}, {"@id": "frames/ref_ns"}, {"@id": "frames/camera"}],
        "field": [_field(column) for column in INDEX],
    }


def _field(column: pa.Field) -> dict[str, Any]:
    found = {
        "@type": "cr:Field",
        "@id": f"frames/{column.name}",
        "name": column.name,
        "description": _MEANINGS[column.name],
        "dataType": "sc:Integer" if pa.types.is_integer(column.type) else "sc:Text",
        "source": {"fileObject": {"@id": "index.parquet"}, "extract": {"column": column.name}},
    }
    return found | ({"repeated": True} if pa.types.is_list(column.type) else {})
