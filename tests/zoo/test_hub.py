"""Fetching from a hub: a server of this test answers as the hub does, so nothing leaves the machine."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save

from tests.zoo.test_importing import SMALL, by_transformers_names
from vqcli.nets.codecs.encodec import Encodec
from vqcli.zoo import hub

pytest.importorskip("huggingface_hub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def files_of_repository():
    torch.manual_seed(0)
    return {
        "config.json": json.dumps({"model_type": "encodec"}).encode(),
        "README.md": b"---\nlicense: mit\n---\n# Tiny\n",
        "model.safetensors": save(by_transformers_names(Encodec(**SMALL))),
        "notes.txt": b"not asked for",
    }


class Hub(BaseHTTPRequestHandler):
    files = files_of_repository()
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.answer(send_body=True)

    def do_HEAD(self):
        self.answer(send_body=False)

    def answer(self, send_body):
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/someone/tiny"):
            if "/tree/" in path:
                body = json.dumps(
                    [{"type": "file", "path": name, "size": len(data), "oid": "x"} for name, data in self.files.items()]
                )
            else:
                body = json.dumps(
                    {"id": "someone/tiny", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
                )
            return self.send(200, body.encode(), "application/json", send_body)
        prefix, _, name = path.partition(f"/resolve/{COMMIT}/")
        if prefix == "/someone/tiny" and name in self.files:
            Hub.asked.append(name)
            return self.send(200, self.files[name], "application/octet-stream", send_body)
        self.send(404, b"{}", "application/json", send_body, error="RepoNotFound")

    def send(self, code, body, kind, send_body, error=""):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if send_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def vq(arguments, tmp_path, server, **more):
    """The command in a process of its own: the client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": server, "HF_HOME": str(tmp_path / "hub"), "XDG_DATA_HOME": str(tmp_path / "home")}
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    environment = {**os.environ, **settings, **more}
    done = subprocess.run(
        [sys.executable, "-m", "vqcli", *arguments], capture_output=True, text=True, env=environment, timeout=120
    )
    return done


def test_a_repository_becomes_a_model(server, tmp_path):
    done = vq(["models", "import", "someone/tiny"], tmp_path, server)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "home" / "vq" / "models" / "tiny" / "README.md").read_text()
    assert "someone/tiny" in card and COMMIT in card and "Licence: mit." in card
    assert set(Hub.asked) == {"config.json", "README.md", "model.safetensors"}
    # once fetched, the network is not needed: neither to import again nor to encode
    again = vq(["models", "import", "someone/tiny", "-o", "again"], tmp_path, "http://127.0.0.1:9", VQ_OFFLINE="1")
    assert again.returncode == 0, again.stderr


def test_what_cannot_be_had_is_one_line(server, tmp_path):
    done = vq(["models", "import", "nobody/nothing"], tmp_path, server)
    assert done.returncode == 4 and "no repository nobody/nothing" in done.stderr
    done = vq(["models", "import", "someone/tiny"], tmp_path / "other", server, VQ_OFFLINE="1")
    assert done.returncode == 4 and "VQ_OFFLINE" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.strip()]) <= 2
    done = vq(["models", "pull", "encodec-24hz"], tmp_path, server)
    assert done.returncode == 2 and "encodec-24khz" in done.stderr


def test_names_of_repositories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.names_repository("facebook/encodec_24khz") and hub.names_repository("a/b@v1.0")
    for name in ("model.pth", "/tmp/x/y", "a/b/c", "../a", "a/b@"):
        assert not hub.names_repository(name)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("")
    assert not hub.names_repository("a/b")
