"""One run of img2dataset, under the Python that has it: its options as JSON on the command line

The options are `download`'s own. The last line printed is the longest of its shards' own times, which leaves
the start of its processes out: the benchmark gives it a shard for each.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    if sys.argv[1] == "--version":
        print(f"img2dataset {version('img2dataset')}, Python {sys.version.split()[0]}, {_decoder()}")
        return
    from img2dataset import download

    options = json.loads(sys.argv[1])
    download(**options)
    stats = [json.loads(file.read_text()) for file in Path(options["output_folder"]).glob("*_stats.json")]
    seconds = max((shard["end_time"] - shard["start_time"] for shard in stats), default=0.0)
    successes = sum(shard["successes"] for shard in stats)
    print(json.dumps({"seconds": seconds, "successes": successes, "shards": len(stats)}))


def _decoder() -> str:
    import cv2

    return f"OpenCV {cv2.__version__}"


if __name__ == "__main__":
    main()
