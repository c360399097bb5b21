"""`recap-spark COMMAND`: the command line

Settings come from files: without --conf, conf/base.yml and conf/laptop.yml of the folder it is started in.

Exit codes: 0 done, 1 an error said on standard error, 2 the command line was wrong, 130 and 143 stopped by
Ctrl-C and by SIGTERM.
"""

from __future__ import annotations

import typer

from recap_spark.commands import after, captioner, looking, machine, path

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

for _group in (path, after, looking, machine, captioner):
    _group.add_to(app)


def main() -> None:
    """Run the command line. Returns where the command is done: a job on Databricks, and a driver in
    spark-submit's cluster mode, take any SystemExit for a failure.
    """
    try:
        app()
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    main()
