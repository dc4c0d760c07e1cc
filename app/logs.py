"""
One JSON line for each thing that happened, on standard error; no address and no secret in any of them.
"""

import logging
import re
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger

# Last line of defence: nobody logs an address on purpose, but an exception of a library may quote one.
ADDRESS = re.compile(r"[A-Za-z0-9.!#$&'*+/=?^_`{|}~-]+(?:@|%40)[A-Za-z0-9.-]+")

# They log whole URLs: a GET to Sailthru has the address and the signature in it.
QUIET_LOGGERS = ("httpx", "httpcore", "hpack", "aiosqlite", "sqlalchemy.engine", "sqlalchemy.pool", "alembic")


def configure_logs(level: str = "INFO") -> None:
    """
    Set up logging for the whole process.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_addresses,
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
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def mask_addresses(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """
    Replace whatever looks like an e-mail address in a log line.
    """
    return {name: ADDRESS.sub("(address)", value) if isinstance(value, str) else value for name, value in event.items()}
