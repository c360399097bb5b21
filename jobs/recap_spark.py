"""spark-submit jobs/recap_spark.py COMMAND …: any command of `recap-spark --help`

For example: spark-submit jobs/recap_spark.py fetch --conf base --conf cluster --conf mine.yml
"""

import sys
from pathlib import Path

# The first folder on the path is this file's own, where this file has the package's name: the jobs beside it
# find it, too, when they import the package. It steps aside.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != _HERE]
sys.modules.pop("recap_spark", None)

from recap_spark.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
