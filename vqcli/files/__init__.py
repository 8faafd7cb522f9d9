"""Files and folders of the system: folders are walked, streams bounded, results written."""

from vqcli.files.folders import LeftOut, below, files_below, size_text
from vqcli.files.streams import Body, LargeFile, body_of, name_of, no_room, release, seekable, spooled, storage
from vqcli.files.writing import HINT, make_folder, numbered, refuse_existing, replacing, sweep, temporary_folder

__all__ = [
    "HINT", "Body", "LargeFile", "LeftOut", "below", "body_of", "files_below", "make_folder", "name_of", "no_room",
    "numbered", "refuse_existing", "release", "replacing", "seekable", "size_text", "spooled", "storage", "sweep",
    "temporary_folder",
]  # fmt: skip
