"""tox plugin: test the Python that runs tox first, whatever its version."""

import os
import sys

os.environ['RUNNING_PYTHON'] = f'py{sys.version_info.major}{sys.version_info.minor}'
