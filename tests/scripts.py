"""Scripts outside any package, as modules."""

import importlib.util
import sys
import types
from pathlib import Path


def load(file: Path) -> types.ModuleType:
    """A fresh module of a file, under the file's name."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module
