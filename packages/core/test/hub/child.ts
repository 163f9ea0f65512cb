// A process of its own that opens a model by name, as the environment says, and prints the hash of its weights.
import { createHash } from "node:crypto";
import { openHub } from "../../src/node/index.ts";

const files = await openHub(process.argv[2]!);
const bytes = await files.read("model.safetensors", 0, await files.size("model.safetensors"));
await files.close?.();
process.stdout.write(createHash("sha256").update(bytes).digest("hex"));
