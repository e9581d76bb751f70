"""`python -m workers`: start one worker. `--check` says whether one is alive, for health checks."""

from __future__ import annotations

import argparse
import sys

from app.errors import AttuneError
from app.jobs import workers
from app.kit.db import Database
from app.settings import Settings
from workers.registry import host_name


def main() -> None:
    """Parse the command line and become a Celery worker."""
    parser = argparse.ArgumentParser(prog="attune worker", description=main.__doc__)
    parser.add_argument("--name", default="worker", help="shown in logs and in the job's runs")
    parser.add_argument(
        "--check", action="store_true", help="exit 0 if a worker of this host lives"
    )
    arguments = parser.parse_args()
    settings = Settings()
    if arguments.check:
        sys.exit(_check(settings))
    from workers.celery_app import celery

    celery.worker_main(
        [
            "worker",
            f"--hostname={arguments.name}@%h",
            "--pool=prefork",
            "--without-gossip",
            "--without-mingle",
            f"--loglevel={settings.log_level}",
        ]
    )


def _check(settings: Settings) -> int:
    database = Database(settings.resolved_database_url)
    try:
        with database.read() as session:
            is_alive = workers.alive(session, settings.lease_ttl_s, host=host_name()) > 0
    except AttuneError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    if not is_alive:
        sys.stderr.write(f"no worker of {host_name()} was seen for {settings.lease_ttl_s:.0f} s\n")
    return 0 if is_alive else 1


if __name__ == "__main__":
    main()
