// Runs a chat template (Jinja) with the functions that transformers gives it. Templates come from model repositories:
// whatever goes wrong inside one is a "template-error", and one that goes on too long or too far a "template-limit".
import { Environment } from "@huggingface/jinja";
import { DogeError, isDogeError } from "../errors.ts";
import { runJinja } from "./jinja.ts";
import { limit } from "./jinja-limits.ts";

const MAX_RANGE = 100_000;

/** Renders `template` over `variables`; `now` is the time that strftime_now tells. */
export function runTemplate(template: string, variables: { readonly [name: string]: unknown }, now: Date): string {
  const globals: Record<string, unknown> = {
    false: false,
    true: true,
    none: null,
    False: false,
    True: true,
    None: null,
    raise_exception: (message: unknown) => {
      throw new Error(plain(message));
    },
    range,
    strftime_now: (format: unknown) => strftime(now, plain(format)),
  };
  try {
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...variables, ...globals })) environment.set(name, value);
    return runJinja(template, environment);
  } catch (error) {
    if (isDogeError(error, "template-limit")) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new DogeError("template-error", `The chat template failed: ${message}`, { cause: error });
  }
}

/** What a template hands to one of our functions, as text. A list is not printed: it may hold itself many times over. */
function plain(value: unknown): string {
  if (typeof value === "object" && value !== null) throw new Error("a text is expected, not a list or an object");
  return String(value);
}

/** Python's range, with an end to it. */
function range(...bounds: unknown[]): number[] {
  const given = bounds.filter((bound) => bound !== undefined);
  if (given.length < 1 || given.length > 3 || given.some((bound) => !Number.isInteger(bound))) {
    throw new Error(`range() takes one to three whole numbers, not ${given.map(plain).join(", ")}`);
  }
  const [first, second, step = 1] = given as number[];
  const [start, stop] = second === undefined ? [0, first!] : [first!, second];
  if (step === 0) throw new Error("range() step must not be zero");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > MAX_RANGE) throw limit(`counts a range() of ${length}; at most ${MAX_RANGE} are allowed`);
  return Array.from({ length }, (_, index) => start + index * step);
}

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

/** Python's strftime in local time and in English, as its C locale writes, whatever the language of the machine. */
function strftime(now: Date, format: string): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const hour12 = now.getHours() % 12 || 12;
  const day = DAYS[now.getDay()]!;
  const month = MONTHS[now.getMonth()]!;
  const yearDay =
    (Date.UTC(now.getFullYear(), now.getMonth(), now.getDate()) - Date.UTC(now.getFullYear(), 0, 0)) / 864e5;
  const fields: Record<string, string> = {
    Y: String(now.getFullYear()),
    y: two(now.getFullYear() % 100),
    m: two(now.getMonth() + 1),
    B: month,
    b: month.slice(0, 3),
    d: two(now.getDate()),
    e: String(now.getDate()).padStart(2),
    A: day,
    a: day.slice(0, 3),
    j: String(yearDay).padStart(3, "0"),
    H: two(now.getHours()),
    I: two(hour12),
    M: two(now.getMinutes()),
    S: two(now.getSeconds()),
    p: now.getHours() < 12 ? "AM" : "PM",
    "%": "%",
  };
  // "-" takes the padding away, as in glibc.
  return format.replace(/%(-?)([a-zA-Z%])/g, (directive, plain: string, letter: string) => {
    const field = fields[letter];
    if (field === undefined) throw new Error(`strftime_now does not know ${directive} in ${JSON.stringify(format)}`);
    return plain === "" ? field : field.replace(/^[0 ]+(?=.)/, "");
  });
}
