"""Reading Triton's log for the reason of a failure."""

import re

LOG_LINE = re.compile(r'[IWEF]\d{4} \S+ \d+ \S+\] (?:"(?P<quoted>.*)"|(?P<plain>.*))')
"""``E1122 08:05:06.092130 5251 server.cc:241] "message"``; a message of several lines has one quote here."""

FOREIGN_ERROR = re.compile(r"error|terminate called|what\(\)", re.IGNORECASE)
"""How the dynamic loader, the option parser and the C++ runtime complain, whose lines are not Triton's."""

HARMLESS = ("CudaDriverHelper has not been initialized", "failed to load all models")
"""Errors that every start without a GPU logs, and one that only sums up others."""


def last_error(log: str) -> str | None:
    """The message of the last line that reports an error, or None if there is none."""
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith(("+", "|"))]
    errors = [line for line in lines if _is_error(line) and not any(text in line for text in HARMLESS)]
    return _message(errors[-1]) if errors else None


def _is_error(line: str) -> bool:
    return line[0] in "EF" if LOG_LINE.match(line) else bool(FOREIGN_ERROR.search(line))


def _message(line: str) -> str:
    match = LOG_LINE.match(line)
    if match is None:
        return line
    return (match["quoted"] or match["plain"] or "").strip('"').split("\\n")[0]
