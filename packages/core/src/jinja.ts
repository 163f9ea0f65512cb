// The template engine, brought closer to Jinja where chat templates need it. @huggingface/jinja 0.5.11 has no select and
// reject (the Doge template's builtin tools use reject), trims as JavaScript does, and loses what a loop turn has printed
// before continue or break. Its interpreter calls its own methods, so they are replaced on the instance; the steps they
// take are counted, because a template from somewhere else may loop for ever.
import { type Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";

const MAX_STEPS = 2_000_000; // about a second
/** Steps that one turn of a loop counts for: it makes a dozen objects, even with an empty body. */
const TURN = 20;

type Program = ReturnType<typeof parse>;
type Node = { readonly type: string };
type Value = { readonly type: string; readonly value: unknown; __bool__(): { value: boolean } };
type Filter = Node & { readonly value?: string; readonly callee?: { readonly value?: string }; readonly args?: Node[] };
type Loop = Node & { readonly body: Node[] };

/** The interpreter's methods that are used or replaced here. */
interface Machine {
  run(program: Program): Value;
  evaluate(node: Node | undefined, scope: Environment): Value;
  evaluateFor(loop: Loop, scope: Environment): Value;
  evaluateBlock(nodes: Node[], scope: Environment): Value;
  evaluateArguments(args: Node[], scope: Environment): [Value[], Map<string, Value>];
  applyFilter(operand: Value, filter: Filter, scope: Environment): Value;
}

class LoopControl extends Error {
  readonly ends: boolean;
  /** What the blocks that were left had printed. */
  printed = "";

  constructor(ends: boolean) {
    super(`${ends ? "break" : "continue"} outside of a loop`);
    this.ends = ends;
  }
}

let last: { readonly template: string; readonly program: Program } | undefined;

/** The text that `template` prints in `environment`. Throws the engine's errors, and Errors of its own for the limits. */
export function runJinja(template: string, environment: Environment, maxLength: number): string {
  if (last?.template !== template) {
    last = { template, program: parse(tokenize(template, { lstrip_blocks: true, trim_blocks: true })) };
  }
  return String(machine(environment, maxLength).run(last.program).value);
}

function machine(environment: Environment, maxLength: number): Machine {
  const made = new Interpreter(environment) as unknown as Machine;
  const { evaluate, evaluateFor, applyFilter } = made;
  const bodies = new WeakSet<Node[]>();
  const ended = new WeakSet<Environment>();
  let steps = 0;

  const spend = (count: number): void => {
    steps += count;
    if (steps > MAX_STEPS) throw new Error(`the template takes more than ${MAX_STEPS} steps`);
  };
  made.evaluate = (node, scope) => {
    spend(1);
    if (node?.type === "Break" || node?.type === "Continue") throw new LoopControl(node.type === "Break");
    return evaluate.call(made, node, scope);
  };
  made.evaluateFor = (loop, scope) => {
    bodies.add(loop.body);
    return evaluateFor.call(made, loop, scope);
  };
  made.evaluateBlock = (nodes, scope) => {
    // One scope serves all turns of one run of a loop: after a break the turns that remain print nothing.
    const turn = bodies.has(nodes);
    if (turn) spend(TURN);
    let printed = "";
    try {
      if (!(turn && ended.has(scope))) {
        for (const node of nodes) {
          const value = made.evaluate(node, scope);
          if (value.type !== "NullValue" && value.type !== "UndefinedValue") printed += String(value);
          if (printed.length > maxLength) throw new Error(`the template prints more than ${maxLength} characters`);
        }
      }
    } catch (error) {
      if (!(error instanceof LoopControl)) throw error;
      error.printed = printed + error.printed;
      if (!turn) throw error;
      if (error.ends) ended.add(scope);
      printed = error.printed;
    }
    return stringValue(printed);
  };
  made.applyFilter = (operand, filter, scope) => {
    const name = filter.value ?? filter.callee?.value;
    if (name === "trim" && filter.type === "Identifier" && operand.type === "StringValue") {
      return stringValue(pythonStrip(operand.value as string));
    }
    if ((name === "select" || name === "reject") && Array.isArray(operand.value)) {
      const [[test, ...args]] = made.evaluateArguments(filter.args ?? [], scope);
      const passes = test === undefined ? truth : scope.tests.get(String(test.value));
      if (passes === undefined) throw new Error(`Unknown test: ${String(test?.value)}`);
      const wanted = name === "select";
      const kept = operand.value.filter((item) => passes(item, ...(args as never[])) === wanted);
      return new (operand.constructor as new (items: unknown[]) => Value)(kept);
    }
    return applyFilter.call(made, operand, filter, scope);
  };
  return made;

  function stringValue(text: string): Value {
    return evaluate.call(made, { type: "StringLiteral", value: text } as Node, environment);
  }
}

const truth = (item: Value): boolean => item.__bool__().value;

const PYTHON_SPACE =
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000";

/** Python's str.strip: unlike JavaScript's trim it takes U+001C to U+001F and U+0085, and leaves U+FEFF. */
function pythonStrip(text: string): string {
  let from = 0;
  let to = text.length;
  while (from < to && PYTHON_SPACE.includes(text[from]!)) from++;
  while (to > from && PYTHON_SPACE.includes(text[to - 1]!)) to--;
  return text.slice(from, to);
}
