"""Where a model starts from: nothing, a file, ImageNet, COCO; and what is said where that fails."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import MobileNet_V2_Weights, WeightsEnum, mobilenet_v2
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn

from eosvos.errors import BadInput
from eosvos.model.config import ModelConfig
from eosvos.model.weights import initial_model

IMAGENET_FILE = Path(__file__).parents[4] / "shared" / "weights" / "mobilenet_v2_imagenet.safetensors"


@pytest.fixture
def resnet(micro: ModelConfig) -> ModelConfig:
    """ResNet-50 with torchvision's own widths behind it, so that COCO weights fit; not for running."""
    return replace(
        micro,
        backbone="resnet50",
        anchor_sizes=(16, 24, 32, 48, 64),
        fpn_channels=256,
        box_head_channels=1024,
        mask_head_channels=(256,) * 4,
    )


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Tensor] | Exception], None]:
    """Says what every download of published weights gives, or raises."""

    def arrange(result: Mapping[str, Tensor] | Exception) -> None:
        def get_state_dict(self: object, *given: object, **named: object) -> Mapping[str, Tensor]:
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(WeightsEnum, "get_state_dict", get_state_dict)

    return arrange


@pytest.fixture(scope="module")
def mobilenet_state() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return {name: value + 1 if value.dim() == 1 else value for name, value in mobilenet_v2().state_dict().items()}


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def test_none_depends_on_the_seed_alone(micro: ModelConfig) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, report = initial_model(micro, "none", seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert _same(first.state_dict(), initial_model(micro, "none", seed=3)[0].state_dict())
    assert not _same(first.state_dict(), initial_model(micro, "none", seed=4)[0].state_dict())
    assert report.loaded == ()
    assert set(report.random) == set(first.state_dict())


def _assert_is_mobilenet(config: ModelConfig, path: Path, state: Mapping[str, Tensor]) -> None:
    model, report = initial_model(config, str(path), seed=0)
    state_dict = model.state_dict()
    for name in report.loaded:
        assert torch.equal(state_dict[name], state["features." + name.removeprefix("backbone.body.")]), name
    body = {
        name for name in state_dict if name.startswith("backbone.body.") and not name.endswith("num_batches_tracked")
    }
    assert set(report.loaded) == body
    assert set(report.random) == {name for name in state_dict if not name.startswith("backbone.body.")}
    for part in ("backbone.fpn", "roi_heads.box_predictor", "rpn.head"):
        assert part in str(report)
    assert "backbone.body" not in str(report)


def test_a_file_with_the_names_of_a_classifier(
    micro_mobilenet: ModelConfig, mobilenet_state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "mobilenet.safetensors"
    save_file(mobilenet_state, path)
    _assert_is_mobilenet(micro_mobilenet, path, mobilenet_state)


@pytest.mark.skipif(not IMAGENET_FILE.is_file(), reason="no ../shared/weights beside this checkout")
def test_the_published_file(micro_mobilenet: ModelConfig) -> None:
    _assert_is_mobilenet(micro_mobilenet, IMAGENET_FILE, load_file(IMAGENET_FILE))


def test_a_file_of_a_whole_model_and_group_normalization(micro_mobilenet: ModelConfig, tmp_path: Path) -> None:
    source, _ = initial_model(micro_mobilenet, "none", seed=5)
    path = tmp_path / "whole.safetensors"
    save_file(source.state_dict(), path)
    model, report = initial_model(micro_mobilenet, str(path), seed=0)
    assert _same(model.state_dict(), source.state_dict())
    assert report.random == ()
    assert "all" in str(report)
    grouped, _ = initial_model(replace(micro_mobilenet, normalization="group"), str(path), seed=0)
    state_dict = grouped.state_dict()
    assert not any("running_mean" in name for name in state_dict)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in state_dict.items())


def test_imagenet(
    micro_mobilenet: ModelConfig, mobilenet_state: dict[str, Tensor], downloads: Callable[..., None]
) -> None:
    downloads(mobilenet_state)
    model, report = initial_model(micro_mobilenet, "imagenet", seed=0)
    assert torch.equal(model.backbone.body["0"][0].weight, mobilenet_state["features.0.0.weight"])
    assert not any(name.startswith("backbone.body") for name in report.random)


def test_coco(resnet: ModelConfig, downloads: Callable[..., None]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        published = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    downloads(published)
    model, report = initial_model(resnet, "coco", seed=0)
    state_dict = model.state_dict()
    assert {".".join(name.split(".")[1:3]) for name in report.random} == {
        "box_predictor.cls_score",
        "box_predictor.bbox_pred",
        "mask_predictor.mask_fcn_logits",
    }
    assert len(report.random) == 6
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        assert torch.equal(parameter, published[name]) == (name not in report.random), name
    assert state_dict.keys() == parameters.keys()  # group normalization has no statistics
    assert "random: 6 in roi_heads.box_predictor, roi_heads.mask_predictor" in str(report)


def _message(config: ModelConfig, weights: str) -> str:
    with pytest.raises(BadInput) as raised:
        initial_model(config, weights, seed=0)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("error", [URLError("no route to host"), TimeoutError("timed out")])
def test_no_network(
    resnet: ModelConfig, micro_mobilenet: ModelConfig, downloads: Callable[..., None], error: Exception
) -> None:
    downloads(error)
    for config, weights, source in (
        (resnet, "coco", MaskRCNN_ResNet50_FPN_Weights.COCO_V1),
        (micro_mobilenet, "imagenet", MobileNet_V2_Weights.IMAGENET1K_V1),
    ):
        message = _message(config, weights)
        assert message.startswith(f"--backbone-weights {weights}: cannot download {source.url} (")
        assert message.endswith("give a safetensors file, or none")


def test_weights_that_do_not_exist_for_a_backbone(micro: ModelConfig, micro_mobilenet: ModelConfig) -> None:
    assert "imagenet: there are none for tiny" in _message(micro, "imagenet")
    assert "resnet50 only, not for mobilenet_v2" in _message(micro_mobilenet, "coco")


def test_bad_files(micro_mobilenet: ModelConfig, mobilenet_state: dict[str, Tensor], tmp_path: Path) -> None:
    missing, text, cut, foreign = (tmp_path / name for name in ("missing", "text", "cut", "foreign"))
    assert _message(micro_mobilenet, str(missing)).startswith(f"{missing}: no such file")
    text.write_text("not weights")
    save_file(mobilenet_state, cut)
    cut.write_bytes(cut.read_bytes()[:5000])
    for path in (text, cut):
        assert _message(micro_mobilenet, str(path)).startswith(f"{path}: not a safetensors file (")
    save_file({"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}, foreign)
    assert _message(micro_mobilenet, str(foreign)).startswith(
        f"{foreign}: none of its 1 tensors fits backbone mobilenet_v2"
    )
