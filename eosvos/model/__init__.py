"""Mask R-CNN for one class: torchvision's, extended by subclassing."""
