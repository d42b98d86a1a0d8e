"""One sequence evaluated: segmented from its first mask, and scored."""
