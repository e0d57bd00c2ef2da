"""A process that uses a cache as a loader's worker does: started by test_cache_processes.py.

cache_worker.py JSON: folder, budget, source (a folder with files by their sha256), log (gets a line per fetch),
threads, rounds (each thread reads so many files by chance), seed, piece_s (pause between the ten pieces of a fetch), go
(a file that it waits for). Prints JSON: how many files were read, and what was wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from av_assets.domain.errors import AvError
from av_assets.policies.cache import CachePolicy
from resources.shard_cache.cache import ShardCache


def fetching(source: Path, log: Path, piece_s: float) -> Any:
    def fetch(sha256: str, target: Path) -> None:
        with log.open("a") as lines:
            lines.write(f"{sha256} {os.getpid()}\n")
        data = (source / sha256).read_bytes()
        with target.open("wb", buffering=0) as file:
            for start in range(0, len(data), len(data) // 10):
                file.write(data[start : start + len(data) // 10])
                time.sleep(piece_s)

    return fetch


def read_some(
    cache: ShardCache, sizes: dict[str, int], rounds: int, seed: str, found: dict[str, Any]
) -> None:
    chance = random.Random(seed)
    for _ in range(rounds):
        sha256 = chance.choice(sorted(sizes))
        try:
            with cache.local(sha256, sizes[sha256]) as path:
                good = hashlib.sha256(path.read_bytes()).hexdigest() == sha256
                time.sleep(chance.random() * 0.002)
                good = good and path.stat().st_size == sizes[sha256]
            found["read"] += 1
            found["wrong"] += [] if good else [f"torn {sha256}"]
        except AvError as error:
            found["wrong"].append(str(error))


def main(told: dict[str, Any]) -> None:
    source, go = Path(told["source"]), Path(told["go"])
    sizes = {path.name: path.stat().st_size for path in source.iterdir()}
    policy = CachePolicy.load().model_copy(update={"keep_free_gb": 0.0, "wait_for_room_s": 60.0})
    fetch = fetching(source, Path(told["log"]), told["piece_s"])
    cache = ShardCache(Path(told["folder"]), told["budget"], fetch, policy)
    found: list[dict[str, Any]] = [{"read": 0, "wrong": []} for _ in range(told["threads"])]
    threads = [
        threading.Thread(
            target=read_some, args=(cache, sizes, told["rounds"], f"{told['seed']} {n}", found[n])
        )
        for n in range(told["threads"])
    ]
    print("ready", flush=True)
    while not go.exists():
        time.sleep(0.001)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(
        json.dumps({"read": sum(f["read"] for f in found), "wrong": [w for f in found for w in f["wrong"]]})
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
