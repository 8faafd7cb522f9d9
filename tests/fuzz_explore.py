"""Hostile files and calls to vq explore: python -m tests.fuzz_explore --count 200 --seed 0 [--cases FOLDER]

A server in a process of its own, in empty folders, is sent .vqz files with changes behind checksums that fit, files of
all media with random damage, every file of FOLDER, and each is encoded, decoded and converted by calls whose JSON is
damaged too. Whatever comes, the server answers in JSON, no job ends in a defect, its log has no traceback, and no file
appears in its folders. The script prints what became of the files and how much memory the server holds along the way.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.explorer import Client
from tests.fuzz_decode import Samples, shipped_samples
from tests.fuzz_decode import damaged as damaged_codes
from tests.fuzzing import damaged, edited
from vqcli.container import vqz
from vqcli.errors import BadFile

NAMES = ("..", ".", "models", "photo", "CON", "a" * 64, "-rf")
GOLDEN = Path(__file__).parent / "golden"


def hostile(samples: Samples, media: Mapping[str, bytes], source: random.Random) -> tuple[str, bytes]:
    """A kind of file and one of it."""
    kind = source.choice(("codes", "codes", "bytes", "media", "media", "name"))
    model, data = samples[source.choice(sorted(samples))]
    if kind == "codes":
        try:
            return kind, damaged_codes(model, data, source)
        except BadFile:
            return "valid", data
    if kind == "name":
        file = vqz.unpack(data)
        try:
            return kind, vqz.pack(replace(file.header, model=source.choice(NAMES)), file.payloads)
        except BadFile:
            return "valid", data
    if kind == "bytes":
        return kind, damaged(data, source)
    name = source.choice(sorted(media))
    return f"media {name}", damaged(media[name], source)


def use(client: Client, data: bytes, source: random.Random) -> str:
    """Send a file, and ask for something to be done with it; what became of it."""
    status, facts = client.json("POST", "/api/files", data)
    if status != 201:
        assert status in (413, 422, 400) and "\n" not in facts["error"]["message"], facts
        return f"{status} {facts['error']['kind']}"
    call = source.choice(("decode" if facts["coded"] else "encode",) * 3 + ("convert",))
    body = {"file": facts["id"]}
    body |= {"encode": {"compare": source.random() < 0.5}, "decode": {"salvage": source.random() < 0.3}}.get(call, {})
    body |= {"to": "p225"} if call == "convert" else {}
    if source.random() < 0.2:
        body = edited(body, source)
    status, state = client.json("POST", f"/api/{call}", json.dumps(body).encode())
    if status != 202:
        assert status in (400, 404), state
        outcome = f"{call} {status} {state['error']['kind']}"
    else:
        state = client.ended(state["id"])
        outcome = f"{call} {state['state']} {(state['error'] or {}).get('kind', '')}".strip()
        assert "Defect" not in outcome, state
        shown, headers, _ = client.ask("GET", f"/views/{state['id']}")
        assert shown == 200 and headers["content-type"].startswith("text/html")
        for made in ((state["result"] or {}).get("files") or {}).values():
            assert len(client.file(made)) == made["size_bytes"]
            client.ask("DELETE", f"/api/files/{made['id']}")  # what is kept on purpose is no leak
    client.ask("DELETE", f"/api/files/{facts['id']}")
    return outcome


def fuzz(
    client: Client, samples: Samples, media: Mapping[str, bytes], count: int, seed: int
) -> Counter[tuple[str, str]]:
    """Send `count` files; returns how often each (kind, outcome) came."""
    source = random.Random(seed)
    tally: Counter[tuple[str, str]] = Counter()
    for number in range(count):
        kind, data = hostile(samples, media, source)
        try:
            tally[kind.split()[0], use(client, data, source)] += 1
        except Exception as error:
            raise AssertionError(f"file {number} of seed {seed}, {kind}, {len(data)} bytes") from error
    return tally


def small_media() -> dict[str, bytes]:
    """A small file of each medium, by its kind."""
    import io

    import numpy as np

    from vqcli.media import audio, image, video, video_writing

    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 255, (40, 56, 3), np.uint8)
    sound = draw.normal(0, 0.1, (1, 24_000)).astype(np.float32)
    found = {}
    for kind in ("png", "jpg", "webp", "avif", "tif", "bmp", "ppm"):
        image.write(stream := io.BytesIO(), pixels, format=kind)
        found[kind] = stream.getvalue()
    for kind in ("wav", "flac", "ogg", "mp3", "aiff"):
        audio.write(stream := io.BytesIO(), sound, 16_000, format=kind)
        found[kind] = stream.getvalue()
    for kind in ("gif", "mp4", "webm", "mkv")[: 4 if video.available() else 1]:
        video_writing.write(stream := io.BytesIO(), iter([pixels, pixels // 2, pixels]), 10_000, format=kind)
        found[f"clip {kind}"] = stream.getvalue()
    return found


def memory_mb(process: int) -> int:
    """That a process holds, in megabytes."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) // 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=Path, action="append", default=[], help="folders of more hostile files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        own, temporary, log = Path(place) / "own", Path(place) / "temporary", Path(place) / "log"
        own.mkdir()
        temporary.mkdir()
        command = [sys.executable, "-m", "vqcli", "explore", "--port", "0", "--max-pixels", "4000000"]
        environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parent.parent)}
        with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr, cwd=own, env=environment) as server:
            try:
                while not (found := re.search(r":(\d+)/ ", log.read_text())):
                    assert server.poll() is None, log.read_text()
                client = Client(int(found[1]))
                samples, media = shipped_samples(), small_media()
                warm = [*(data for _, data in samples.values()), *media.values()]
                for data in warm:  # what is compiled and loaded on first use is no leak
                    use(client, data, random.Random(0))
                before = {*own.rglob("*"), *temporary.rglob("*")}  # what libraries make on first use
                said = [f"memory {memory_mb(server.pid)} MB"]
                tally: Counter[tuple[str, str]] = Counter()
                files = sorted(path for folder in options.cases for path in folder.rglob("*") if path.is_file())
                source = random.Random(options.seed)
                for path in files:
                    tally["case", use(client, path.read_bytes(), source)] += 1
                said.append(f"after {len(files)} cases {memory_mb(server.pid)} MB")
                for part in range(4):
                    tally += fuzz(client, samples, media, options.count // 4, options.seed * 4 + part)
                    said.append(f"after {(part + 1) * (options.count // 4)} files {memory_mb(server.pid)} MB")
            finally:
                server.terminate()
        for (kind, outcome), times in sorted(tally.items()):
            print(f"{kind:10} {outcome:40} {times:8}")
        print("; ".join(said))
        assert "Traceback" not in log.read_text() and server.returncode == 0, log.read_text()
        left = {*own.rglob("*"), *temporary.rglob("*")} - before
        assert not left, left
        print("no traceback, no defect, no file left or written")


if __name__ == "__main__":
    main()
