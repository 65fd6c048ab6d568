"""The server needs none of our code: the README's example of any KServe-v2 client."""

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

import serving


# readme: bare tritonclient
def synthesize(url: str, model: str, class_ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with InferenceServerClient(url) as triton:
        target = InferInput("target_labels", [1, *class_ids.shape], "UINT8")
        target.set_data_from_numpy(class_ids[np.newaxis])
        answer = triton.infer(model, [target], client_timeout=30)
    picture: NDArray[np.uint8] = answer.as_numpy("image")[0]
    return picture


# end


def test_bare_tritonclient_gets_the_picture(triton: serving.TritonServer) -> None:
    class_ids = np.zeros((48, 64), dtype=np.uint8)
    class_ids[:, 32:] = 2
    picture = synthesize(triton.grpc_url, "tiny", class_ids)
    assert picture.shape == (48, 64, 3)
    assert picture[0, 0].tolist() == [255, 0, 0]
    assert picture[0, 63].tolist() == [0, 0, 255]
