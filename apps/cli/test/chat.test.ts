// `doge chat` as a person and as a script use it: through a pipe, and in a pseudo-terminal where `script` can make one.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { historyFile, openHistory } from "../src/history.ts";
import { Blocks } from "../src/repl.ts";

const main = fileURLToPath(new URL("../src/bin.ts", import.meta.url));
// What decides about colours is said by the tests: Node leaves them out in continuous integration and on a terminal without a name.
const { DOGE_BACKEND: _, NO_COLOR: __, CI: ___, ...environment } = process.env;
const inherited = { ...environment, TERM: "xterm-256color" };

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "doge-chat-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function doge(args: readonly string[], lines: readonly string[] = []) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", main, ...args],
    {
      encoding: "utf8",
      input: lines.map((line) => `${line}\n`).join(""),
      env: { ...inherited, XDG_STATE_HOME: folder, XDG_CACHE_HOME: folder },
    },
  );
  return { status, out: stdout, err: stderr };
}

/** A conversation through a pipe in which nothing goes wrong: its answers, and what the person is told. */
function chat(lines: readonly string[], args: readonly string[] = []) {
  const { status, out, err } = doge(["chat", ...args], lines);
  expect(status, err).toBe(0);
  return { answers: out.split("\n").slice(0, -1), told: err };
}

/** The conversation that `lines` leave. */
function messagesAfter(lines: readonly string[], args: readonly string[] = []): { role: string; content: string }[] {
  const file = join(folder, "messages.json");
  chat([...lines, `/save ${file}`], args);
  return JSON.parse(readFileSync(file, "utf8")).messages;
}

