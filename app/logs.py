"""One JSON line for each thing that happened, on standard error; no address and no secret in any of them."""

import json
import logging
import re
import sys
from typing import Any

import structlog

# Last line of defence: nobody logs an address on purpose, but an exception of a library may quote one.
ADDRESS = re.compile(r"""[^\s@"'<>(){}\[\],;:=?&/]+(?:@|%40)[^\s@"'<>(){}\[\],;:?&/\\]+""")

# They log whole URLs: a GET to Sailthru has the address and the signature in it.
QUIET_LOGGERS = ("httpx", "httpcore", "hpack", "sqlalchemy.engine", "sqlalchemy.pool", "alembic")


def configure_logs(level: str = "INFO") -> None:
    """Set up logging for the whole process."""
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


def masked_json(event: object, **options: Any) -> str:  # noqa: ANN401 - handed on to json.dumps
    """A log line, with whatever looks like an e-mail address replaced, wherever in it."""
    return ADDRESS.sub("(address)", json.dumps(event, **options))
