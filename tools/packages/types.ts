// A TypeScript user's program, checked against the types as published, declarations of libraries included.
import type { Project } from "./project.ts";
import { tool } from "./steps.ts";

const PROGRAM = `import { type Doge, DogeError, isDogeError, load, wasm, type WasmLoadOptions } from "@doge-lm/wasm";

const options: WasmLoadOptions = { dtype: "q8", binary: "simd" };
const doge: Doge = await load("./model", options);
const answer = doge.generate([{ role: "user", content: "Hello" }], { maxNewTokens: 4, temperature: 0.8 });
for await (const { text } of answer) text satisfies string;
(await answer.result()).stopReason satisfies string;
// @ts-expect-error The types must not have become any.
doge.generate(42);
const { available } = await wasm().probe();
export { DogeError, available, isDogeError };
`;

/** Check a small program as `module` with `moduleResolution`. @throws with tsc's messages. */
export function checkTypes(project: Project, module: string, moduleResolution: string): string {
  project.write("types/program.ts", PROGRAM);
  const compilerOptions = {
    module,
    moduleResolution,
    target: "ES2022",
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    types: [],
  };
  project.write("types/tsconfig.json", JSON.stringify({ compilerOptions, files: ["program.ts"] }));
  tool("typescript/bin/tsc", ["-p", "types"], project.folder);
  return "no errors";
}
