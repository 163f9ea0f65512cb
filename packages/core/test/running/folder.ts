// The mock's Doge as files: config.json and a safetensors file.
import { tensorShapes } from "../../src/index.ts";
import { config } from "./mock.ts";

export const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** config.json and weights of the mock's Doge, all zeros. */
export function folder(): Record<string, Uint8Array> {
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const [name, shape] of tensorShapes(config)) {
    const size = 4 * shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype: "F32", shape, data_offsets: [end, end + size] };
    end += size;
  }
  const text = JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8);
  const bytes = new Uint8Array(8 + text.length + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(new TextEncoder().encode(text), 8);
  return {
    "config.json": json({
      model_type: "doge",
      vocab_size: 40,
      hidden_size: 8,
      intermediate_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      head_dim: 4,
      max_position_embeddings: 32,
      keep_window_size: 2048,
      tie_word_embeddings: true,
      eos_token_id: 1,
      bos_token_id: 0,
    }),
    "model.safetensors": bytes,
  };
}
