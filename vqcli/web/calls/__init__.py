"""What a server can be asked to do: one file a call, whose fields are the JSON that it takes."""

from __future__ import annotations

from vqcli.web.calls.convert import Convert
from vqcli.web.calls.decode import Decode
from vqcli.web.calls.encode import Encode
from vqcli.web.calls.sample import Sample
from vqcli.web.workspace import Call, Workspace

CALLS: dict[str, type[Call]] = {"encode": Encode, "decode": Decode, "convert": Convert, "sample": Sample}

__all__ = ["CALLS", "Call", "Workspace"]
