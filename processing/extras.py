"""What a command needs beyond the package itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports: where one fails, the command ends in one line that names the extra to install.

    Args:
        extra: A name under `[project.optional-dependencies]` in pyproject.toml.

    Raises:
        SystemExit: With code 2, if something is not installed.
    """
    try:
        yield
    except ImportError as error:
        print(f'error: this needs pip install "traffic-vlm[{extra}]" ({error}).', file=sys.stderr)
        raise SystemExit(2) from None
