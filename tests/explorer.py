"""A server of vq explore and a client for it, as tests and fuzz_explore.py use them."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from vqcli.web import serving
from vqcli.web.app import Settings
from vqcli.web.library import Library


class Client:
    """Asks a server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body=None, **headers) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body. Headers as keywords, with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body=None, **headers):
        """Status and the JSON of the answer."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        status, _, answer = self.ask(method, path, data, **headers)
        return status, json.loads(answer) if answer else None

    def send(self, data: bytes) -> str:
        """The id of a file."""
        status, facts = self.json("POST", "/api/files", data)
        assert status == 201, facts
        return facts["id"]

    def run(self, call: str, **body):
        """The state of a job when it has ended."""
        status, state = self.json("POST", f"/api/{call}", body)
        assert status == 202, state
        return self.ended(state["id"])

    def ended(self, id: str):
        for _ in range(20):
            _, state = self.json("GET", f"/api/jobs/{id}?wait=30")
            if state["state"] not in ("waiting", "running"):
                return state
        raise AssertionError("a job does not end")

    def file(self, facts) -> bytes:
        return self.ask("GET", f"/api/files/{facts['id']}")[2]


@contextmanager
def served(library: Library, **settings) -> Iterator[Client]:
    """A server in a thread of this process."""
    with serving.listening("127.0.0.1", 0) as place:
        server = serving.server("127.0.0.1", library, replace(Settings(), **settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Client(place.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()
