"""Windows of consecutive frames, to score a part of a sequence as all of it would be."""

from collections.abc import Iterable, Sequence


def windows(
    annotated: Sequence[int], visible: Iterable[Sequence[int]], frames: int, count: int
) -> list[tuple[int, ...]]:
    """Positions of windows that do not overlap, spread evenly over the frames that have a mask.

    A window begins and ends with a frame that has a mask, and has the frames between. In its first frame an object is
    seen that is seen again before its last, so that there is something to follow and to score; others are left out.
    Where none is left all of the sequence is one.

    Args:
        annotated: positions of the frames that have a mask, rising, at least one.
        visible: of each object the positions at which it is seen.
        frames: of a window that have a mask, at least 3; a shorter sequence is one window.
        count: of windows at most, at least 1; the first begins with the first mask, the last of several ends with the
            last.
    """
    spread = min(count, max(len(annotated) // frames, 1))
    last = max(len(annotated) - frames, 0)
    starts = [number * last // max(spread - 1, 1) for number in range(spread)]
    cuts = [annotated[start : start + frames] for start in starts]
    followed = [cut for cut in cuts if any(cut[0] in seen and {*seen} & {*cut[1:-1]} for seen in visible)]
    return [tuple(range(cut[0], cut[-1] + 1)) for cut in followed or [annotated]]