describe("through a pipe", () => {
  test("every line has its answer, and neither stream anything else", () => {
    const { answers, told } = chat(["What is 2 plus 3?", "", "What comes after Monday?"]);
    expect(answers).toHaveLength(2);
    expect(answers[0]).toMatch(/\b(5|five)\b/i);
    expect(answers[1]).toContain("Tuesday");
    expect(told).toBe("");
  });

  test("--json gives an object for every answer, --stats a line on standard error", () => {
    const { answers, told } = chat(["What is 2 plus 3?", "What is 1 plus 1?"], ["--json", "--stats"]);
    const [first, second] = answers.map((line) => JSON.parse(line));
    expect(first.text).toContain("5");
    expect(first.stopReason).toBe("eos");
    expect(second.promptIds.slice(0, 20)).toEqual(first.promptIds.slice(0, 20));
    expect(second.timings.prefillTokens).toBeLessThan(second.promptIds.length);
    expect(told).toMatch(
      /^(\d+ tokens \(eos\), first token after \d+ ms \(\d+ of \d+ prompt tokens evaluated\), then [\d.]+ tokens\/s, on \w+\n){2}$/,
    );
  });

  test("a line may go on in the next, and a block between quotes", () => {
    const asked = messagesAfter([
      "What is \\",
      "2 plus 3?",
      '"""',
      "What comes",
      "",
      "/after Monday?",
      '"""',
      '"""one"""',
      '"""a',
      'b"""',
    ])
      .filter(({ role }) => role === "user")
      .map(({ content }) => content);
    expect(asked).toEqual(["What is \n2 plus 3?", "What comes\n\n/after Monday?", "one", "a\nb"]);
    expect(messagesAfter(["//help"])[0]).toEqual({ role: "user", content: "/help" });
  });

  test("a pipe that ends inside a block asks what there is of it", () => {
    expect(chat(['"""', "What is 2 plus 3?"]).answers[0]).toContain("5");
  });

  test("/system, /reset and /retry change what was said", () => {
    const roles = (lines: readonly string[], args?: readonly string[]) =>
      messagesAfter(lines, args).map(({ role, content }) => (role === "system" ? `system ${content}` : role));
    const question = "What is 2 plus 3?";
    expect(roles([question, "/system be short"])).toEqual(["system be short", "user", "assistant"]);
    expect(roles([question, "/system one", "/system two"])).toEqual(["system two", "user", "assistant"]);
    expect(roles([question, '/system ""'], ["--system", "be"])).toEqual(["user", "assistant"]);
    expect(roles([question, question, "/reset"], ["--system", "be"])).toEqual(["system be"]);
    expect(roles([question, "/retry", "/retry"])).toEqual(["user", "assistant"]);
    const { answers } = chat([question, "/retry"], ["--temperature", "1.5", "--seed", "3"]);
    expect(answers[1]).toBe(answers[0]); // the seed says so
  });

  test("/save and /load carry a conversation from one run to another", () => {
    const file = join(folder, "saved.json");
    const first = chat(["What is 2 plus 3?", "What comes after Monday?", `/save ${file}`, "What is 1 plus 1?"]);
    expect(first.told).toBe(`Saved 4 messages to ${file}.\n`);
    const second = chat([`/load ${file}`, "What is 1 plus 1?"]);
    expect(second.told).toBe(`Loaded 4 messages from ${file}.\n`);
    expect(second.answers).toEqual(first.answers.slice(2));
  });

  test("/params changes the options of the next answer as the flags do", () => {
    const question = "Tell me a story.";
    const flags = chat([question], ["--temperature", "1.2", "--seed", "5", "--max-new-tokens", "12"]).answers;
    const { answers, told } = chat([
      "/params temperature 1.2",
      "/params --seed 5",
      "/params max-new-tokens 12",
      question,
      "/params temperature default",
      "/params",
    ]);
    expect(answers).toEqual(flags);
    expect(told).toContain("  temperature 1.2\n  seed 5\n  maxNewTokens 12\n  temperature: the model's own\n");
    expect(told).toMatch(/ {2}seed 5\n {2}maxNewTokens 12\n$/);
  });

  test("/backend goes on with the same conversation elsewhere", () => {
    const { answers, told } = chat(["What is 2 plus 3?", "/backend reference", "/retry", "/backend"]);
    expect(answers[1]).toBe(answers[0]);
    const passed = ["cuda", "webgpu", "wasm"].map(
      (name) => `  ${name.padEnd(10)} not asked: reference was asked for by name.`,
    );
    const lines = [...passed, "* reference  chosen: It was asked for by name."];
    expect(told).toBe(["The demo model on javascript, f32.", ...lines, ""].join("\n"));
    const auto = chat(["/backend reference", "/backend auto", "/backend"]).told;
    expect(auto).toMatch(/^\* \w+ +chosen: It (is the only one|decodes)/m);
    expect(auto).toMatch(/^ {2}reference {2}spare: /m);
  });

  test("/stats tells of the last answer, /help lists, /exit leaves", () => {
    const { answers, told } = chat(["/stats", "What is 2 plus 3?", "/stats", "/help", "/exit", "What is 1 plus 1?"]);
    expect(answers).toHaveLength(1);
    expect(told).toMatch(/^There is no answer yet\.\n\d+ tokens \(eos\).*tokens\/s, on \w+\n/);
    for (const name of ["system", "reset", "retry", "save", "load", "stats", "params", "backend", "help", "exit"]) {
      expect(told).toContain(`  /${name} `.trimEnd());
    }
  });

  test("what goes wrong is said, the conversation goes on, and the exit status tells", () => {
    const broken = join(folder, "broken.json");
    writeFileSync(broken, '{"format":"doge-session","version":9}');
    const { status, out, err } = doge(
      ["chat"],
      [
        ...[
          "/jump",
          "/retry",
          "/load ./nowhere.json",
          `/load ${broken}`,
          "/params warmth 3",
          "/params temperature warm",
        ],
        ...["/backend abacus", "/save", `/save ${join(folder, "no", "where")}`, "What is 2 plus 3?"],
      ],
    );
    expect(status).toBe(1);
    expect(out).toMatch(/5.*\n$/);
    const faults = err.split("\n").filter((line) => line.startsWith("doge: "));
    expect(faults.map((line) => line.replace(folder, ""))).toEqual([
      "doge: There is no command /jump.",
      "doge: There is nothing to answer again yet.",
      expect.stringMatching(/Nothing was loaded: .*nowhere\.json/),
      expect.stringMatching(/This is no saved session.*version 9/),
      expect.stringMatching(/There is no option warmth\. There are: .*temperature/),
      expect.stringMatching(/temperature is "?warm/),
      expect.stringMatching(/There is no backend "abacus"/),
      "doge: /save needs the name of a file.",
      expect.stringMatching(/The conversation was not saved: /),
    ]);
    expect(err).toContain("  /help "); // an unknown command lists those there are
    expect(err).not.toMatch(/^\s+at /m);
  });

  test("--once takes part in --json and --stats", () => {
    const { status, out, err } = doge([
      "chat",
      "--once",
      "What is 2 plus 3?",
      "--json",
      "--stats",
      "--backend",
      "wasm",
    ]);
    expect(status).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      stopReason: "eos",
      backend: "wasm",
      device: expect.stringContaining("wasm"),
    });
    expect(err).toMatch(/tokens\/s, on wasm\n$/);
  });

  test("--max-length holds, and --overflow knows its policies", () => {
    const { promptIds, ids, stopReason } = JSON.parse(
      chat(["Tell me a story."], ["--json", "--max-length", "50"]).answers[0]!,
    );
    expect([promptIds.length + ids.length, stopReason]).toEqual([50, "length"]);
    const long = Array.from({ length: 6 }, () => "What is 2 plus 3? ".repeat(25)); // two of them do not fit into its context
    const slid = chat(long, ["--max-new-tokens", "2"]);
    expect(slid.answers).toHaveLength(6);
    expect(slid.told).toMatch(/^(\(The oldest \d+ tokens were left out to make room\.\)\n)+$/);
    const failed = doge(["chat", "--overflow", "error", "--max-new-tokens", "2"], long);
    expect(failed.status).toBe(1);
    expect(failed.err).toMatch(/^doge: The input has \d+ tokens; the context holds 512/);
    expect(doge(["chat", "--overflow", "never"]).err).toMatch(/error, truncate, slide/);
  });
});

