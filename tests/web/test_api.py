"""Calls over HTTP do what the Python API does, and say what is wrong as JSON."""

import io
import json
import socket

import numpy as np
import pytest

from vqcli import api
from vqcli.media import image
from vqcli.web import openapi
from vqcli.web.app import ENDPOINTS


def pixels_of(data):
    return image.read(io.BytesIO(data)).pixels


def test_an_image_is_coded_compared_and_decoded(client, photo, scalar_model):
    state = client.run("encode", file=client.send(photo), quality=2, compare=True)
    assert state["state"] == "done" and state["progress"] == 1 and state["error"] is None
    files, expected = state["result"]["files"], api.encode(io.BytesIO(photo), scalar_model, quality=2)
    assert client.file(files["coded"]) == expected.data and files["coded"]["name"] == "image.vqz"
    decoded = api.decode(expected.data, scalar_model)
    assert np.array_equal(pixels_of(client.file(files["decoded"])), decoded.pixels)
    assert np.array_equal(pixels_of(client.file(files["source"])), expected.pixels)
    assert state["result"]["facts"]["model"] == "scalar"
    assert state["result"]["facts"]["bits_per_pixel"] == round(expected.bits_per_pixel, 4)
    again = client.run("decode", file=files["coded"]["id"])["result"]["files"]["decoded"]
    assert again["type"] == "image/png" and np.array_equal(pixels_of(client.file(again)), decoded.pixels)
    sent = client.run("decode", file=client.send(expected.data), format="webp")["result"]["files"]["decoded"]
    assert sent["name"] == "decoded.webp" and client.file(sent)[8:12] == b"WEBP"


def test_options_are_those_of_python(client, photo, scalar_model, vector_model):
    id = client.send(photo)
    made = client.run("encode", file=id, lossless=True, coder="packed")["result"]
    expected = api.encode(io.BytesIO(photo), scalar_model, lossless=True, coder="packed")
    assert client.file(made["files"]["coded"]) == expected.data and set(made["files"]) == {"coded"}
    fewer = client.run("encode", file=id, model="vector", levels=1)["result"]["files"]["coded"]
    assert client.file(fewer) == api.encode(io.BytesIO(photo), vector_model, levels=1).data
    state = client.run("encode", file=id, mono=True)
    assert state["state"] == "failed" and state["error"]["kind"] == "ForeignOption"
    assert client.run("encode", file=id, quality=9)["error"]["message"] == "quality 9 is not within 1 to 3"


