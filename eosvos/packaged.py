"""What this package ships beside its code."""

from pathlib import Path

CHECKPOINT = Path(__file__).with_name("tiny_synthetic.safetensors")
"""Meta-learned on synthetic video alone, with the tiny model: ``python jobs/demo.py --package FILE`` wrote it."""
