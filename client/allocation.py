"""Memory for answers: kept from one call to the next, where the C library would give it back to the kernel."""

import numpy as np

LARGEST_ADAPTED_BYTES = 31 << 20
"""glibc adapts to freed blocks of up to 32 MiB, what malloc adds to them included."""


def keep_freed_memory() -> None:
    """Have glibc's malloc keep some freed memory, up to 62 MiB, as in every process that once freed a large array.

    It keeps twice what the largest block was that it has seen freed, and a picture takes several blocks of its size at
    once: each call would get all of them from the kernel anew, page by page. At 570x380 pixels that is 2 of the 5 ms
    which a call takes beyond the generator's own time. Elsewhere than on glibc this does nothing.
    """
    np.empty(LARGEST_ADAPTED_BYTES, np.uint8)  # none of it is touched, so it costs nothing but the address
