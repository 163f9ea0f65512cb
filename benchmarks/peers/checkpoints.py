"""Seeded random Llama checkpoints of Doge's shapes for the peers, which have no Doge: the same parameters and matrix products.

    python3 checkpoints.py --shape tiny|20m|60m|160m|320m [--out models] [--formats hf,gguf,onnx]

Writes llama-SHAPE/ (config.json and f32 safetensors), llama-SHAPE-{f32,f16,q8_0,q4_0}.gguf with a vocabulary in which one word is
one token, and llama-SHAPE-{fp32,int8,q4}.onnx in the operators that onnxruntime's own model builder uses.
"""

import argparse
import json
import os

import numpy as np

# hidden, intermediate, layers, heads, key/value heads
SHAPES = {
    "tiny": (128, 256, 2, 4, 2),
    "20m": (256, 512, 8, 2, 1),
    "60m": (512, 1024, 16, 4, 2),
    "160m": (768, 1536, 24, 6, 3),
    "320m": (1024, 2048, 32, 8, 4),
}
VOCABULARY, CONTEXT, EPSILON, THETA = 32768, 2048, 1e-6, 10000.0
LINEAR = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def weights(shape, seed=1234):
    """Tensors by their names in transformers, around 0.02; norms around 1."""
    hidden, inner, layers, heads, kv_heads = SHAPES[shape]
    keys = kv_heads * (hidden // heads)
    random = np.random.default_rng(seed)

    def normal(*size, scale=0.02):
        return random.standard_normal(size, dtype=np.float32) * np.float32(scale)

    tensors = {"model.embed_tokens.weight": normal(VOCABULARY, hidden)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        tensors[at + "input_layernorm.weight"] = 1 + normal(hidden, scale=0.01)
        tensors[at + "self_attn.q_proj.weight"] = normal(hidden, hidden)
        tensors[at + "self_attn.k_proj.weight"] = normal(keys, hidden)
        tensors[at + "self_attn.v_proj.weight"] = normal(keys, hidden)
        tensors[at + "self_attn.o_proj.weight"] = normal(hidden, hidden)
        tensors[at + "post_attention_layernorm.weight"] = 1 + normal(hidden, scale=0.01)
        tensors[at + "mlp.gate_proj.weight"] = normal(inner, hidden)
        tensors[at + "mlp.up_proj.weight"] = normal(inner, hidden)
        tensors[at + "mlp.down_proj.weight"] = normal(hidden, inner)
    tensors["model.norm.weight"] = 1 + normal(hidden, scale=0.01)
    return tensors


def write_hf(shape, out):
    from safetensors.numpy import save_file

    hidden, inner, layers, heads, kv_heads = SHAPES[shape]
    folder = os.path.join(out, f"llama-{shape}")
    os.makedirs(folder, exist_ok=True)
    save_file(weights(shape), os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": EPSILON,
        "rope_theta": THETA,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)


def vocabulary():
    """Tokens, scores and types of a SentencePiece vocabulary of bytes and of words w0, w1, …"""
    tokens, types = ["<unk>", "<s>", "</s>"], [2, 3, 3]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    types += [6] * 256
    # Merges reach a word by way of its beginning.
    tokens += ["\u2581", "\u2581w"]
    words = VOCABULARY - len(tokens)
    tokens += [f"\u2581w{word}" for word in range(words)]
    types += [1] * (2 + words)
    scores = [0.0] * 259 + [-index / VOCABULARY for index in range(259, VOCABULARY)]
    return tokens, scores, types


def write_gguf(shape, out):
    import gguf
    from gguf import GGMLQuantizationType, quants

    hidden, inner, layers, heads, kv_heads = SHAPES[shape]
    width = hidden // heads
    tensors = weights(shape)

    def interleaved(weight, count):
        """Rotary pairs as llama.cpp has them: neighbours instead of halves."""
        rows, columns = weight.shape
        return weight.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns)

    for kind, file_type in {"f32": 0, "f16": 1, "q8_0": 7, "q4_0": 2}.items():
        writer = gguf.GGUFWriter(os.path.join(out, f"llama-{shape}-{kind}.gguf"), "llama")
        writer.add_name(f"random-llama-{shape}")
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(hidden)
        writer.add_block_count(layers)
        writer.add_feed_forward_length(inner)
        writer.add_head_count(heads)
        writer.add_head_count_kv(kv_heads)
        writer.add_rope_dimension_count(width)
        writer.add_key_length(width)
        writer.add_value_length(width)
        writer.add_layer_norm_rms_eps(EPSILON)
        writer.add_rope_freq_base(THETA)
        writer.add_vocab_size(VOCABULARY)
        writer.add_file_type(file_type)
        tokens, scores, types = vocabulary()
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores(scores)
        writer.add_token_types(types)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_bos_token(False)
        writer.add_add_eos_token(False)

        def add(name, value):
            value = np.ascontiguousarray(value, dtype=np.float32)
            if value.ndim == 1 or kind == "f32":
                writer.add_tensor(name, value)
            elif kind == "f16":
                writer.add_tensor(name, value.astype(np.float16))
            else:
                form = {"q8_0": GGMLQuantizationType.Q8_0, "q4_0": GGMLQuantizationType.Q4_0}[kind]
                writer.add_tensor(name, quants.quantize(value, form), raw_dtype=form)

        add("token_embd.weight", tensors["model.embed_tokens.weight"])
        add("output_norm.weight", tensors["model.norm.weight"])
        for layer in range(layers):
            for name, theirs in {**LINEAR, **NORMS}.items():
                value = tensors[f"model.layers.{layer}.{name}.weight"]
                if name.endswith("q_proj"):
                    value = interleaved(value, heads)
                if name.endswith("k_proj"):
                    value = interleaved(value, kv_heads)
                add(f"blk.{layer}.{theirs}.weight", value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def write_onnx(shape, out):
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    hidden, _, layers, heads, kv_heads = SHAPES[shape]
    width = hidden // heads
    tensors = weights(shape)
    contrib = "com.microsoft"
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(operator, inputs, outputs, **attributes):
        nodes.append(helper.make_node(operator, inputs, outputs, name=f"n{len(nodes)}", **attributes))
        return outputs[0]

    def linear(x, key, name):
        return node("MatMul", [x, constant(f"{name}_w", tensors[f"{key}.weight"].T)], [name])

    def add_norm(x, residual, key, name):
        """The sum of both, and the norm of it."""
        norm = constant(f"{name}_w", tensors[key])
        node("SkipSimplifiedLayerNormalization", [x, residual, norm], [name, "", "", f"{name}_sum"],
             domain=contrib, epsilon=EPSILON)
        return name, f"{name}_sum"

    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"]),
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, []),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "one", VOCABULARY])]
    frequencies = 1.0 / THETA ** (np.arange(0, width, 2, dtype=np.float64) / width)
    angles = np.outer(np.arange(CONTEXT), frequencies)
    constant("cos", np.cos(angles).astype(np.float32))
    constant("sin", np.sin(angles).astype(np.float32))
    embedding = tensors["model.embed_tokens.weight"]
    residual = node("Gather", [constant("embedding", embedding), "input_ids"], ["x"], axis=0)
    first = constant("first_norm", tensors["model.layers.0.input_layernorm.weight"])
    y = node("SimplifiedLayerNormalization", [residual, first], ["y"], axis=-1, epsilon=EPSILON, stash_type=1)
    for layer in range(layers):
        at = f"model.layers.{layer}."
        q, k, v = (linear(y, f"{at}self_attn.{part}_proj", f"{part}{layer}") for part in "qkv")
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        for name, size, to in ((past, "past", inputs), (present, "total", outputs)):
            for part in name:
                dimensions = ["batch", kv_heads, size, width]
                to.append(helper.make_tensor_value_info(part, TensorProto.FLOAT, dimensions))
        node("GroupQueryAttention", [q, k, v, *past, "seqlens_k", "total_sequence_length", "cos", "sin"],
             [f"a{layer}", *present], domain=contrib, num_heads=heads, kv_num_heads=kv_heads, do_rotary=1,
             rotary_interleaved=0)
        o = linear(f"a{layer}", f"{at}self_attn.o_proj", f"o{layer}")
        y, residual = add_norm(o, residual, f"{at}post_attention_layernorm.weight", f"m{layer}")
        gate = linear(y, f"{at}mlp.gate_proj", f"g{layer}")
        up = linear(y, f"{at}mlp.up_proj", f"u{layer}")
        silu = node("Mul", [gate, node("Sigmoid", [gate], [f"s{layer}"])], [f"silu{layer}"])
        down = linear(node("Mul", [silu, up], [f"gu{layer}"]), f"{at}mlp.down_proj", f"d{layer}")
        following = f"model.layers.{layer + 1}.input_layernorm.weight" if layer + 1 < layers else "model.norm.weight"
        y, residual = add_norm(down, residual, following, f"y{layer}")
    # Only the last position has logits, as in every other peer.
    ends = [constant(name, np.array([value], np.int64)) for name, value in
            (("minus_one", -1), ("largest", 2**31 - 1), ("axis", 1))]
    last = node("Slice", [y, *ends], ["last"])
    node("MatMul", [last, constant("head", embedding.T)], ["logits"])
    graph = helper.make_graph(nodes, "llama", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(contrib, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)

    base = os.path.join(out, f"llama-{shape}-fp32.onnx")
    large = sum(value.size for value in tensors.values()) * 4 > 1.6e9
    onnx.save(model, base, save_as_external_data=large, location=f"{os.path.basename(base)}.data" if large else None)
    with open(os.path.join(out, f"llama-{shape}.onnx.json"), "w") as file:
        json.dump({"layers": layers, "kv_heads": kv_heads, "head_dim": width}, file)
    quantize_dynamic(base, os.path.join(out, f"llama-{shape}-int8.onnx"), weight_type=QuantType.QInt8,
                     per_channel=True, op_types_to_quantize=["MatMul"],
                     extra_options={"MatMulConstBOnly": True, "DefaultTensorType": 1})
    quantizer = MatMulNBitsQuantizer(onnx.load(base), block_size=32, is_symmetric=True, accuracy_level=4)
    quantizer.process()
    quantizer.model.save_model_to_file(os.path.join(out, f"llama-{shape}-q4.onnx"), False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--out", default="models")
    parser.add_argument("--formats", default="hf,gguf,onnx")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    for form, write in {"hf": write_hf, "gguf": write_gguf, "onnx": write_onnx}.items():
        if form in args.formats.split(","):
            write(args.shape, args.out)
