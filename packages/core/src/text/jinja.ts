// The template engine, brought closer to Jinja where chat templates need it. @huggingface/jinja 0.5.11 has no select and
// reject (the Doge template's builtin tools use reject), trims as JavaScript does, and loses what a loop turn has printed
// before continue or break. Its interpreter calls its own methods, so they are replaced on the instance, which is also how
// it is kept within the limits of jinja-limits.ts.
import { type Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { checkLength, checkTemplate, limit, occurrences, TemplateBudget, type Value } from "./jinja-limits.ts";

/** Steps that one turn of a loop counts for: it makes a dozen objects, even with an empty body. */
const TURN = 20;
/** Spaces by which JSON and lines may be indented. */
const MAX_INDENT = 64;

type Program = ReturnType<typeof parse>;
type Node = { readonly type: string };
type Filter = Node & { readonly value?: string; readonly callee?: { readonly value?: string }; readonly args?: Node[] };
type Loop = Node & { readonly body: Node[]; readonly iterable: Node & { readonly lhs?: Node } };
type Binary = Node & { readonly operator: { readonly value: string }; readonly left: Node; readonly right: Node };
type Member = Node & { readonly object: Node };
/** A node whose value is there already: it lets a method be called with operands that were looked at before. */
type Given = Node & { readonly given: Value };
type Callable = (args: Value[], scope: Environment) => Value;

/** The interpreter's methods that are used or replaced here. */
interface Machine {
  run(program: Program): Value;
  evaluate(node: Node | undefined, scope: Environment): Value;
  evaluateFor(loop: Loop, scope: Environment): Value;
  evaluateBlock(nodes: Node[], scope: Environment): Value;
  evaluateBinaryExpression(node: Binary, scope: Environment): Value;
  evaluateMemberExpression(node: Member, scope: Environment): Value;
  evaluateArguments(args: Node[], scope: Environment): [Value[], Map<string, Value>];
  applyFilter(operand: Value, filter: Filter, scope: Environment): Value;
}

/** Thrown by break and continue. No Error: that would note the stack each time, which takes longer than a loop's turn. */
class LoopControl {
  readonly ends: boolean;
  /** What the blocks that were left had printed. */
  printed = "";

  constructor(ends: boolean) {
    this.ends = ends;
  }

  toString(): string {
    return `${this.ends ? "break" : "continue"} outside of a loop`;
  }
}

let last: { readonly template: string; readonly program: Program } | undefined;

/** The text that `template` prints in `environment`. Throws "template-limit", and the engine's own errors. */
export function runJinja(template: string, environment: Environment): string {
  const budget = new TemplateBudget();
  if (last?.template !== template) {
    checkTemplate(template);
    last = { template, program: parse(tokenize(template, { lstrip_blocks: true, trim_blocks: true })) };
  }
  return String(machine(environment, budget, template.length).run(last.program).value);
}

function machine(environment: Environment, budget: TemplateBudget, templateLength: number): Machine {
  const made = new Interpreter(environment) as unknown as Machine;
  const { evaluate, evaluateFor, evaluateBinaryExpression, evaluateMemberExpression, applyFilter } = made;
  const bodies = new WeakSet<Node[]>();
  const iterables = new WeakSet<Node>();
  const ended = new WeakSet<Environment>();

  made.evaluate = (node, scope) => {
    if (node?.type === "Given") return (node as Given).given;
    if (node?.type === "Break" || node?.type === "Continue") {
      budget.spend(1);
      throw new LoopControl(node.type === "Break");
    }
    budget.enter();
    // The engine goes through the whole body of a macro where it is defined.
    if (node?.type === "Macro" || node?.type === "CallStatement") budget.spend(templateLength >> 6);
    let value: Value;
    try {
      value = evaluate.call(made, node, scope);
    } finally {
      budget.leave();
    }
    budget.charge(value);
    if (node !== undefined && iterables.has(node)) budget.spend(TURN * size(value));
    return value;
  };
  made.evaluateFor = (loop, scope) => {
    bodies.add(loop.body);
    iterables.add(loop.iterable.lhs ?? loop.iterable);
    return evaluateFor.call(made, loop, scope);
  };
  made.evaluateBlock = (nodes, scope) => {
    // One scope serves all turns of one run of a loop: after a break the turns that remain print nothing.
    const turn = bodies.has(nodes);
    let printed = "";
    try {
      if (!(turn && ended.has(scope))) {
        for (const node of nodes) {
          const value = made.evaluate(node, scope);
          if (value.type === "NullValue" || value.type === "UndefinedValue") continue;
          printed += printable(value);
          checkLength(printed.length);
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
  made.evaluateBinaryExpression = (node, scope) => {
    if (!["~", "+", "==", "!="].includes(node.operator.value)) return evaluateBinaryExpression.call(made, node, scope);
    // These turn a list into text, some of them quietly.
    const left = made.evaluate(node.left, scope);
    const right = made.evaluate(node.right, scope);
    if (!(Array.isArray(left.value) && Array.isArray(right.value)))
      for (const side of [left, right]) budget.weigh(side);
    return evaluateBinaryExpression.call(made, { ...node, left: given(left), right: given(right) } as Binary, scope);
  };
  made.evaluateMemberExpression = (node, scope) => {
    const object = made.evaluate(node.object, scope);
    const value = evaluateMemberExpression.call(made, { ...node, object: given(object) } as Member, scope);
    if (value.type !== "FunctionValue") return value;
    const call = value.value as Callable;
    const guarded: Callable = (args, inner) => {
      checkGrowth(object, args);
      return call(args, inner);
    };
    return object.type === "StringValue" ? new (value.constructor as new (call: Callable) => Value)(guarded) : value;
  };
  made.applyFilter = (operand, filter, scope) => {
    const name = filter.value ?? filter.callee?.value;
    if (name === "trim" && filter.type === "Identifier" && operand.type === "StringValue") {
      return stringValue(pythonStrip(operand.value as string));
    }
    if (name === "sort" || name === "dictsort") {
      budget.spend((budget.weigh(operand) * Math.ceil(Math.log2(size(operand) + 2))) >> 5);
    }
    if (!looked.includes(name ?? "")) return applyFilter.call(made, operand, filter, scope);
    const [positional, named] = made.evaluateArguments(filter.args ?? [], scope);
    if ((name === "select" || name === "reject") && Array.isArray(operand.value)) {
      const [test, ...args] = positional;
      const passes = test === undefined ? truth : scope.tests.get(String(test.value));
      if (passes === undefined) throw new Error(`Unknown test: ${String(test?.value)}`);
      const wanted = name === "select";
      const kept = operand.value.filter((item) => passes(item, ...(args as never[])) === wanted);
      return new (operand.constructor as new (items: unknown[]) => Value)(kept);
    }
    checkFilter(name, operand, positional, named);
    if (filter.args === undefined) return applyFilter.call(made, operand, filter, scope);
    const keywords = Array.from(named, ([value, argument]) => {
      return { type: "KeywordArgumentExpression", key: { value }, value: given(argument) };
    });
    return applyFilter.call(made, operand, { ...filter, args: [...positional.map(given), ...keywords] }, scope);
  };
  return made;

  function stringValue(text: string): Value {
    return evaluate.call(made, { type: "StringLiteral", value: text } as Node, environment);
  }

  function printable(value: Value): string {
    if (size(value) > 0) budget.weigh(value);
    return String(value);
  }

  /** Refuse what a filter would make or need beyond the limits. */
  function checkFilter(name: string | undefined, operand: Value, positional: Value[], named: Map<string, Value>): void {
    const option = (index: number, key: string) => positional[index]?.value ?? named.get(key)?.value;
    if (name === "join") budget.weigh(operand, lengthOf(option(0, "separator")) + 1);
    if (name === "string") budget.weigh(operand);
    if (name === "tojson" || name === "indent") {
      const indent = name === "tojson" ? named.get("indent")?.value : option(0, "width");
      if (typeof indent === "number" && indent > MAX_INDENT) throw limit(`indents by ${indent} spaces`);
      if (name === "indent")
        checkLength(lengthOf(operand.value) + occurrences(String(operand.value), "\n") * MAX_INDENT);
      else {
        const separators = named.get("separators")?.value;
        const between = Array.isArray(separators) ? separators.reduce((sum, one) => sum + lengthOf(one.value), 0) : 2;
        budget.weigh(operand, between + 1, typeof indent === "number" ? indent : 0);
      }
    }
    if (name === "replace") checkGrowth(operand, positional);
  }

  /** Before a string's method: replace and split may make far more than they are given. */
  function checkGrowth({ value: text }: Value, args: readonly Value[]): void {
    const [part, other] = args.map(({ value }) => value);
    if (typeof text !== "string" || typeof part !== "string") return;
    const count = occurrences(text, part);
    budget.spend(count >> 3);
    checkLength(text.length + count * (typeof other === "string" ? other.length : 1));
  }
}

/** Filters that are done here, or that may make far more than they are given. */
const looked = ["select", "reject", "join", "string", "tojson", "indent", "replace"];
const given = (value: Value): Given => ({ type: "Given", given: value });
const truth = (item: Value): boolean => item.__bool__().value;
const lengthOf = (value: unknown): number => (typeof value === "string" ? value.length : 0);

/** Items of a list or an object. */
function size({ value }: Value): number {
  return Array.isArray(value) ? value.length : value instanceof Map ? value.size : 0;
}

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
