"""Where a Mask R-CNN starts from: COCO, ImageNet, a file, or nothing."""

from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import MobileNet_V2_Weights, ResNet18_Weights, ResNet50_Weights
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn

from eosvos.errors import BadInput
from eosvos.model.config import ModelConfig
from eosvos.model.mask_rcnn import MaskRCNN
from eosvos.model.normalization import to_group_norm

IMAGENET = {
    "mobilenet_v2": MobileNet_V2_Weights.IMAGENET1K_V1,
    "resnet18": ResNet18_Weights.IMAGENET1K_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
}


@dataclass(frozen=True)
class LoadedWeights:
    """What of a model came from where: names that fit, and names of the model that stay at random initialization."""

    source: str
    loaded: tuple[str, ...]
    random: tuple[str, ...]

    def __str__(self) -> str:
        if not self.random:
            return f"{self.source}: all {len(self.loaded)} tensors"
        prefixes = sorted({".".join(name.split(".")[:2]) for name in self.random})
        return f"{self.source}: {len(self.loaded)} tensors; random: {len(self.random)} in {', '.join(prefixes)}"


def initial_model(config: ModelConfig, weights: str, seed: int) -> tuple[MaskRCNN, LoadedWeights]:
    """A model with its initial weights.

    Args:
        config: the model to build.
        weights: ``coco`` (torchvision's Mask R-CNN, ResNet-50), ``imagenet`` (torchvision's backbone), ``none``, or the
            path of a safetensors file whose names are torchvision's for the backbone or for the whole Mask R-CNN.
        seed: of everything that stays random.

    Returns:
        the model, and what was loaded. Every tensor whose name and shape fit is taken, as in the authors' release.

    Raises:
        BadInput: weights that cannot be downloaded or read, or of which nothing fits.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MaskRCNN(config)
    state = model.state_dict()
    found = {} if weights == "none" else _read_weights(config, weights)
    # num_batches_tracked counts updates of running statistics; ours are frozen, so its absence means nothing.
    wanted = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    fitting = {name: value for name, value in found.items() if name in wanted and value.shape == wanted[name].shape}
    if weights != "none" and not fitting:
        raise BadInput(
            f"{weights}: none of its {len(found)} tensors fits backbone {config.backbone}; choose weights of that "
            "backbone, or --backbone-weights none"
        )
    model.load_state_dict(fitting, strict=False)
    if config.normalization == "group":
        to_group_norm(model)
    return model, LoadedWeights(weights, tuple(fitting), tuple(name for name in wanted if name not in fitting))


def _read_weights(config: ModelConfig, weights: str) -> dict[str, Tensor]:
    """The tensors that ``weights`` names, by the names that they have in our model."""
    if weights == "coco":
        if config.backbone != "resnet50":
            raise BadInput(
                f"--backbone-weights coco: torchvision has COCO weights for resnet50 only, not for {config.backbone}; "
                "choose imagenet, a safetensors file, or none"
            )
        # Loaded into torchvision's own model first: that renames the keys of the published file's older layout.
        reference = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        reference.load_state_dict(_download(MaskRCNN_ResNet50_FPN_Weights.COCO_V1, weights))
        return dict(reference.state_dict())
    if weights == "imagenet":
        if config.backbone not in IMAGENET:
            raise BadInput(f"--backbone-weights imagenet: there are none for {config.backbone}; choose none or a file")
        return _add_backbone_prefix(_download(IMAGENET[config.backbone], weights))
    if not Path(weights).is_file():
        raise BadInput(f"{weights}: no such file; --backbone-weights takes coco, imagenet, none or a safetensors file")
    try:
        return _add_backbone_prefix(load_file(weights))
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{weights}: not a safetensors file ({error}); convert it with safetensors.torch") from error


def _download(source: object, weights: str) -> dict[str, Tensor]:
    try:
        return source.get_state_dict(progress=False, check_hash=True)  # type: ignore[attr-defined, no-any-return]
    except (URLError, OSError, RuntimeError) as error:  # a RuntimeError is a checksum that does not match
        raise BadInput(
            f"--backbone-weights {weights}: cannot download {source.url} ({error}); "  # type: ignore[attr-defined]
            "give a safetensors file, or none"
        ) from error


def _add_backbone_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of a classifier (``features.0.0.weight``, ``layer1...``) -> names below ``backbone.body``."""
    return {
        name
        if name.startswith(("backbone.", "rpn.", "roi_heads."))
        else f"backbone.body.{name.removeprefix('features.')}": value
        for name, value in state.items()
    }
