"""`asgilook`, with other time limits: `MODULE.NAME=SECONDS` before its arguments."""

from __future__ import annotations

import importlib
import sys

from asgilook.cli.main import main

arguments = sys.argv[1:]
while arguments and '=' in arguments[0]:
    name, _, seconds = arguments.pop(0).partition('=')
    module_name, _, attribute = name.rpartition('.')
    module = importlib.import_module(f'asgilook.{module_name}')
    assert hasattr(module, attribute), name
    setattr(module, attribute, float(seconds))

if __name__ == '__main__':
    sys.exit(main(arguments))
