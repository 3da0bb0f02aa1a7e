"""tox plugin: test the Python that runs tox first, and in CI with SeaweedFS."""

import os
import sys

os.environ['RUNNING_PYTHON'] = f'py{sys.version_info.major}{sys.version_info.minor}'
# Where CI=true, tests that need a server fail without it.
if os.environ.get('CI') == 'true':
    os.environ.setdefault('TEST_EXTRAS', 'seaweedfs')
