"""README's commands, and why some of them are run by no test"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from repository import ROOT

TEXT = (ROOT / "README.md").read_text()
_PROGRAMS = ("recap-spark", "make", "python", "du")  # whose commands stand in sentences too


def words(line: str) -> list[str]:
    return shlex.split(line)


def _commands() -> Iterator[str]:
    """Each line of indented code, continued lines joined and comments left out, and each command in a
    sentence, as they follow one another.
    """
    before, _, rest = TEXT.partition("## Where things are")
    text = (before + rest.partition("\n## ")[2]).replace("\\\n", " ")
    for code, span in re.findall(r"^ {4}(.+)$|`([^`\n]+)`", text, re.MULTILINE):
        line = re.sub(r" +# .*", "", " ".join((code or span).split()))
        if code or (line.partition(" ")[0] in _PROGRAMS and " " in line):
            yield line


ALL = tuple(dict.fromkeys(_commands()))

NOT_RUN = {
    "recap-spark caption --set caption.captioner=llava_llama3_8b": "wants a GPU and 17 GB of weights",
    "recap-spark convert-captioner": "wants 17 GB of weights; test_conversion.py has a small checkpoint",
    "make": "sets an environment up, or takes minutes",
    ". .venv/bin/activate": "changes the shell that it is typed in",
    "pip install": "wants a package registry",
    "mkdir slim": "wants what make dist makes",
    "spark-submit": "wants a cluster; test_lines.py, test_launch.py and test_gpu_cluster.py have small ones",
    "SPARK_CONF_DIR=": "wants the metastore for itself, and the tests' own session has it open",
    "recap-spark serve-sql": "runs until it is stopped; test_sql.py asks it",
    "java -cp": "wants that server; test_sql.py asks it by beeline and by JDBC",
    'python -c "from pyhive': "wants that server; test_sql.py asks it so",
    "mlflow ui": "takes 15 s to start; test_path.py asks the same store",
    "torchrun": "wants GPUs; test_run.py trains without",
    "python -m recap_spark.miniature.quality": "takes minutes",
    "python benchmarks/": "takes minutes",
}
"""Why, by how a command begins."""

RUN = tuple(line for line in ALL if not line.startswith(tuple(NOT_RUN)))

SHOWN = {
    "recap-spark status": " samples",
    "recap-spark doctor": "a table was written and read",
    "recap-spark calibrate": "ROUGE-L",
    "recap-spark fetch-report": "How fetching ended",
    "recap-spark fetch --probe": "A sample of 4 of 4 untried rows",
    "recap-spark evaluate": "mentioned",
}
"""Words that a command says, by how it begins."""
