"""Gives tblite a fast BLAS: its wheel carries the reference BLAS, which takes twice as long.

PyTorch's CPU library exports MKL's BLAS under the standard names on x86-64 Linux. Loaded into the global
symbol scope before tblite, it serves tblite's calls too. Energies agree within 1e-6 eV (tested). Measured on 64
carbon atoms, one core: 1.45 s with the reference BLAS, 0.78 s with MKL.
"""

import ctypes
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path

#: Set to "bundled" to keep the BLAS of the tblite wheel.
ENVIRONMENT_VARIABLE = "NEAREDGE_TBLITE_BLAS"


@cache
def prepare_blas() -> str:
    """Which BLAS tblite is going to use: "torch" or "bundled". Call before tblite is first imported.

    It stays "bundled" on other systems, where tblite is loaded already, where PyTorch exports no BLAS and
    where the environment variable NEAREDGE_TBLITE_BLAS asks for it. Labels do not depend on the choice.
    """
    if os.environ.get(ENVIRONMENT_VARIABLE) == "bundled" or sys.platform != "linux":
        return "bundled"
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None or "tblite.library" in sys.modules:
        return "bundled"
    path = Path(torch.origin).parent / "lib" / "libtorch_cpu.so"
    if not path.exists() or not hasattr(ctypes.CDLL(str(path)), "dgemm_"):
        return "bundled"
    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    return "torch"
