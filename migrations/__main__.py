"""`python -m migrations`: bring the configured database to the newest schema."""

from __future__ import annotations

import argparse
import sys

from app.errors import AttuneError
from app.settings import Settings
from migrations.run import current, head, upgrade


def main() -> int:
    """Upgrade, or with `--check` say whether there is anything to do."""
    parser = argparse.ArgumentParser(prog="attune migrate", description=main.__doc__)
    parser.add_argument(
        "--check", action="store_true", help="exit 1 when the schema is not current"
    )
    arguments = parser.parse_args()
    url = Settings().resolved_database_url
    try:
        if not arguments.check:
            upgrade(url)
        revision = current(url)
    except AttuneError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stderr.write(f"schema at {revision}, newest is {head()}\n")
    return 0 if revision == head() else 1


if __name__ == "__main__":
    sys.exit(main())
