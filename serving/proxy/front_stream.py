"""Forwarding ``ModelStreamInfer``: requests for any models go in, answers come out as they are ready."""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as kserve

from semia.serving.errors import ServingError
from semia.serving.triton.channel import TritonChannel, passed_on

Resident = Callable[[str], contextlib.AbstractAsyncContextManager[None]]


class StreamForwarder:
    """One stream of a caller, and the one to Triton behind it."""

    def __init__(self, triton: TritonChannel, resident: Resident) -> None:
        """Forward nothing yet.

        Args:
            triton: where requests go.
            resident: has a model in memory as long as its ``async with`` block runs.
        """
        self._triton = triton
        self._resident = resident
        self._in_use: collections.deque[contextlib.AsyncExitStack] = collections.deque()  # of unanswered requests
        self._writing = asyncio.Lock()  # gRPC takes one answer at a time

    async def forward(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Handle the stream until both sides have ended it, or either has failed."""
        call = self._triton.open_stream(context.time_remaining(), passed_on(context.invocation_metadata()))
        sender = asyncio.create_task(self._send(requests, call, context))
        try:
            async for answer in call:
                await self._write(answer, context)
                # Triton answers each request once, most often in their order; should it be another's turn, a model
                # may be sent away with calls in flight, which Triton still finishes.
                if self._in_use:
                    await self._in_use.popleft().aclose()
            await sender
            context.set_trailing_metadata(passed_on(await call.trailing_metadata()))
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", passed_on(error.trailing_metadata()))
        finally:
            sender.cancel()
            call.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            while self._in_use:
                await self._in_use.popleft().aclose()

    async def _send(
        self, requests: AsyncIterator[bytes], call: "grpc.aio.StreamStreamCall[bytes, bytes]", context: Any
    ) -> None:
        async for request in requests:
            try:
                name = kserve.ModelInferRequest.FromString(request).model_name
            except DecodeError:
                await call.write(request)  # Triton says what is wrong with it
                continue
            in_use = contextlib.AsyncExitStack()
            try:
                await in_use.enter_async_context(self._resident(name))
            except ServingError as error:
                # As Triton does: the stream goes on after a request that fails.
                await self._write(
                    kserve.ModelStreamInferResponse(error_message=str(error)).SerializeToString(), context
                )
                continue
            self._in_use.append(in_use)
            await call.write(request)
        await call.done_writing()

    async def _write(self, answer: bytes, context: Any) -> None:
        async with self._writing:
            await context.write(answer)
