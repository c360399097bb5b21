"""Sessions that refuse what is not reading, by a rule in Spark's own analyzer

SQL clients hand their statements to the JVM, where nothing of Python sees them. Spark takes such a rule as a
class, and has a compiler of Java in its distribution: no JDK is wanted, and no JAR of our own.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from pyspark.sql import SparkSession


def refuse_writes(spark: SparkSession) -> None:
    """Let the sessions that Java makes of this one from now on run queries, SHOW, DESCRIBE, EXPLAIN, USE and
    SET, nothing else; this one itself is as free as before.
    """
    java: Any = spark.sparkContext._jvm
    session: Any = spark
    compiler = java.org.codehaus.janino.SimpleCompiler()
    compiler.setParentClassLoader(java.java.lang.Thread.currentThread().getContextClassLoader())
    compiler.cook(files(__package__).joinpath("ReadOnly.java").read_text())
    (constructor,) = compiler.getClassLoader().loadClass("recap_spark.ReadOnly").getConstructors()
    nothing = spark.sparkContext._gateway.new_array(java.java.lang.Object, 0)  # type: ignore[union-attr]
    session._jsparkSession.extensions().injectCheckRule(constructor.newInstance(nothing))
