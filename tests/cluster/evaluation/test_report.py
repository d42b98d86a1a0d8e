"""The pictures of an evaluation and its report."""

from pathlib import Path

from PIL import Image

FIGURES = {"best.png", "worst.png"} | {
    f"{name}.{ending}" for name in ("accuracy_speed", "over_steps", "per_frame") for ending in ("png", "svg")
}


def test_the_report_has_all_of_it(grid_folder: Path) -> None:
    text = (grid_folder / "report.html").read_text()
    for part in (
        "held-00000",
        "held-00001",
        "0.05",
        "the worst sequences at T = ",
        "learning_rate",
        "<svg",
        "data:image/png",
    ):
        assert part in text
    assert {path.name for path in (grid_folder / "figures").iterdir()} == FIGURES
    for name in ("figures/worst.png", "overview.png"):
        with Image.open(grid_folder / name) as sheet:
            assert sheet.width > sheet.height > 64
