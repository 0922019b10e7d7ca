"The page of all claims; called, `genpapers.claims(paper)`, it is what was found for them."

import sys

from ..base.rooms import CallableRoom

called = "genpapers.companion.face:claims"
sys.modules[__name__].__class__ = CallableRoom
