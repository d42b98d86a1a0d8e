"""Backbones with a feature pyramid: torchvision's, and one tiny one of ours."""

from collections import OrderedDict

from torch import nn
from torchvision.models import mobilenet_v2, resnet18, resnet50
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, conv1x1

from eosvos.model.config import ModelConfig
from eosvos.model.normalization import FrozenBatchNorm, fold_batch_norm, group_norm


def build_backbone(config: ModelConfig) -> BackboneWithFPN:
    """Body and feature pyramid, randomly initialized from torch's global generator.

    ResNets and MobileNetV2 are built with frozen batch normalization, which is what their published weights fit;
    conversion to group normalization comes after loading (``eosvos.model.weights``).
    """
    layers: tuple[str, ...] = ("layer1", "layer2", "layer3", "layer4")
    match config.backbone:
        case "tiny":
            body, layers, channels = _tiny(config), layers[:3], list(config.widths)
        case "mobilenet_v2":
            # The last convolution (1280 channels, for the classifier) is left out: it costs more than it gives here.
            layers, channels = ("3", "6", "13", "17"), [24, 32, 96, 320]
            body = mobilenet_v2(norm_layer=FrozenBatchNorm).features
        case "resnet18":
            body, channels = resnet18(norm_layer=FrozenBatchNorm), [64, 128, 256, 512]
        case "resnet50":
            body, channels = resnet50(norm_layer=FrozenBatchNorm), [256, 512, 1024, 2048]
    return_layers = {layer: str(level) for level, layer in enumerate(layers)}
    fold_batch_norm(body)
    return BackboneWithFPN(body, return_layers, channels, config.fpn_channels)


def _tiny(config: ModelConfig) -> nn.Sequential:
    """One residual block per stage at strides 4, 8 and 16: (N, 3, H, W) -> ... -> (N, widths[2], H/16, W/16)."""
    widths = config.widths
    norm = group_norm if config.normalization == "group" else FrozenBatchNorm
    body: OrderedDict[str, nn.Module] = OrderedDict()
    body["stem"] = nn.Sequential(
        nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False), norm(widths[0]), nn.ReLU(inplace=True)
    )
    channels = widths[0]
    for stage, width in enumerate(widths, start=1):
        shortcut = nn.Sequential(conv1x1(channels, width, stride=2), norm(width))
        body[f"layer{stage}"] = BasicBlock(channels, width, stride=2, downsample=shortcut, norm_layer=norm)
        channels = width
    for module in body.values():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(body)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in module.parameters())
