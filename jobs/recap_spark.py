"""spark-submit jobs/recap_spark.py COMMAND …: any command of `recap-spark --help`

For example: spark-submit jobs/recap_spark.py fetch --conf base --conf cluster --conf mine.yml
"""

import sys
from pathlib import Path

# This file's own folder is the first on the path, and there this file has the package's name.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != _HERE]

from recap_spark.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
