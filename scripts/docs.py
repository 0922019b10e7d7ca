"""Build the documentation: pages of all notebooks in _docs/, or in the folder given."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from genpapers.base.files import UserError
from genpapers.docs.site import build

if __name__ == "__main__":
    destination = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_docs").resolve()
    try:
        print(f"{build(destination)} pages: open {destination / 'index.html'}")
    except UserError as error:
        sys.exit(str(error))
