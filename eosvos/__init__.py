"""Meta-learned one-shot video object segmentation: the science, in plain PyTorch."""

__version__ = "0.1.0"
