"""Start scripts in a process that sees the package and what it needs, and nothing that an extra brings.

Each must explain itself, or end in one line that names the extra; prints how many did the latter.
"""

import contextlib
import io
import re
import runpy
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MESSAGE = re.compile(r'error: this needs pip install "traffic-vlm\[\w+\]" \(.+\)\.\n')


def needed(name: str) -> set[str]:
    """What a distribution needs without extras, and what that needs."""
    found: set[str] = {name}
    waiting = [name]
    while waiting:
        with contextlib.suppress(metadata.PackageNotFoundError):
            for need in map(Requirement, metadata.requires(waiting.pop()) or []):
                name = canonicalize_name(need.name)
                if name not in found and (need.marker is None or need.marker.evaluate({"extra": ""})):
                    found.add(name)
                    waiting.append(name)
    return found


def hide_what_extras_bring() -> None:
    """Let the import of everything else that is installed fail."""
    core, kept, hidden = needed("traffic-vlm") | {"setuptools", "pip"}, set(), set()
    for found in metadata.distributions():  # packages_distributions misses most before Python 3.11
        names = kept if canonicalize_name(found.metadata["Name"]) in core else hidden
        names.update(file.parts[0].split(".")[0] for file in found.files or [])
    for module in filter(str.isidentifier, hidden - kept):
        sys.modules.setdefault(module, None)
    assert sys.modules["pandas"] is sys.modules["accelerate"] is sys.modules["pyarrow"] is None


def is_refused(script: str) -> bool:
    """Start one script with --help; whether it named an extra."""
    sys.argv, said, code = [script, "--help"], io.StringIO(), "went on"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    assert code in (0, 2), (script, code)
    assert code == 0 or MESSAGE.fullmatch(said.getvalue()), (script, said.getvalue())
    return code == 2


if __name__ == "__main__":
    hide_what_extras_bring()
    print(sum(map(is_refused, sys.argv[1:])))
