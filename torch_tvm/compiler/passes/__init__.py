"""Rewriting rules on Relax: what TVM's own passes do not do with parameters as inputs.

Rules come in sets; pipeline.py says when each set runs. All of them are exact up to rounding, and
only batch-norm folding and normalisations in one pass change the rounding at all.
"""

from .clean import CLEAN
from .expand import DECOMPOSE, EXPAND
from .fold import FOLD_WEIGHTS
from .idioms import IDIOMS
from .layout import CHANNELS_LAST, LOCAL_CHANNELS_LAST, TO_NHWC
from .pad import PADDING
from .reorder import REORDER
from .resize import RESIZE
from .shuffle import SHUFFLE
from .windows import WINDOWS

__all__ = [
    "CHANNELS_LAST",
    "CLEAN",
    "DECOMPOSE",
    "EXPAND",
    "FOLD_WEIGHTS",
    "IDIOMS",
    "LOCAL_CHANNELS_LAST",
    "PADDING",
    "REORDER",
    "RESIZE",
    "SHUFFLE",
    "TO_NHWC",
    "WINDOWS",
]
