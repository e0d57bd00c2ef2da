"""Run several `av` commands in one process, since most of a short one is its start: commands.py JSON

JSON is a list of argument lists. Prints a list of {"code": exit code, "out": what the command printed}.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from typing import Any

from av_assets.cli.main import main


def run(arguments: list[str]) -> dict[str, Any]:
    code, out = 0, io.StringIO()
    with redirect_stdout(out):
        try:
            main(arguments, standalone_mode=False)
        except SystemExit as error:
            code = int(error.code or 0)
    return {"code": code, "out": out.getvalue()}


if __name__ == "__main__":
    print(json.dumps([run(arguments) for arguments in json.loads(sys.argv[1])]))
