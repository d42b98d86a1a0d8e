"""Test time: from the first frame and mask to a mask for every frame."""
