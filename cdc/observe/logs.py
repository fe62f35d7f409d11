"""Logs on stderr: a JSON object a line for machines, readable text on a terminal.

What a message is about (relation, LSN, SQLSTATE, delay) comes in `extra` and shows as fields of its
own. Never a row's values, never a secret: neither is ever passed to a logger.
"""

import logging
import sys
from datetime import UTC, datetime

import orjson

# What every LogRecord has; all else on a record was passed in `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        content: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(content, default=str).decode()


class TextFormatter(logging.Formatter):
    """Readable: local time, level where it matters, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of text."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = f"{time} {level}{record.getMessage()}{' ' if fields else ''}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def set_up_logging() -> None:
    """Send all log records of this package, from INFO on, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if sys.stderr.isatty() else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    # Its warnings tell of connections that we close or lose ourselves, without context.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # Of an endpoint that is away it warns at each attempt, and says so once it has given up.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    # It logs each request with its URL, and that of a webhook is a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
