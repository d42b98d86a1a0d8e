"""How folders of masks are laid out, what of a sequence is given, and which of its frames count, as data."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

TruthLayout = Literal["davis2016", "davis2017", "youtube-vos", "frames"]
"""How the folders of a ground truth are laid out."""


@dataclass(frozen=True)
class Protocol:
    """What of a sequence is given, and which of its frames count; the first one never does.

    Attributes:
        late_objects: every object is given, by its first mask; otherwise the objects of the first frame alone.
        last_frame: it counts.
    """

    late_objects: bool
    last_frame: bool

    def entered(self, ids: Iterable[Collection[int] | None]) -> dict[int, int]:
        """Object id -> position of its first mask, for the objects that are given.

        Args:
            ids: of each frame the objects in its mask, None where it has none; taken as far as it is needed.
        """
        first: dict[int, int] = {}
        for position, present in enumerate(ids if self.late_objects else islice(ids, 1)):
            for object_id in present or ():
                first.setdefault(object_id, position)
        return first

    def frames(self, length: int) -> range:
        """Positions that count in a sequence of so many frames, where they are annotated."""
        return range(1, length if self.last_frame else length - 1)


DAVIS = Protocol(late_objects=False, last_frame=False)
"""As the public evaluators of DAVIS 2016 and 2017."""
YOUTUBE_VOS = Protocol(late_objects=True, last_frame=True)
"""As the server of YouTube-VOS."""
_PROTOCOLS = {"davis2016": DAVIS, "davis2017": DAVIS, "synthetic": DAVIS}


def protocol_of(name: str) -> Protocol:
    """That of a dataset, by the name that its sequences carry, or of a ``TruthLayout``.

    It is that of YouTube-VOS unless the name is known. The name is what every encoded dataset has, however old it is.
    """
    return _PROTOCOLS.get(name, YOUTUBE_VOS)