describe("help", () => {
  test("doge alone says what there is, and that is no failure", () => {
    const { status, out, err } = doge([]);
    expect([status, err]).toEqual([0, ""]);
    expect(out).toBe(doge(["--help"]).out);
    expect(out).toMatch(/^Text:\n {2}chat/m);
  });

  test("every line fits into 80 columns, and no option is far from its description", () => {
    expect(
      Math.max(
        ...doge(["--help"])
          .out.split("\n")
          .map((line) => line.length),
      ),
    ).toBeLessThanOrEqual(80);
    for (const command of ["chat", "generate", "inspect", "pull"]) {
      const { out } = doge([command, "--help"]);
      expect(Math.max(...out.split("\n").map((line) => line.length))).toBeLessThanOrEqual(80);
      expect(out).toMatch(/^ {2}--model <folder or name> {2,8}\S|Usage: doge pull/m);
    }
  });

  test("options stand in groups", () => {
    const headings = (command: string) => doge([command, "--help"]).out.match(/^[A-Z]\w+:$/gm);
    expect(headings("chat")).toEqual(["Conversation:", "Model:", "Length:", "Sampling:", "Output:", "Options:"]);
    expect(headings("generate")).toEqual(["Prompt:", "Model:", "Length:", "Sampling:", "Output:", "Options:"]);
  });
});

describe("blocks", () => {
  test("tell whether something is open", () => {
    const blocks = new Blocks();
    expect(blocks.push("a\\")).toBeUndefined();
    expect(blocks.open).toBe(true);
    expect(blocks.push("b")).toBe("a\nb");
    expect(blocks.open).toBe(false);
    expect(blocks.push('"""')).toBeUndefined();
    expect(blocks.open).toBe(true);
    expect(blocks.take()).toBe("");
    expect(blocks.push("c")).toBe("c");
  });
});

describe("history", () => {
  test("lies in the state folder, for its owner alone, and is kept between runs", () => {
    const file = historyFile({ XDG_STATE_HOME: join(folder, "state") });
    expect(file).toBe(join(folder, "state", "doge", "history"));
    const first = openHistory(file);
    for (const line of ["one", "", "two"]) first.add(line);
    expect(openHistory(file).lines).toEqual(["two", "one"]);
    expect(statSync(file).mode & 0o77).toBe(0);
    expect(historyFile({})).toMatch(/\.local.state.doge.history$/);
  });

  test("holds its last 1000 lines", () => {
    const file = historyFile({ XDG_STATE_HOME: join(folder, "long") });
    const history = openHistory(file);
    for (let line = 0; line < 1200; line++) history.add(`line ${line}`);
    const { lines } = openHistory(file);
    expect([lines.length, lines[0], lines.at(-1)]).toEqual([1000, "line 1199", "line 200"]);
    expect(readFileSync(file, "utf8").split("\n")).toHaveLength(1001);
  });

  test("that cannot be kept is said, and is no reason to stop", () => {
    const blocked = join(folder, "blocked");
    writeFileSync(blocked, "");
    const history = openHistory(historyFile({ XDG_STATE_HOME: blocked }));
    expect(history.fault).toMatch(/not kept/);
    history.add("x");
    expect(history.lines).toEqual([]);
  });

  test("is not written by a pipe", () => {
    chat(["What is 2 plus 3?"]);
    expect(() => statSync(join(folder, "doge"))).toThrow("ENOENT");
  });
});

