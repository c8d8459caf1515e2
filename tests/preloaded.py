"""What the processes of `run_forked.py` need. The fork server imports it once, and each process inherits it.

It must start no thread of Python: a thread does not survive a fork, and what it held stays locked.
"""

import gc

# First, because it sets the environment that the libraries read when they are imported.
import conftest  # noqa: F401
import run_trainer  # noqa: F401
import shared_fixtures  # noqa: F401
import torch
import torch.distributed
from accelerate.commands import launch  # noqa: F401
from matplotlib.backends import backend_agg  # noqa: F401
from matplotlib.figure import Figure  # noqa: F401
from rdkit.Chem import Draw  # noqa: F401

import class_hf
from class_hf import cli, hub, page, plots, search, studies, training  # noqa: F401

torch.set_num_threads(1)
for name in class_hf.__all__:
    getattr(class_hf, name)
# The collector of a forked process leaves these objects alone, so it is fast and copies no page of memory.
gc.collect()
gc.freeze()
