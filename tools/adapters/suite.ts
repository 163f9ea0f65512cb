// Checks of the conformance suite on the WebGPU backend, in whatever runtime this is loaded: Node, Deno, a page.

import { type WebgpuOptions, webgpu } from "../../packages/backend-webgpu/src/index.ts";
import { checks, type OpenFixture, runCheck, Stage } from "../../packages/conformance/src/checks.ts";

export interface SuiteReport {
  /** The adapter and the form of the kernels that ran; why nothing did. */
  readonly device: string;
  readonly absent: boolean;
  readonly passed: number;
  readonly failures: readonly string[];
  readonly seconds: number;
}

/** Run it with these options of the backend. `fixtures`: where the suite's files are, default: on disk; `only`: beginnings of the
 *  names of the checks to run, each of which must be the beginning of some. */
export async function suite(
  options: WebgpuOptions,
  fixtures?: OpenFixture,
  only: readonly string[] = [""],
): Promise<SuiteReport> {
  const start = performance.now();
  const provider = webgpu({ software: true, ...options });
  const answer = await provider.probe();
  if (!answer.available) return { device: answer.why, absent: true, passed: 0, failures: [], seconds: 0 };
  const subject = { provider, can: answer, notes: { fixtures } };
  const stage = new Stage(subject);
  const failures: string[] = [];
  let passed = 0;
  let device = "";
  try {
    const { can } = await stage.backend();
    device = can.device;
    // A form of the kernels that was left for a plainer one.
    failures.push(...(can.warnings ?? []));
    for (const name of only) {
      if (!checks.some((check) => check.name.startsWith(name))) failures.push(`There is no check ${name}.`);
    }
    for (const check of checks) {
      if (!only.some((name) => check.name.startsWith(name))) continue;
      try {
        await runCheck(check, stage);
        passed++;
      } catch (error) {
        failures.push(`${check.name}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  } catch (error) {
    failures.push(error instanceof Error ? error.message : String(error));
  } finally {
    await stage.close();
  }
  return { device, absent: false, passed, failures, seconds: (performance.now() - start) / 1000 };
}
