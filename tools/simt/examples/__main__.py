from __future__ import annotations

import sys

from tools.simt.examples import Examples

examples = Examples(sys.argv[1])
for name in sys.argv[2:]:
    if error := examples.run(name)[3]:
        sys.exit(error)
print("clean")
