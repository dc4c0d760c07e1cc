"""One JSON line for each event, on standard error. No line contains an address or a secret."""

import json
import logging
import re
import sys
from typing import Any

import structlog

# Our own code logs no address, but the exception of a library may quote one.
ADDRESS = re.compile(r"""[^\s@"'<>(){}\[\],;:=?&/]+(?:@|%40)[^\s@"'<>(){}\[\],;:?&/\\]+""")

# These loggers write whole URLs. The URL of a GET request to Sailthru contains the address and the signature.
QUIET_LOGGERS = ("httpx", "httpcore", "hpack", "sqlalchemy.engine", "sqlalchemy.pool", "alembic")


def configure_logs(level: str = "INFO") -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=masked_json, ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def masked_json(event: object, **options: Any) -> str:  # noqa: ANN401 - passed on to json.dumps
    """Return the event as JSON and replace every text that looks like an e-mail address."""
    return ADDRESS.sub("(address)", json.dumps(event, **options))
