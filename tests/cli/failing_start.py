"""`asgilook`, with workers that fail to start while a file exists."""

from __future__ import annotations

import os
import sys

from asgilook.cli.main import main
from asgilook.store import Store

original = Store.start


async def start(self: Store) -> None:
    if os.access(os.environ['FAIL_WHILE'], os.F_OK):
        raise OSError('the worker cannot start')
    await original(self)


Store.start = start  # type: ignore[method-assign]

if __name__ == '__main__':
    sys.exit(main())
