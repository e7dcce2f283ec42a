"""`make soak`: a store on several machines under load while things break; writes docs/scale/soak.md.

Ends with 1 if anything failed that a promise forbids, or grew, or if there was too little to tell.
"""

import argparse
import os
import secrets
import sys
from pathlib import Path

import django

from tests.scale import network
from tests.servers import temporary_folder

OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "scale" / "soak.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long (30)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.minutes <= 0:
        parser.error(f"--minutes is {arguments.minutes:g}; it has to be more than 0")
    if missing := network.missing():
        parser.error(missing)
    os.environ |= {
        "VAR_DIR": str(temporary_folder()),
        "DJANGO_SETTINGS_MODULE": "simple_django_redis.settings",
    }
    django.setup()
    from bench.soak import report, run

    found, machine = run.soak(arguments.minutes, arguments.seed)
    text = report.markdown(found, machine)
    print(text)
    for complaint in found.complaints:
        print(f"ERROR: {complaint}")
    arguments.output.write_text(text)
    print(f"Written to {arguments.output}")
    sys.exit(1 if found.complaints else 0)


if __name__ == "__main__":
    main()
