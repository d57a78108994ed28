"""Print tab completion for `python scripts/NAME.py`, for bash, and for zsh through bashcompinit.

It reads the options from the scripts themselves; print it again after an update. Scripts whose extra is not
installed are left out. Completion of other uses of `python` becomes that of file names.

Examples:
  python scripts/completion.py > ~/.traffic_vlm_completion && source ~/.traffic_vlm_completion
  python scripts/completion.py ask train > ~/.traffic_vlm_completion
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from unittest.mock import patch

FOLDER = Path(__file__).resolve().parent
DISPATCH = """
_traffic_vlm() {
  local name=${COMP_WORDS[1]##*/}
  local complete_it=_shtab_traffic_vlm_${name%.py}
  if (( COMP_CWORD > 1 )) && declare -F "$complete_it" > /dev/null; then
    COMP_WORDS=("${COMP_WORDS[@]:1}")
    COMP_CWORD=$((COMP_CWORD - 1))
    "$complete_it"
  fi
}
complete -o bashdefault -o default -F _traffic_vlm python python3
"""


class Found(Exception):
    """A script's parser, caught on its way to the command line."""


def parser_of(script: Path) -> argparse.ArgumentParser | None:
    """The parser that a script makes, without letting it do anything; None if an extra is not installed."""

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Found(parser)

    methods = {name: stop for name in ("parse_args", "parse_known_args", "parse_intermixed_args")}
    with patch.multiple(argparse.ArgumentParser, **methods), patch.object(sys, "argv", [str(script)]):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except Found as found:
            return found.args[0]
        except SystemExit:  # it has said on stderr which extra it needs
            return None
    raise ValueError(f"{script}: parses no arguments")


def main() -> int:
    """Prints a function for each script and one that finds it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = sorted(path.stem for path in FOLDER.glob("*.py") if path != Path(__file__).resolve())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(known)} (default: all)")
    names = parser.parse_args().names or known
    wrong = [name for name in names if name not in known]
    if wrong:
        parser.error(f"{wrong[0]}: no such script; there are {', '.join(known)}")
    try:
        import shtab
    except ImportError:
        parser.error("needs shtab: pip install shtab")
    for name in names:
        found = parser_of(FOLDER / f"{name}.py")
        if found is not None:
            print(shtab.complete(found, shell="bash", root_prefix=f"traffic_vlm_{name}"))
    print(DISPATCH)
    return 0


if __name__ == "__main__":
    sys.exit(main())
