"""How large one request or one answer may be: publishing sees to it, and every client insists on it."""

from semia.core.labels import Canvas

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""Of a request or an answer. tritonclient's own limit, 2 GiB, would let a wrong server fill the memory."""

ENVELOPE_BYTES = 64 * 1024
"""Left for everything in a message but its tensor: names, shapes and parameters take a fraction of it."""


def largest_batch(canvas: Canvas) -> int:
    """How many pictures ``uint8[H, W, 3]`` of a canvas one message holds; 0: not a single one."""
    return (MAX_MESSAGE_BYTES - ENVELOPE_BYTES) // (canvas.height * canvas.width * 3)
