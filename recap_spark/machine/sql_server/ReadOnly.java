package recap_spark;

import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.plans.logical.Command;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.execution.datasources.HadoopFsRelation;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import org.apache.spark.sql.execution.datasources.v2.DataSourceV2Relation;
import org.apache.spark.sql.execution.datasources.v2.FileTable;
import scala.collection.Iterator;
import scala.runtime.AbstractFunction1;
import scala.runtime.BoxedUnit;

/**
 * A check rule of Spark's analyzer: each plan, Delta's own reads too, is looked at before any of it is run.
 *
 * Janino compiles it when the server starts, so no generics and no lambdas.
 */
public class ReadOnly extends AbstractFunction1 {
    private static final String[] SHOWING = {"Show", "Describe", "Explain"};
    private static final Set COMMANDS = new HashSet(Arrays.asList(new Object[] {
        "SetCatalogAndNamespace", "SetNamespaceCommand", "SetCatalogCommand", "SetCommand", "ResetCommand"}));
    // Nodes that are no commands to Spark: a program that rows are piped through, and Delta's statements
    // before they are made commands.
    private static final Set OTHERS = new HashSet(Arrays.asList(new Object[] {
        "ScriptTransformation", "InsertIntoStatement", "InsertIntoDir", "DeltaDelete", "DeltaUpdateTable"}));
    // reflect() and java_method() call any static method of Java.
    private static final Set FUNCTIONS = new HashSet(Arrays.asList(new Object[] {
        "CallMethodViaReflection", "TryReflect"}));
    private static final String DELTA = "org.apache.spark.sql.delta.";

    public Object apply(Object session) {
        return new Rule();
    }

    private static class Rule extends AbstractFunction1 {
        public Object apply(Object plan) {
            check((LogicalPlan) plan);
            return BoxedUnit.UNIT;
        }
    }

    private static void check(LogicalPlan plan) {
        String name = plan.getClass().getSimpleName();
        if (OTHERS.contains(name) || (plan instanceof Command && !isAllowed(name))) {
            refuse(name.endsWith("Command") ? name.substring(0, name.length() - 7) : name);
        }
        if (readsFiles(plan)) {
            refuse("files that are no table");
        }
        for (Iterator nodes = plan.children().iterator(); nodes.hasNext();) {
            check((LogicalPlan) nodes.next());
        }
        for (Iterator inner = plan.subqueries().iterator(); inner.hasNext();) {
            check((LogicalPlan) inner.next());
        }
        for (Iterator used = plan.expressions().iterator(); used.hasNext();) {
            checkFunctions((Expression) used.next());
        }
    }

    private static boolean isAllowed(String command) {
        for (int place = 0; place < SHOWING.length; place++) {
            if (command.startsWith(SHOWING[place])) {
                return true;
            }
        }
        return COMMANDS.contains(command);
    }

    /** Whether it is a file of the machine, by its path: not a table, nor what Delta reads of a table. */
    private static boolean readsFiles(LogicalPlan plan) {
        if (plan instanceof DataSourceV2Relation) {
            return ((DataSourceV2Relation) plan).table() instanceof FileTable;
        }
        if (plan instanceof LogicalRelation && ((LogicalRelation) plan).relation() instanceof HadoopFsRelation) {
            HadoopFsRelation files = (HadoopFsRelation) ((LogicalRelation) plan).relation();
            boolean isDeltas = files.location().getClass().getName().startsWith(DELTA);
            return ((LogicalRelation) plan).catalogTable().isEmpty() && !isDeltas;
        }
        return false;
    }

    private static void checkFunctions(Expression expression) {
        if (FUNCTIONS.contains(expression.getClass().getSimpleName())) {
            refuse("a call of Java");
        }
        for (Iterator inner = expression.children().iterator(); inner.hasNext();) {
            checkFunctions((Expression) inner.next());
        }
    }

    private static void refuse(String found) {
        throw new UnsupportedOperationException(
            "this server only reads: want a query of tables, SHOW, DESCRIBE, EXPLAIN, USE or SET, found " + found);
    }
}
