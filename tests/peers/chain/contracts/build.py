"""Writes compiled.json from the sources beside it; runs in vyper's own environment (README.md)."""

import json
from pathlib import Path

from vyper import __version__, compile_code

here = Path(__file__).parent
compiled = {"vyper": __version__}
for source in sorted(here.glob("*.vy")):
    made = compile_code(source.read_text(), output_formats=["bytecode", "bytecode_runtime"])
    compiled[source.stem] = {"deploy": made["bytecode"], "code": made["bytecode_runtime"]}
(here / "compiled.json").write_text(json.dumps(compiled, indent=1) + "\n")