def test_a_clip_is_shown_as_a_film(client, picture):
    from vqcli.media import video_writing

    frames = [picture(24, 32), picture(24, 32) // 2]
    video_writing.write(stream := io.BytesIO(), iter(frames), 10_000, format="gif")
    state = client.run("encode", file=client.send(stream.getvalue()), compare=True, quality=1)
    assert state["result"]["facts"]["frames"] == 2
    html = client.ask("GET", f"/views/{state['id']}")[2].decode()
    assert 'data-frames="2"' in html and html.count('class="reel"') == 2


def test_views_are_parts_of_pages(client, photo):
    state = client.run("encode", file=client.send(photo), compare=True)
    html = client.ask("GET", f"/views/{state['id']}")[2].decode()
    assert html.count("<figure") == 2 and "vq encode FILE -o coded.vqz" in html and "<html" not in html
    for facts in (state["result"]["files"][what] for what in ("source", "decoded")):
        assert f'src="api/files/{facts["id"]}"' in html


def test_every_refusal_says_why_in_one_line(client, photo):
    id, gone = client.send(photo), "A" * 16
    cases = [
        ("/api/encode", {"file": gone}, 404, "there is no file AAAAAAAAAAAAAAAA"),
        ("/api/encode", {"file": "../../etc/passwd"}, 400, "the JSON of this call"),
        ("/api/encode", {"file": id, "qualty": 3}, 400, "unknown field `qualty`"),
        ("/api/encode", {"file": id, "quality": "5"}, 400, "Expected `float | null`"),
        ("/api/sample", {"count": 17}, 400, "<= 16"),
        ("/api/encode", b"{" * 9000, 400, "the JSON of this call"),
        ("/api/encode", b"[" * 60_000, 400, "the JSON of this call"),
        ("/api/encode", b" " * 70_000, 413, "more than 65.5 kB"),
        ("/api/files", b"", 422, "an empty file"),
        ("/api/files", bytes(200_001), 413, "more than 200 kB"),
        ("/api/files", b"\x89VQZ\r\n\x09", 422, ""),
        ("/api/nothing", {}, 404, "Not Found"),
        ("/examples/..%2f..%2fREADME.md", b"", 404, ""),
    ]
    for path, body, status, text in cases:
        found, answer = client.json("POST", path, body)
        assert found == status and text in answer["error"]["message"], (path, body, answer)
        assert "\n" not in answer["error"]["message"]
    assert client.json("GET", "/api/jobs/AAAAAAAAAAAAAAAA")[0] == 404
    assert client.json("GET", "/api/models/..%2f..%2fmodels%2ftokens")[0] in (404, 422)
    assert client.ask("GET", "/assets/..%2fapp.py")[0] == 404
    assert client.ask("DELETE", f"/api/files/{id}")[0] == 204 and client.json("GET", f"/api/files/{id}")[0] == 404


@pytest.mark.fault("22 uploads")
def test_limits_hold_behind_the_upload(client, picture):
    image.write(stream := io.BytesIO(), np.zeros((200, 200, 3), np.uint8), format="png")
    state = client.run("encode", file=client.send(stream.getvalue()))
    assert state["error"]["kind"] == "BadFile" and "20000 are allowed" in state["error"]["message"]


@pytest.mark.fault("22 uploads")
def test_an_upload_is_counted_while_it_comes(client):
    """Without a length, and never more than is taken of it."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        head = "POST /api/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + (b"10000\r\n" + bytes(0x10000) + b"\r\n") * 4)
        assert connection.recv(12) == b"HTTP/1.1 413"


@pytest.mark.fault("22 uploads")
@pytest.mark.parametrize("name", ["/etc", "../models/tokens", "mine"])
def test_a_name_of_a_client_is_no_path(client, photo, make_model, tmp_path, monkeypatch, name):
    """Neither that of a call nor that in the header of a file, though the command line takes both for folders."""
    monkeypatch.chdir(tmp_path)
    mine = make_model("mine", tmp_path, widths=[8], dim=2, blocks=1, quantizer={"kind": "vector", "K": 4})
    state = client.run("encode", file=client.send(photo), model=name)
    assert state["error"]["message"] == f"this server has no model {name}"
    state = client.run("decode", file=client.send(api.encode(io.BytesIO(photo), mine).data))
    assert state["error"]["kind"] == "ModelError" and "this server does not have" in state["error"]["message"]


def test_parts_of_files_as_players_ask_for_them(client, photo):
    id = client.send(photo)
    for asked, status, expected in [
        ("bytes=0-9", 206, photo[:10]),
        ("bytes=5-", 206, photo[5:]),
        ("bytes=-7", 206, photo[-7:]),
        ("bytes=9999999-", 416, b""),
        ("bytes=-", 200, photo),
        ("lines=1-2", 200, photo),
    ]:
        found, headers, data = client.ask("GET", f"/api/files/{id}", Range=asked)
        assert (found, data) == (status, expected), asked
        assert headers["x-content-type-options"] == "nosniff" and "sandbox" in headers["content-security-policy"]


def test_the_description_names_all_endpoints_and_types(client):
    status, document = client.json("GET", "/openapi.json")
    assert status == 200 and document["openapi"] == "3.1.0" and len(ENDPOINTS) == 11
    assert document == json.loads(json.dumps(openapi.document(ENDPOINTS)))
    for one in ENDPOINTS:
        operation = document["paths"][one.path][one.method.lower()]
        assert operation["summary"] and str(one.status) in operation["responses"]
    schemas = document["components"]["schemas"]
    assert schemas["Encode"]["properties"]["effort"]["maximum"] == 9 and schemas["Encode"]["required"] == ["file"]
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in schemas
    page = client.ask("GET", "/api")[2].decode()
    assert all(name in page for name in ("/api/convert", "semitones", "number from -24 to 24", "kbit_per_s"))


def test_models_say_what_they_can(client):
    _, models = client.json("GET", "/api/models")
    found = {each["name"]: each for each in models}
    assert found["scalar"]["default"] and not found["vector"]["default"]
    _, details = client.json("GET", "/api/models/vector")
    assert (details["qualities"], details["levels"]) == (0, 3)
