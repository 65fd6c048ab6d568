"""config.pbtxt says what the card says, in words every Triton knows."""

import dataclasses
import json
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from semia.core.access import MAX_MESSAGE_BYTES
from semia.core.errors import InputError
from semia.core.model_card import CARD_FILE, Accelerator, ModelCard
from semia.serving import BundleError, ServingSettings, config_text, model_config
from semia.serving.model_config import settings_from_config


@pytest.fixture
def card(tiny_bundle: Path) -> ModelCard:
    return ModelCard.read(tiny_bundle / CARD_FILE)


def test_text_and_message_are_the_same_configuration(card: ModelCard) -> None:
    text = config_text(card, "ab" * 32)
    assert text.startswith("# Generated")
    assert text_format.Parse(text, pb.ModelConfig()) == model_config(card, "ab" * 32)


def test_tensors_are_batches_of_the_canvas(card: ModelCard) -> None:
    config = model_config(card, "ab" * 32, ServingSettings(max_batch_size=3))
    (label_map,), (image,) = config.input, config.output
    assert (label_map.name, label_map.data_type, [*label_map.dims]) == ("target_labels", pb.TYPE_UINT8, [48, 64])
    assert (image.name, image.data_type, [*image.dims]) == ("image", pb.TYPE_UINT8, [48, 64, 3])
    assert config.max_batch_size == 3
    assert [*config.model_warmup[0].inputs["target_labels"].dims] == [48, 64]


def test_parameters_tell_a_client_all_it_needs(card: ModelCard) -> None:
    parameters = {key: value.string_value for key, value in model_config(card, "ab" * 32).parameters.items()}
    assert json.loads(parameters.pop("palette")) == ["#FF0000", "#00FF00", "#0000FF"]
    assert json.loads(parameters.pop("class_names")) == ["roof", "lawn", "sky"]
    assert parameters == {"canvas_height": "48", "canvas_width": "64", "model_card_sha256": "ab" * 32}


def test_instances_and_threads_are_said_outright(card: ModelCard) -> None:
    config = model_config(card, "ab" * 32, ServingSettings(instances=2, threads=3))
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, pb.ModelInstanceGroup.KIND_AUTO)
    assert config.parameters["intra_op_thread_count"].string_value == "3"


@pytest.mark.parametrize(
    "settings",
    [
        ServingSettings(),
        ServingSettings(max_batch_size=1, instances=2, threads=1, batching=False, reason="the fastest here"),
        ServingSettings(max_batch_size=2, queue_size=3, queue_timeout_s=0.25),
        ServingSettings(max_batch_size=2, batching=False, queue_timeout_s=3600),
        ServingSettings(accelerator=Accelerator.TENSORRT, engine_cache=PurePosixPath("/engines"), max_batch_size=3),
        ServingSettings(max_batch_size=9, accelerator=Accelerator.CUDA),
        ServingSettings(accelerator=Accelerator.OPENVINO),
    ],
)
def test_how_a_model_is_run_can_be_read_back(card: ModelCard, settings: ServingSettings) -> None:
    text = config_text(card, "ab" * 32, settings)
    assert settings_from_config(text) == settings
    assert [*text_format.Parse(text, pb.ModelConfig()).dynamic_batching.preferred_batch_size] == [1] * (
        not settings.batching
    )
    if settings.reason is not None:
        assert text.splitlines()[1] == f"# {settings.reason}"


def test_how_a_model_is_run_can_be_said_in_words() -> None:
    assert str(ServingSettings()) == "1 instance of all cores"
    side_by_side = ServingSettings(instances=2, threads=1, batching=False)
    assert str(side_by_side) == "2 instances of 1 thread, requests one by one"
    bounded = ServingSettings(threads=2, max_batch_size=4, queue_size=9, queue_timeout_s=10)
    assert str(bounded) == (
        "1 instance of 2 threads, at most 4 label maps a request, at most 9 requests waiting, none for longer than 10 s"
    )
    assert str(ServingSettings(accelerator=Accelerator.CUDA)) == "1 instance of all cores, accelerated by cuda"


def test_configurations_from_before_there_was_a_batcher_are_read(card: ModelCard) -> None:
    config = model_config(card, "ab" * 32)
    config.ClearField("dynamic_batching")
    assert settings_from_config(str(config)) == ServingSettings(batching=False)


def test_queues_are_bounded_on_demand(card: ModelCard) -> None:
    """Without a policy: with one, whatever it says, Triton's batcher stalls now and then."""
    assert model_config(card, "ab" * 32).dynamic_batching == pb.ModelDynamicBatching()
    bounded = model_config(card, "ab" * 32, ServingSettings(queue_size=5, queue_timeout_s=1.5)).dynamic_batching
    assert bounded.default_queue_policy == pb.ModelQueuePolicy(
        timeout_action=pb.ModelQueuePolicy.REJECT,
        default_timeout_microseconds=1_500_000,
        allow_timeout_override=True,
        max_queue_size=5,
    )


def canvas(card: ModelCard, height: int, width: int) -> ModelCard:
    return dataclasses.replace(card, canvas_height=height, canvas_width=width)


def test_batches_shrink_until_an_answer_fits_in_a_message(card: ModelCard) -> None:
    large = canvas(card, 5000, 6000)  # 90 MB a picture
    text = config_text(large, "ab" * 32)
    assert "\n# max_batch_size: no more pictures fit in an answer of 256 MiB\n" in text
    assert text_format.Parse(text, pb.ModelConfig()).max_batch_size == 2
    assert settings_from_config(text).max_batch_size is None, "a smaller canvas may have more"
    assert 2 * 5000 * 6000 * 3 < MAX_MESSAGE_BYTES < 3 * 5000 * 6000 * 3
    assert model_config(canvas(card, 3000, 3700), "ab" * 32).max_batch_size == 8
    with pytest.raises(InputError, match=r"batches of up to 3 are asked for, .* 256 MiB holds 2 pictures of 6000x5000"):
        model_config(large, "ab" * 32, ServingSettings(max_batch_size=3))


def test_a_canvas_too_large_for_a_message_is_refused(card: ModelCard) -> None:
    assert model_config(canvas(card, 8000, 8000), "ab" * 32).max_batch_size == 1, "as large as an image may be"
    with pytest.raises(BundleError, match="'tiny' paints 10000x9000 pixels, and not one such picture fits"):
        model_config(canvas(card, 9000, 10000), "ab" * 32)


def test_other_configurations_are_refused() -> None:
    with pytest.raises(InputError, match="no model configuration of ours"):
        settings_from_config("instance_group 3")


@pytest.mark.parametrize("field", ["max_batch_size", "instances", "threads", "queue_size"])
def test_impossible_settings_are_refused(field: str) -> None:
    with pytest.raises(InputError, match=f"{field} must be at least 1, not 0"):
        ServingSettings(**cast("Any", {field: 0}))


@pytest.mark.parametrize("seconds", [0, -1, 3601, float("inf"), float("nan")])
def test_impossible_times_are_refused(seconds: float) -> None:
    with pytest.raises(InputError, match=r"queue_timeout_s must be 0\.001 to 3600, not"):
        ServingSettings(queue_timeout_s=seconds)
