// A child process: does one task and sends what it gives. Started by child.ts.
import { type Backend, checked, DogeError } from "@doge-lm/core";
import { Watch } from "../apps/cli/src/bench/gpu.ts";
import { bench } from "../apps/cli/src/bench/run.ts";
import { agree } from "./compare.ts";
import { importEngines } from "./engine-modules.ts";
import type { Engine } from "./engines.ts";
import { benchGpuKernels, KernelWatch } from "./gpu-kernels.ts";
import { benchKernels } from "./kernels.ts";
import { openSubject } from "./subjects.ts";
import type { Present, Task } from "./tasks.ts";
import { expect } from "./truth.ts";

const send = (message: object): Promise<void> =>
  new Promise((resolve) => process.send!(message, undefined, {}, () => resolve()));
const tell = (told: string): void => void send({ told });

async function findEngine(path: string | undefined, name: string): Promise<Engine> {
  const { engines } = await importEngines(path);
  const found = engines.find((engine) => engine.name === name);
  if (found === undefined)
    throw new Error(`There is no engine ${JSON.stringify(name)} in ${path ?? "benchmarks/engines.ts"}.`);
  return found;
}

async function opened<T>(
  engine: Engine,
  work: (backend: Backend) => Promise<T>,
  watch: Pick<Watch, "onDevice"> = new Watch(),
): Promise<T> {
  const backend = checked(await (await engine.provider(watch)).open());
  try {
    return await work(backend);
  } finally {
    await backend.close();
  }
}

async function probe(engine: Engine): Promise<Present> {
  const answer = await (await engine.provider(new Watch())).probe();
  if (!answer.available) return { available: false, why: answer.why };
  const { device, dtypes, threads = 1, details = {} } = answer;
  return { available: true, device, dtypes: [...dtypes], threads, software: details.software === true };
}

async function perform(task: Task, engine: Engine): Promise<unknown> {
  switch (task.kind) {
    case "probe":
      return probe(engine);
    case "expect": {
      const subject = await openSubject(task.subject);
      const prompts = subject.prompts(task.extent.texts, task.first);
      const context = Math.max(...prompts.map(({ length }) => length)) + task.extent.steps;
      return opened(engine, async (backend) => {
        const model = await backend.load(subject.checkpoint, { dtype: task.dtype, context });
        return expect(engine.name, model, prompts, task.extent, tell);
      });
    }
    case "agree": {
      const { subject: name, dtype, expected, alike } = task;
      const subject = await openSubject(name);
      return opened(engine, (backend) => agree(backend, name, subject, dtype, expected, alike, tell));
    }
    case "time": {
      const { shape, moe, dtype, prompt, decode, rows, reps, contexts } = task;
      const watch = new Watch();
      const provider = await engine.provider(watch);
      const from = { providers: [provider], choosing: { wanted: provider.name, spares: [] }, watch };
      const plan = { prompt, decode, rows, reps, contexts };
      return bench({ shape, moe, dtype, ...plan, routing: undefined, ...from, tell });
    }
    case "kernels":
      return benchKernels(tell);
    case "gpu-kernels": {
      const { shape, dtype } = task;
      const watch = new KernelWatch();
      return opened(engine, (backend) => benchGpuKernels(backend, watch, shape, dtype, tell), watch);
    }
  }
}

process.once("message", async ({ task, engines }: { task: Task; engines?: string }) => {
  try {
    const engine = await findEngine(engines, task.engine);
    await send({ value: await perform(task, engine) });
    process.exit(0);
  } catch (error) {
    const why = error instanceof DogeError ? error.message.replace(/^\[doge:\w+\] /, "") : String(error);
    await send({ why });
    process.exit(1);
  }
});
// The parent went away: nobody waits for what this would give.
process.once("disconnect", () => process.exit(1));
