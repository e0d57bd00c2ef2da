"""The loaders that are measured, each in a process of its own: `python loader_contenders.py NAME FOLDER CORES`.

It reads a line from its input, goes through one epoch, and prints how many samples that gave. Runs by path in the
environment of its loader, so that nothing of the project is imported except where ours is measured.
Belongs here: how each loader is used. Does not belong here: making the data, timing.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

BATCH = 32
CAMERA = "camera_front"
Epoch = Callable[[], Iterator[int]]
"""Gives the size of each batch of one epoch."""


def turbo(data: bytes) -> Any:
    """(H, W, 3) uint8 as a tensor, by the decoder that ours uses."""
    import simplejpeg
    import torch

    return torch.from_numpy(simplejpeg.decode_jpeg(data, "RGB"))


def picture(sample: Any) -> dict[str, Any]:
    """Ours: the whole picture, decoded into its place in the batch."""
    height, width = sample.calibration["size"]
    return {"picture": sample.jpeg_pixels(CAMERA, out=sample.room("picture", (height, width, 3), "uint8"))}


def half(sample: Any) -> dict[str, Any]:
    """Ours: at half its size."""
    height, width = (side // 2 for side in sample.calibration["size"])
    room = sample.room("picture", (height, width, 3), "uint8")
    return {"picture": sample.jpeg_pixels(CAMERA, width, height, out=room)}


def ours(folder: Path, cores: int, transform: Any) -> Epoch:
    import simplejpeg

    from av_assets.domain.loading.loader import Loader
    from av_assets.domain.loading.sample_index import SampleIndex
    from av_assets.domain.loading.sources import FolderSource, ShardRef

    source = FolderSource(folder)
    refs = [ShardRef("", 0, path.name) for path in sorted(folder.glob("*.parquet"))]
    index = SampleIndex.of_shards(refs, source)
    size = simplejpeg.decode_jpeg_header((folder.parent / "pictures" / "00000.jpg").read_bytes())[:2]
    loader = Loader(
        index, source, transform, columns=(CAMERA,), batch_size=BATCH, seed=1, workers=cores, last_batch="keep",
        calibrations={drive: {"size": size} for drive in index.drives},
    )  # fmt: skip

    def epoch() -> Iterator[int]:
        return (len(batch["picture"]) for batch in loader)

    return epoch


def webdataset(folder: Path, cores: int, decoder: str) -> Epoch:
    import webdataset
    from torch.utils.data import DataLoader

    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    data = webdataset.WebDataset(urls, shardshuffle=len(urls), nodesplitter=webdataset.split_by_node)
    data = data.shuffle(1000)
    data = data.map_dict(jpg=turbo) if decoder == "turbo" else data.decode("rgb8")
    data = data.to_tuple("jpg")
    loader = DataLoader(data, batch_size=BATCH, num_workers=cores, persistent_workers=True)

    def epoch() -> Iterator[int]:
        return (len(batch[0]) for batch in loader)

    return epoch


def litdata(folder: Path, cores: int, decoder: str) -> Epoch:
    from litdata import StreamingDataLoader, StreamingDataset

    data = StreamingDataset(
        str(folder), shuffle=True, transform={"turbo": turbo, "natural": _by_pillow}[decoder]
    )
    loader = StreamingDataLoader(data, batch_size=BATCH, num_workers=cores, persistent_workers=True)

    def epoch() -> Iterator[int]:
        return (len(batch) for batch in loader)

    return epoch


def _by_pillow(data: bytes) -> Any:
    """What LitData itself decodes with is torchvision, of which there is no build for this torch."""
    import numpy as np
    import torch
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB")))


def litdata_chunks(pictures: Path, folder: Path, copies: int) -> None:
    """Write the pictures as LitData wants them."""
    from litdata import optimize

    paths = [str(path) for path in sorted(pictures.glob("*.jpg"))] * copies
    optimize(_bytes, paths, output_dir=str(folder), chunk_bytes="16MB", num_workers=1, verbose=False)


def _bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def bare(folder: Path, decoder: str, share: int) -> Epoch:
    """Nothing but decoding `share` pictures that are in memory, into memory that is used again where it can be."""
    pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    decode = {"turbo": _bare_turbo, "cv2": _bare_cv2}[decoder](pictures[0])

    def epoch() -> Iterator[int]:
        for number in range(share):
            decode(pictures[number % len(pictures)])
            yield 1

    return epoch


def _bare_turbo(first: bytes) -> Callable[[bytes], Any]:
    import simplejpeg

    return partial(simplejpeg.decode_jpeg, colorspace="RGB", buffer=simplejpeg.decode_jpeg(first, "RGB"))


def _bare_cv2(first: bytes) -> Callable[[bytes], Any]:
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    return lambda data: cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB
    )  # takes no memory to fill


CONTENDERS: dict[str, Callable[[Path, int], Epoch]] = {
    "ours": partial(ours, transform=picture),
    "ours.half": partial(ours, transform=half),
    "webdataset": partial(webdataset, decoder="natural"),
    "webdataset.turbo": partial(webdataset, decoder="turbo"),
    "litdata": partial(litdata, decoder="natural"),
    "litdata.turbo": partial(litdata, decoder="turbo"),
}


def main(name: str, folder: Path, number: int) -> None:
    if name == "chunks":
        litdata_chunks(folder / "pictures", folder / "litdata", number)
        return
    if name.startswith("bare."):
        epoch = bare(folder / "pictures", name.split(".")[1], number)
    else:
        epoch = CONTENDERS[name](folder / name.split(".")[0], number)
    answers = sys.stdout
    sys.stdout = io.StringIO()  # what libraries print is no answer
    for _ in sys.stdin:
        answers.write(f"{sum(epoch())}\n")
        answers.flush()


if __name__ == "__main__":
    if sys.argv[1].startswith("ours"):
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
