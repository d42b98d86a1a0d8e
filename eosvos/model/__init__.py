"""Mask R-CNN for one object: torchvision's, extended by subclassing."""
