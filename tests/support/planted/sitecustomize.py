"""Plants a fault in the engine of every Python process that finds this folder on PYTHONPATH: the one that PLANTED_FAULT describes.

    PYTHONPATH=tests/support/planted PLANTED_FAULT='{"kind": "stuck", "place": "forward", "tensor": "features.3", "bit": 12}' alexnet accept

Without the variable nothing happens.  The folder is no part of the package, and nothing else reads the variable.
"""

import json
import os
import sys
from typing import Any

if "PLANTED_FAULT" in os.environ:
    from hardware import Fault, plant

    import job.engines

    sound = job.engines.find_engine

    def find_engine(name: str, **words: Any) -> Any:
        engine = sound(name, **words)
        module = sys.modules[type(engine).__module__]
        plant(Fault(**json.loads(os.environ["PLANTED_FAULT"])), module)
        return engine

    job.engines.find_engine = find_engine
