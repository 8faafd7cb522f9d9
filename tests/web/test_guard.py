"""Other sites and other names are kept out, by what browsers say of a request."""

import pytest
from starlette.datastructures import Headers

from vqcli.web.guard import Guard

HERE = "127.0.0.1:8765"


def refused(method="GET", guard=None, path="/", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (guard or Guard(None)).refused(method, path, Headers(named)) is not None


@pytest.mark.fault("22 other sites")
@pytest.mark.parametrize("host", [HERE, "localhost:1", "LOCALHOST", "[::1]:8765"])
def test_own_names(host):
    assert not refused(host=host)


@pytest.mark.fault("22 other sites")
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "10.0.0.1", "", "[", "a@b"]
)
def test_other_names(host):
    assert refused(host=host) and refused()
    assert refused(guard=Guard(None, ("vq.lan",), True), host="evil.example")


@pytest.mark.fault("22 other sites")
def test_a_server_for_others_goes_by_addresses():
    guard = Guard(None, ("vq.lan",), addresses=True)
    assert not refused(guard=guard, host="10.0.0.1:80") and not refused(guard=guard, host="vq.lan")


@pytest.mark.fault("22 other sites")
def test_other_sites():
    assert not refused("POST", host=HERE, origin=f"http://{HERE}", sec_fetch_site="same-origin")
    assert not refused("POST", host=HERE)  # curl
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9", "", "http://["):
        assert refused("POST", host=HERE, origin=origin)
    for site in ("cross-site", "same-site"):
        assert refused("POST", host=HERE, sec_fetch_site=site) and refused(host=HERE, sec_fetch_site=site)
        link = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
        assert not refused(host=HERE, sec_fetch_site=site, **link)
        assert refused("POST", host=HERE, sec_fetch_site=site, **link)
        assert refused(path="/api/models/tokens", host=HERE, sec_fetch_site=site, **link)
        assert refused(host=HERE, sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="iframe")


def test_answers_forbid_other_sites_to_use_them(client):
    status, headers, _ = client.ask("GET", "/")
    assert status == 200 and headers["cross-origin-resource-policy"] == "same-origin"
    assert "script-src 'self';" in headers["content-security-policy"]
    status, answer = client.json("GET", "/", Host="evil.example")
    assert status == 403 and answer["error"]["kind"] == "Forbidden"
