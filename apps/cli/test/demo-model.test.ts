// The bundled model keeps the promise of its README: of 200 questions that its training text does not have, at least 90 in a
// hundred are answered right, greedily. The rules are those of packages/demo-model/README.md.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { DType } from "@doge-lm/core";
import { demoModel } from "@doge-lm/demo-model";
import { load } from "@doge-lm/wasm";
import { describe, expect, test } from "vitest";

interface Question {
  readonly question: string;
  readonly kind: string;
  readonly rule: "contains" | "numbers" | "story";
  readonly accept: readonly string[];
}

const questions = JSON.parse(readFileSync(new URL("questions.json", demoModel), "utf8")) as readonly Question[];

function isRight({ rule, accept }: Question, answer: string): boolean {
  if (rule === "numbers") return accept.includes((answer.match(/[0-9]+/g) ?? []).join(" "));
  const plain = ` ${answer
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, " ")
    .trim()} `;
  if (!accept.some((text) => plain.includes(` ${text} `))) return false;
  const sentences = answer.split(/[.!?]+/).filter((part) => part.trim() !== "");
  return rule === "contains" || (sentences.length === 3 && /[.!?]$/.test(answer.trim()));
}

test("there are 200 questions, all different, of at least five kinds", () => {
  expect(questions).toHaveLength(200);
  expect(new Set(questions.map(({ question }) => question)).size).toBe(200);
  expect(new Set(questions.map(({ kind }) => kind)).size).toBeGreaterThanOrEqual(5);
});

describe.each<DType>(["f32", "q8"])("held as %s", (dtype) => {
  test("at least 90 % of the questions are answered right", async () => {
    await using doge = await load(fileURLToPath(demoModel), { dtype });
    const wrong: string[] = [];
    for (const entry of questions) {
      const messages = [{ role: "user", content: entry.question }];
      const { text } = await doge.generate(messages, { maxNewTokens: 120, temperature: 0 }).result();
      if (!isRight(entry, text ?? "")) wrong.push(`${entry.question} -> ${text}`);
    }
    console.info(`${dtype}: ${200 - wrong.length} of 200 right; wrong:\n  ${wrong.join("\n  ")}`);
    expect(wrong.length).toBeLessThanOrEqual(20);
  });

  test("a chat longer than the keep window still knows what it is about", async () => {
    await using doge = await load(fileURLToPath(demoModel), { dtype });
    const { window } = doge.config;
    expect(window).not.toBeNull();
    const session = doge.session({ temperature: 0, maxNewTokens: 60 });
    const ask = async (question: string) => (await session.send(question).result()).text ?? "";
    for (const country of ["France", "Italy", "Spain", "Japan", "Germany", "Greece", "Egypt", "Peru", "Norway"]) {
      await ask(`What is the capital of ${country}?`);
    }
    const result = await session.send("What day comes after Monday?").result();
    expect(result.promptIds.length).toBeGreaterThan(window!);
    expect(result.text).toContain("Tuesday");
  });
});
