"""Put the photographs that ship inside two well-known packages into a folder.

    python scripts/fetch_demo_photos.py FOLDER

The wheels come through pip from the package index that pip is set up for; only their pictures are unpacked.
Licences of the pictures: skimage/data/README.txt and sklearn/datasets/images/README.txt inside the wheels.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_SKIMAGE = """
astronaut.png brick.png camera.png chelsea.png clock_motion.png coffee.png coins.png grass.png gravel.png
hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png page.png retina.jpg rocket.jpg
"""
PHOTOS = {
    "scikit-image": [f"skimage/data/{name}" for name in _SKIMAGE.split()],
    "scikit-learn": ["sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg"],
}


def fetch(package: str, members: list[str], folder: Path) -> None:
    """Download one wheel and unpack the named pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        options = ["-q", "--no-deps", "--only-binary=:all:", "-d", temporary]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, package], check=True)
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                (folder / Path(member).name).write_bytes(archive.read(member))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for name, wanted in PHOTOS.items():
        fetch(name, wanted, target)
    print(f"{len(list(target.iterdir()))} photographs in {target}")
