"""What could not be listed: the error becomes that of an item, so that the run goes on with all others."""

from __future__ import annotations

from typing import NoReturn

from vqcli.errors import BadFile
from vqcli.tokens.items import Item
from vqcli.tokens.sources import Wanted


def read(item: Item, wanted: Wanted) -> NoReturn:
    raise BadFile(str(dict(item.labels)["error"]))
