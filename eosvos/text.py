"""How durations are written."""


def minutes_seconds(seconds: float) -> str:
    """``3:07`` for 187 seconds; hours count as minutes."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def time_left(elapsed: float, done: float, left: float) -> str:
    """``3:07 left`` at the pace so far; empty where nothing is done yet.

    Args:
        elapsed: seconds that it took what is done.
        done: amount of work, of any unit.
        left: amount that is still to do.
    """
    return f"{minutes_seconds(elapsed / done * left)} left" if done > 0 else ""


def hours_text(hours: float) -> str:
    """A rough duration: ``30 minutes``, ``12.5 hours``, ``2.3 days``."""
    if hours < 1:
        return f"{60 * hours:.0f} minutes"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
