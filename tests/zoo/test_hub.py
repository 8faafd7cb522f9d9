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
    repository = "someone/tiny"

    def do_GET(self):
        self.answer(send_body=True)

    def do_HEAD(self):
        self.answer(send_body=False)

    def answer(self, send_body):
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{self.repository}"):
            if "/tree/" in path:
                body = json.dumps(
                    [{"type": "file", "path": name, "size": len(data), "oid": "x"} for name, data in self.files.items()]
                )
            else:
                body = json.dumps(
                    {"id": self.repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
                )
            return self.send(200, body.encode(), "application/json", send_body)
        prefix, _, name = path.partition(f"/resolve/{COMMIT}/")
        if prefix == f"/{self.repository}" and name in self.files:
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
        [sys.executable, "-m", "vqcli", *arguments], capture_output=True, text=True, env=environment, timeout=600
    )
    return done


def test_a_repository_becomes_a_model(server, tmp_path):
    Hub.asked.clear()
    done = vq(["models", "import", "someone/tiny"], tmp_path, server)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("licence of someone/tiny: mit\n") and Hub.asked[0] == "README.md"
    assert "\r" not in done.stderr and len(done.stderr.splitlines()) == 3, done.stderr  # no bars, of whomever
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


def test_the_licence_is_said_before_weights_are_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setitem(Hub.files, "README.md", b"---\nlicense: cc-by-nc-4.0\n---\n")
    monkeypatch.setitem(Hub.files, "model.safetensors", b"half a down")  # so that nothing comes of it
    Hub.asked.clear()
    done = vq(["models", "import", "someone/tiny"], tmp_path, server)
    lines = [line for line in done.stderr.splitlines() if line.startswith(("licence", "vq:"))]
    assert lines[0] == "licence of someone/tiny: cc-by-nc-4.0 (non-commercial)" and "damaged" in lines[1]
    assert Hub.asked[0] == "README.md" and "model.safetensors" in Hub.asked


def test_the_list_has_licences(server, tmp_path, monkeypatch):
    """Of the repositories that can be had: the server has one of a name that vq knows."""
    monkeypatch.setattr(Hub, "repository", "facebook/encodec_24khz")
    done = vq(["models", "list", "--remote", "--json"], tmp_path, server)
    found = {each["name"]: each["licence"] for each in json.loads(done.stdout)}
    assert found.pop("encodec-24khz") == "mit" and not any(found.values())
    done = vq(["models", "list", "--remote"], tmp_path / "other", server, VQ_OFFLINE="1")
    assert done.returncode == 0 and "states no licence" in done.stderr


@pytest.mark.parametrize(
    "head, licence",
    [
        ("license: mit", "mit"),
        ("tags: [a]\nlicense: 'apache-2.0'\nlanguage: en", "apache-2.0"),
        ("license:\n- cc-by-4.0", "cc-by-4.0"),
        ("license: other\nlicense_name: stability-ai-nc-research", "stability-ai-nc-research (non-commercial)"),
        ("license_name: deepseek\nlicense: other", "deepseek"),
        ("license: cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0 (non-commercial)"),
        ("license: ncsa", "ncsa"),
        ("license_link: LICENSE", ""),
        ("title: license", ""),
    ],
)
def test_licences_of_cards(tmp_path, head, licence):
    card = tmp_path / "README.md"
    assert hub.licence_of(card) == ""
    for newline in ("\n", "\r\n"):
        card.write_bytes(f"---\n{head}\n---\n# About\nlicense: none\n".replace("\n", newline).encode())
        assert hub.licence_of(card) == licence
    card.write_text(f"# About\n{head}\n")
    assert hub.licence_of(card) == ""


def test_names_of_repositories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.names_repository("facebook/encodec_24khz") and hub.names_repository("a/b@v1.0")
    for name in ("model.pth", "/tmp/x/y", "a/b/c", "../a", "a/b@"):
        assert not hub.names_repository(name)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("")
    assert not hub.names_repository("a/b")
