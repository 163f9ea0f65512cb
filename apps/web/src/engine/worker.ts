// The script of the engine's worker.
import type { Port } from "./protocol.ts";
import { serve } from "./serve.ts";

serve(globalThis as unknown as Port);
