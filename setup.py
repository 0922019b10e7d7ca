"""The package's set-up: everything it says is read from settings.ini."""

import json
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
config = ConfigParser(delimiters=["="], interpolation=None)
config.read(ROOT / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]


def takes_parameters(notebook: Path) -> bool:
    "Whether a cell of a notebook is tagged `parameters`, as of a paper's."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return any("parameters" in cell["metadata"].get("tags", []) for cell in cells)


class BuildWithNotebooks(build_py):
    "The papers' notebooks travel in the package; an editable installation finds them in nbs/."

    def run(self):
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib) / settings["lib_name"] / "notebooks"
            folder.mkdir(parents=True, exist_ok=True)
            for notebook in (ROOT / settings["nbs_path"]).glob("*.ipynb"):
                if takes_parameters(notebook):
                    shutil.copy(notebook, folder)


named = (key.removeprefix("extras_") for key in settings if key.startswith("extras_"))
optional = {name: settings[f"extras_{name}"].split() for name in named}

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    url=settings["git_url"],
    packages=find_packages(include=["genpapers", "genpapers.*"]),
    package_data={"genpapers": ["py.typed"]},
    python_requires=">=3.11,<3.14",
    install_requires=settings["requirements"].split(),
    extras_require={"dev": settings["dev_requirements"].split()} | optional,
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{settings['lib_name']}={settings['lib_name']}._modidx:d"],
    },
    cmdclass={"build_py": BuildWithNotebooks},
    zip_safe=False,
)
