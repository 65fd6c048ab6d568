"""What a conversation with a server is made of, and who carries it out.

A *conversation* is a generator: it yields steps, is sent what came of each, and returns its result. It holds all
the logic and does no waiting itself, so that one text serves the client that blocks and the one that
awaits; they differ only in `carry_out` and `carry_out_async`.
"""

import asyncio
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from client.deadline import Deadline

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ask:
    """A call of tritonclient, whose two clients have the same methods."""

    call: Callable[[Any, float], Any]  # from the client and the seconds left to an answer, or to an awaitable of it


@dataclass(frozen=True)
class Work:
    """Something that keeps the processor or the disk busy; it is done in a thread where others must not wait."""

    do: Callable[[], Any]


@dataclass(frozen=True)
class Pause:
    """A wait, in seconds."""

    duration_s: float


Step = Ask | Work | Pause

Conversation = Generator[Step, Any, Result]


def carry_out(conversation: Conversation[Result], triton: Any, deadline: Deadline) -> Result:
    """Carry out a conversation, blocking, and return its result or raise its error."""
    proceed = conversation.__next__
    while True:
        try:
            step = proceed()
        except StopIteration as stop:
            result: Result = stop.value
            return result
        try:
            if isinstance(step, Work):
                reply = step.do()
            elif isinstance(step, Pause):
                reply = None
                time.sleep(step.duration_s)
            else:
                reply = step.call(triton, deadline.remaining_s())
        except BaseException as error:  # the conversation has things to clean up even after Ctrl-C
            proceed = _thrower(conversation, error)
        else:
            proceed = _sender(conversation, reply)


async def carry_out_async(conversation: Conversation[Result], triton: Any, deadline: Deadline) -> Result:
    """As `carry_out`, awaiting."""
    proceed = conversation.__next__
    while True:
        try:
            step = proceed()
        except StopIteration as stop:
            result: Result = stop.value
            return result
        try:
            if isinstance(step, Work):
                reply = await asyncio.to_thread(step.do)
            elif isinstance(step, Pause):
                reply = None
                await asyncio.sleep(step.duration_s)
            else:
                reply = await step.call(triton, deadline.remaining_s())
        except BaseException as error:  # as above; here it may be that the task was cancelled
            proceed = _thrower(conversation, error)
        else:
            proceed = _sender(conversation, reply)


def _sender(conversation: Conversation[Result], reply: Any) -> Callable[[], Step]:
    return lambda: conversation.send(reply)


def _thrower(conversation: Conversation[Result], error: BaseException) -> Callable[[], Step]:
    return lambda: conversation.throw(error)
