"What trains; called, `genpapers.train(paper, ...)`, it trains a paper."

import sys

from ..base.rooms import CallableRoom

called = "genpapers.companion.finished:train"
sys.modules[__name__].__class__ = CallableRoom
