"""Networks of our own. Each module registers its one with transformers' Auto classes as it is imported.

`app.adapt.network` imports this package, which imports them all: so trainer and serving load any of their
folders, and a new one is a new file. Imports torch.
"""

from __future__ import annotations

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
