"""Read encoded datasets back, all of them, and name what is damaged: `--help` has examples."""

from dataclasses import dataclass

from eosvos import cli
from eosvos.errors import BadInput
from eosvos.paths import absolute_address

DESCRIPTION = """Read encoded datasets back: frames are decoded and compared with the index, and so are the hashes.

Exit code 2 where something is damaged; each file and sequence is named.

Examples:
  python jobs/verify_dataset.py --data runs/data/train runs/data/val
  python jobs/verify_dataset.py --data s3://bucket/train
"""


@dataclass(frozen=True)
class VerifyDataset:
    """What to read."""

    data: tuple[str, ...]
    """Encoded datasets: folders or URIs."""


def main() -> None:
    config = cli.parse(VerifyDataset, DESCRIPTION)
    # Late, so that --help is quick.
    from cluster.encoding import verify

    damaged: list[str] = []
    for data in config.data:
        address = absolute_address(data, "--data")
        faults = verify(address)
        print("\n".join(faults) if faults else f"{address}: all frames are as the index says")
        damaged += faults
    if damaged:
        raise BadInput(f"{damaged[0]}" + (f" ({len(damaged)} faults in all, see above)" if len(damaged) > 1 else ""))


if __name__ == "__main__":
    cli.run(main)
