"""The example of the adapters' README, as files: what a reader would write who follows it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "producers/deploytrail/adapters/README.md"


def example(language: str) -> str:
    """The one block of this language in the README."""
    [block] = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return str(block)


def write(folder: Path) -> None:
    """The adapter as `shipit.py`, its case as `golden/shipit/ended.json`, and a pytest plugin that adds both."""
    (folder / "golden/shipit").mkdir(parents=True)
    (folder / "shipit.py").write_text(example("python"), "utf-8")
    (folder / "golden/shipit/ended.json").write_text(example("json"), "utf-8")
    (folder / "guide_plugin.py").write_text(
        "from pathlib import Path\n"
        "import support.golden\n"
        "from deploytrail import adapters\n"
        "adapters.__path__.append(str(Path(__file__).parent))\n"
        "support.golden.FOLDER = Path(__file__).parent / 'golden'\n",
        "utf-8",
    )
