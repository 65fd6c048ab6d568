"""Structured logs (``--log-format json``): one JSON object an event, one line each, on standard error."""

import datetime
import json
import logging
import math
import sys
from enum import StrEnum

_logger = logging.getLogger("semia")
_structured = False


class LogFormat(StrEnum):
    """How a command tells what it does."""

    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON: time, level, event, the event's fields, message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; records of libraries, which know no events, name their logger instead."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        content: dict[str, object] = {"time": time, "level": record.levelname.lower()}
        if record.name == _logger.name:
            content |= {"event": record.__dict__["event"], **_plain(record.__dict__["fields"])}
        else:
            content |= {"event": "library", "logger": record.name}
        if message := record.getMessage().strip():
            content["message"] = message
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False, default=str)


def choose_format(log_format: LogFormat) -> None:
    """Have the process log in a format; libraries' warnings follow, so that every line can be parsed."""
    global _structured
    _structured = log_format is LogFormat.JSON
    if _structured:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        logging.getLogger().handlers[:] = [handler]  # whatever a library put there writes other lines
        logging.captureWarnings(True)
        _logger.setLevel(logging.INFO)


def structured() -> bool:
    """Whether events are logged as JSON, and nothing is shown for a person's eyes alone."""
    return _structured


def write_event(event: str, message: str, level: int, fields: dict[str, object]) -> None:
    """Log an event, where `structured`."""
    _logger.log(level, "%s", message, extra={"event": event, "fields": fields})


def _plain(fields: dict[str, object]) -> dict[str, object]:
    """Fields as JSON has them: infinite numbers as strings, six decimals, None left out."""
    return {name: _plain_value(value) for name, value in fields.items() if value is not None}


def _plain_value(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return _plain(value) if isinstance(value, dict) else value
