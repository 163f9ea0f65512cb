// Every kernel in every form that a compiler has the features for, parsed and checked by it; for Deno, whose compiler (naga) is
// another than that of the structure tests.
import { everyKernel } from "../../packages/backend-webgpu/src/kernels/index.ts";
import { featuresOf, type Variant } from "../../packages/backend-webgpu/src/variant.ts";

const gpu = navigator.gpu;
const adapter = await gpu.requestAdapter();
if (adapter === null) {
  console.log(JSON.stringify({ absent: true, device: "no adapter", passed: 0, failures: [], seconds: 0 }));
  process.exit(0);
}
const start = performance.now();
const features = featuresOf(adapter, gpu.wgslLanguageFeatures);
const has = (feature: keyof typeof features) => (features[feature] ? [false, true] : [false]);
const device = await adapter.requestDevice({
  requiredFeatures: (["shader-f16", "subgroups"] as GPUFeatureName[]).filter((name) => adapter.features.has(name)),
});
const failures: string[] = [];
const checked = new Set<string>();
for (const serial of [true, false]) {
  for (const subgroups of serial ? [false] : has("subgroups")) {
    for (const f16 of has("f16")) {
      for (const packed of has("packed")) await check({ serial, subgroups, f16, packed });
    }
  }
}
const device_ = `${adapter.info.description}: ${Object.keys(features).filter((name) => features[name as keyof typeof features])}`;
console.log(
  JSON.stringify({
    device: device_,
    absent: false,
    passed: checked.size,
    failures,
    seconds: (performance.now() - start) / 1000,
  }),
);
process.exit(0);

async function check(variant: Variant): Promise<void> {
  for (const { name, code } of everyKernel(variant)) {
    if (checked.has(code)) continue;
    checked.add(code);
    device.pushErrorScope("validation");
    device.createShaderModule({ label: name, code });
    const error = await device.popErrorScope();
    if (error !== null) failures.push(`${name}: ${error.message}`);
  }
}
