"""The second half of `make demo`: serve what was published, ask for every target over gRPC, show the answers.

It is also the shortest whole example of our Python API: a server, a client, pictures.
"""

import statistics
import time
from pathlib import Path

import numpy as np

from semia.client import SynthesisClient
from semia.core.contact_sheet import Tile, result_sheet
from semia.core.images import list_images, read_rgb, write_image, write_rgb
from semia.serving import ServerOptions, TritonServer

MODEL = "pagoda"
SCENE = Path(__file__).parent / MODEL
OUT = Path("demo")
CALLS = 20
"""Timed calls a target, after one that is not timed."""


def main() -> None:
    """Serve, synthesize, write the contact sheet, say where it is and how long a call took."""
    latencies_ms: list[float] = []
    labels, results = {}, {}
    with (
        TritonServer(OUT / "model_repository", ServerOptions.on_free_ports()) as server,
        SynthesisClient(server.grpc_url) as client,
    ):
        print(f"Triton serves {', '.join(server.models)} on {server.grpc_url}")
        palette = client.describe(MODEL).palette
        for path in list_images(SCENE / "cond"):
            ids = client.class_ids(MODEL, path)
            picture = client.synthesize(MODEL, ids)
            for _ in range(CALLS):
                began = time.perf_counter()
                client.synthesize(MODEL, ids)
                latencies_ms.append(1000 * (time.perf_counter() - began))
            write_image(OUT / "pictures" / f"{path.stem}.png", picture)
            labels[path.stem], results[path.stem] = palette.render(ids), np.asarray(picture)
        source_labels = palette.render(client.class_ids(MODEL, SCENE / "label.png"))
    sheet = OUT / "sheet.png"
    photograph = Tile("photograph", read_rgb(SCENE / "img.jpg"))
    write_rgb(sheet, result_sheet(photograph, Tile("its labels", source_labels), labels, results))
    print(f"{len(results)} pictures over gRPC, median latency {statistics.median(latencies_ms):.1f} ms")
    print(f"contact sheet: {sheet.resolve()}")


if __name__ == "__main__":
    main()
