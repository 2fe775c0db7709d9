"""What is left of a script that begins at one of its checkpoints. It runs once, before the script; nothing of it is in a traceback."""

import ast

# With one of these around it, a statement means the same when the block is entered later.
TRANSPARENT = {"subtest", "driver.subtest", "log.nested"}
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# What may do something to a machine, or ask one.
ACTIONS = (ast.Attribute, ast.Await, ast.Call, ast.NamedExpr, ast.comprehension)


class Refused(Exception):
    pass


def is_checkpoint(node, name):
    """Whether it is `testbed.checkpoint("name")`."""
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "testbed.checkpoint"
        and [ast.unparse(it) for it in (*node.args, *(it.value for it in node.keywords))] == [repr(name)]
    )


def holds(statement, name):
    return any(is_checkpoint(node, name) for node in ast.walk(statement))


def names(node, context):
    return {it.id for it in ast.walk(node) if isinstance(it, ast.Name) and isinstance(it.ctx, context)}


def is_transparent(item):
    call = item.context_expr
    return isinstance(call, ast.Call) and ast.unparse(call.func) in TRANSPARENT and item.optional_vars is None


class Rest:
    def __init__(self, name):
        self.name = name
        self.skipped = []
        self.unset = set()

    def is_kept(self, statement):
        """Whether a statement before the checkpoint runs all the same: it defines something, and does nothing."""
        if isinstance(statement, DEFINITIONS):
            return True
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
            return False
        if any(isinstance(node, ACTIONS) for node in ast.walk(statement)):
            return False
        return not names(statement, ast.Load) & self.unset

    def of(self, body):
        """The statements of a block that run, the checkpoint being in one of them."""
        for place, statement in enumerate(body):
            if holds(statement, self.name):
                before = [it for it in body[:place] if self.keep_or_skip(it)]
                return before + self.within(statement) + body[place + 1 :]
        raise AssertionError("the checkpoint is in this block")

    def keep_or_skip(self, statement):
        if self.is_kept(statement):
            self.unset -= names(statement, ast.Store)
            return True
        # A first line of text is no step of the test.
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            self.skipped.append((statement.lineno, statement.end_lineno))
            self.unset |= names(statement, ast.Store)
        return False

    def within(self, statement):
        if isinstance(statement, ast.Expr) and is_checkpoint(statement.value, self.name):
            return []
        if isinstance(statement, ast.With) and all(is_transparent(item) for item in statement.items):
            rest = self.of(statement.body)
            if not rest:
                return []
            statement.body = rest
            return [statement]
        raise Refused(
            f"line {statement.lineno}: a script can begin at a checkpoint only when that is a statement of its own,"
            " or one of a `with subtest(...)` block"
        )


def ranges(lines):
    joined = []
    for first, last in lines:
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(last, joined[-1][1])
        else:
            joined.append([first, last])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in joined)


def resume(text, file, name):
    """The code of the script from its checkpoint on, and what to say about the rest."""
    tree = ast.parse(text, file)
    found = [node.lineno for node in ast.walk(tree) if is_checkpoint(node, name)]
    if not found:
        raise Refused(f'the script has no statement `testbed.checkpoint("{name}")`')
    if len(found) > 1:
        lines = " and ".join(map(str, found))
        raise Refused(f"the script takes checkpoint `{name}` more than once, in lines {lines}: which one is meant is not known")
    rest = Rest(name)
    tree.body = rest.of(tree.body)
    note = f"the script begins at checkpoint `{name}`, line {found[0]}"
    if rest.skipped:
        note += f"; skipped: lines {ranges(rest.skipped)}"
    if rest.unset:
        note += f"; not set: {', '.join(sorted(rest.unset))}"
    return compile(tree, file, "exec", dont_inherit=True), note
