"""config.pbtxt says what the card says, in words every Triton knows."""

import json
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from semia.accelerators import Accelerator
from semia.errors import InputError
from semia.model_card import CARD_FILE, ModelCard
from serving import ServingSettings, config_text, model_config
from serving.model_config import settings_from_config


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
        ServingSettings(instances=2, threads=1, batching=True, reason="the fastest here"),
        ServingSettings(accelerator=Accelerator.TENSORRT, engine_cache=PurePosixPath("/engines"), max_batch_size=3),
        ServingSettings(accelerator=Accelerator.CUDA),
        ServingSettings(accelerator=Accelerator.OPENVINO),
    ],
)
def test_how_a_model_is_run_can_be_read_back(card: ModelCard, settings: ServingSettings) -> None:
    text = config_text(card, "ab" * 32, settings)
    assert settings_from_config(text) == settings
    assert text_format.Parse(text, pb.ModelConfig()).HasField("dynamic_batching") == settings.batching
    if settings.reason is not None:
        assert text.splitlines()[1] == f"# {settings.reason}"


def test_other_configurations_are_refused() -> None:
    with pytest.raises(InputError, match="no model configuration of ours"):
        settings_from_config("instance_group 3")


@pytest.mark.parametrize("field", ["max_batch_size", "instances", "threads"])
def test_impossible_settings_are_refused(field: str) -> None:
    with pytest.raises(InputError, match=f"{field} must be at least 1, not 0"):
        ServingSettings(**cast("Any", {field: 0}))
