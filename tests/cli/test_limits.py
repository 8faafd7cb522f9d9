"""What strangers send: no more of it is encoded, or read of a pipe, than is allowed."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

import vqcli
from tests.cli.conftest import only_line
from vqcli.container import vqz
from vqcli.errors import BadFile
from vqcli.files import streams

pytestmark = pytest.mark.fault("14 memory and time")
