"""How folders of masks are laid out, as data."""

from typing import Literal

Layout = Literal["davis2016", "davis2017", "frames"]