const maker = "script";
const pseudoTerminal = spawnSync(maker, ["--version"], { encoding: "utf8" }).stdout?.includes("util-linux") ?? false;

describe.skipIf(!pseudoTerminal)("in a terminal (skipped where there is no `script` of util-linux)", () => {
  /** A chat under the hands of `person`, who types and waits for what appears. */
  async function sit(args: string, env: NodeJS.ProcessEnv, person: (terminal: Terminal) => Promise<void>) {
    const command = `'${process.execPath}' --disable-warning=ExperimentalWarning '${main}' chat ${args}`;
    const process_ = spawn(maker, ["-qec", command, "/dev/null"], { env: { ...inherited, TERM: "xterm", ...env } });
    let seen = "";
    let wake = (): void => {};
    process_.stdout.on("data", (data) => {
      seen += data;
      wake();
    });
    const ended = new Promise<number | null>((resolve) => process_.on("close", resolve));
    let from = 0;
    try {
      await person({
        type: (text) => void process_.stdin.write(text),
        async see(pattern) {
          for (;;) {
            const match = pattern.exec(seen.slice(from));
            if (match !== null) {
              from += match.index + match[0].length;
              return;
            }
            const more = await Promise.race([
              new Promise<true>((resolve) => {
                wake = () => resolve(true);
              }),
              ended.then(() => false),
            ]);
            if (!more && pattern.exec(seen.slice(from)) === null) throw new Error(`${pattern} never came: ${seen}`);
          }
        },
      });
      return { status: await ended, seen };
    } finally {
      process_.kill();
    }
  }
  interface Terminal {
    type(text: string): void;
    see(pattern: RegExp): Promise<void>;
  }
  const state = () => ({ XDG_STATE_HOME: join(folder, "terminal") });

  test("Ctrl-C stops the answer and not the program; twice at an empty prompt it leaves", async () => {
    const { status } = await sit("--backend reference", state(), async ({ type, see }) => {
      await see(/lists the commands.*> /s);
      type("/params eosTokenId []\r");
      await see(/eosTokenId \[\].*> /s);
      type("Tell me a story.\r");
      await see(/Once|time|there/);
      type("\x03");
      await see(/> /);
      type("/stats\r");
      await see(/tokens \(abort\)/);
      await see(/> /);
      type("half a line\x03");
      await see(/> /);
      type("\x03");
      await see(/Ctrl-C again, or Ctrl-D, leaves/);
      type("\x03");
    });
    expect(status).toBe(0);
  });

  test("the arrow brings back what was typed in the last run; Ctrl-D leaves", async () => {
    const run = (person: (terminal: Terminal) => Promise<void>) => sit("", state(), person);
    await run(async ({ type, see }) => {
      await see(/> /);
      type("What is 2 plus 3?\r");
      await see(/= 5.*> /s);
      type("\x04");
    });
    const { status } = await run(async ({ type, see }) => {
      await see(/lists the commands.*> /s);
      type("\x1b[A\r");
      await see(/What is 2 plus 3\?.*= 5.*> /s);
      type("\x04");
    });
    expect(status).toBe(0);
  });

  test("NO_COLOR takes the colours away", async () => {
    const look = async (env: NodeJS.ProcessEnv) => {
      const { seen } = await sit("", { ...state(), ...env }, async ({ type, see }) => {
        await see(/lists the commands.*> /s);
        type("\x04");
      });
      return seen;
    };
    const colour = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`);
    expect(await look({})).toMatch(colour);
    expect(await look({ NO_COLOR: "1" })).not.toMatch(colour);
  });
});
