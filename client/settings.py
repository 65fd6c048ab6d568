"""What both clients are made with: where the server is, how it is reached, and within which bounds."""

import math
from typing import Any

from client.allocation import keep_freed_memory
from client.conversation import Talk
from client.deadline import Deadline
from client.errors import ClientSettingsError
from client.retries import RetryOptions
from client.shared_memory import Regions, SharedMemory, min_pixels
from semia.access import ServerAccess, TlsOptions
from semia.errors import InputError
from semia.messages import MAX_MESSAGE_BYTES

DEFAULT_URL = "127.0.0.1:8001"
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_RETRIES = RetryOptions()
DEFAULT_CONCURRENCY = 4

FIRST_RECONNECT_BACKOFF_MS = 100
MAX_RECONNECT_BACKOFF_MS = 2_000
"""gRPC's own limits, a second and two minutes, would keep a client failing long after its server is back."""


class ClientSettings:
    """Settings of a client, checked.

    The arguments, and what is wrong with them, are documented with `client.SynthesisClient`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        tls: TlsOptions | None,
        admin_key: str | None,
        retries: RetryOptions,
        shared_memory: SharedMemory,
    ) -> None:
        if "://" in url or ":" not in url:
            raise ClientSettingsError(f"{url!r} is not the address of a server: write HOST:PORT, like {DEFAULT_URL}")
        if not 0 < timeout_s < math.inf:
            raise ClientSettingsError(f"timeout_s must be a finite number of seconds above 0, not {timeout_s}")
        if shared_memory not in ("auto", True, False):
            raise ClientSettingsError(f"shared_memory must be 'auto', True or False, not {shared_memory!r}")
        self._url = url
        self._timeout_s = timeout_s
        self._access = ServerAccess(tls, admin_key)
        self.talk = Talk(url, self._access, retries, Regions(min_pixels(shared_memory, url)))

    def deadline(self) -> Deadline:
        """Of a call that begins now."""
        return Deadline(self._timeout_s)

    def connect(self, triton: Any) -> Any:
        """One of tritonclient's two clients, with our settings; it connects with its first call."""
        try:
            credentials = self._access.credentials
        except InputError as error:
            raise ClientSettingsError(str(error)) from error
        keep_freed_memory()
        return triton(
            self._url,
            creds=credentials,
            channel_args=[
                *self._access.channel_arguments,
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_BACKOFF_MS),
                ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_MS),
                ("grpc.enable_retries", 0),  # `client.retries` does that
            ],
        )
