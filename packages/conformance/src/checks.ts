// The table of all checks, in the order of the rings. Runs anywhere: `runCheck(check, new Stage(subject))`.
import type { Check } from "./check.ts";
import { abortChecks } from "./rings/aborts.ts";
import { contractChecks } from "./rings/contract.ts";
import { crossingChecks } from "./rings/crossings.ts";
import { drawingChecks } from "./rings/drawing.ts";
import { dtypeChecks } from "./rings/dtypes.ts";
import { expertChecks } from "./rings/experts.ts";
import { faultChecks } from "./rings/faults.ts";
import { frequencyChecks } from "./rings/frequencies.ts";
import { generationChecks } from "./rings/generation.ts";
import { goldenChecks } from "./rings/goldens.ts";
import { kernelChecks } from "./rings/kernels.ts";
import { orderChecks } from "./rings/order.ts";
import { propertyChecks } from "./rings/properties.ts";
import { publishedChecks } from "./rings/published.ts";
import { samplingChecks } from "./rings/sampling.ts";
import { textChecks } from "./rings/text.ts";
import { wideChecks } from "./rings/wide.ts";
import { windowChecks } from "./rings/window.ts";

export const checks: readonly Check[] = [
  ...kernelChecks,
  ...contractChecks,
  ...orderChecks,
  ...abortChecks,
  ...faultChecks,
  ...goldenChecks,
  ...propertyChecks,
  ...publishedChecks,
  ...windowChecks,
  ...expertChecks,
  ...dtypeChecks,
  ...samplingChecks,
  ...drawingChecks,
  ...wideChecks,
  ...frequencyChecks,
  ...textChecks,
  ...generationChecks,
  ...crossingChecks,
];

export * from "./assert.ts";
export * from "./check.ts";
export { type Fixture, fixtureNames, type OpenFixture } from "./fixtures.ts";
export type * from "./notes.ts";
export { runCheck, Scope, Stage } from "./scope.ts";
export { tolerances } from "./tolerances.ts";
