"""Learning to fine-tune: the Optimization, the inner loop, its meta-gradient, the parent."""
