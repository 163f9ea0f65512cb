"""Trains the bundled demo model and writes its package: tokenizer, SFT, DPO, weights rounded to bf16.

    python train.py --out ../../packages/demo-model --work WORK

The model is transformers' own DogeForCausalLM (eager attention, with the tie rule of window.py), trained from random weights with
TRL's SFTTrainer and then its DPOTrainer. SFT loss stands on what the assistant says and on the template's marks; in one chat of ten
on every token. Sequences are padded on the right for training only: inference sees no padding.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import DogeConfig, DogeForCausalLM, TrainerCallback, set_seed
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

import window
from corpus import Corpus, assert_held_out
from tokenizer import encode_chat, load_tokenizer, train_tokenizer, write_json

KEEP_WINDOW = 256
LONGEST = 512


def new_model(vocabulary):
    config = DogeConfig(
        vocab_size=vocabulary, hidden_size=192, intermediate_size=384, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=3,
        head_dim=32, max_position_embeddings=LONGEST, keep_window_size=KEEP_WINDOW, tie_word_embeddings=True, is_moe=False,
        bos_token_id=0, eos_token_id=1, pad_token_id=2, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    config._attn_implementation = "eager"
    return DogeForCausalLM(config)


def save_package(model, folder):
    """Writes config.json, generation_config.json and model.safetensors with the weights rounded to bf16 (the tied head left out)."""
    tensors = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config = model.config
    write_json(folder / "config.json", {
        "architectures": ["DogeForCausalLM"], "model_type": "doge", "dtype": "bfloat16", "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size, "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads, "num_key_value_heads": config.num_key_value_heads, "head_dim": config.head_dim,
        "hidden_act": "silu", "hidden_dropout": 0.0, "attention_dropout": 0.0, "attention_bias": False, "mlp_bias": False,
        "initializer_range": config.initializer_range, "rms_norm_eps": config.rms_norm_eps, "use_cache": True, "tie_word_embeddings": True,
        "max_position_embeddings": config.max_position_embeddings, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "sliding_window": None, "keep_window_size": config.keep_window_size, "is_moe": False, "bos_token_id": 0, "eos_token_id": 1,
        "pad_token_id": 2, "transformers_version": "5.18.0",
    }, indent=2)
    write_json(folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "transformers_version": "5.18.0"}, indent=2)


class SaveEvery(TrainerCallback):
    """Writes the package as it stands every `steps` steps, so that a long run can be tried before it ends."""

    def __init__(self, steps, folder):
        self.steps, self.folder = steps, folder

    def on_step_end(self, arguments, state, control, model=None, **_):
        if state.global_step % self.steps == 0:
            save_package(model, self.folder)


def encoded(tokenizer, conversations):
    rows = []
    for index, messages in enumerate(conversations):
        ids, labels = encode_chat(tokenizer, messages, everything=index % 10 == 0)
        if len(ids) <= LONGEST:
            rows.append({"input_ids": ids, "labels": labels, "length": len(ids)})
    return Dataset.from_list(rows)


def common(arguments, name):
    return {"output_dir": str(arguments.work / name), "report_to": [], "save_strategy": "no", "logging_steps": 50, "seed": arguments.seed,
            "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "adam_beta2": 0.98, "weight_decay": 0.01, "max_grad_norm": 1.0,
            # A dense Doge has no router; TRL sees the config's keys and would ask it for a load-balancing loss.
            "router_aux_loss_coef": 0.0, "disable_tqdm": True}


def supervised(model, tokenizer, dataset, arguments):
    settings = SFTConfig(**common(arguments, "sft"), num_train_epochs=1, per_device_train_batch_size=arguments.batch,
                         learning_rate=arguments.learning_rate, lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.02},
                         warmup_steps=100, train_sampling_strategy="group_by_length", max_length=LONGEST, packing=False,
                         dataset_kwargs={"skip_prepare_dataset": True})
    trainer = SFTTrainer(model=model, args=settings, train_dataset=dataset, processing_class=tokenizer,
                         callbacks=[SaveEvery(arguments.save_every, arguments.out)])
    trainer.train()


def preferred(model, tokenizer, pairs, arguments):
    # TRL would load the reference model from a folder by itself; this model is only in memory.
    reference = copy.deepcopy(model).eval()
    settings = DPOConfig(**common(arguments, "dpo"), num_train_epochs=1, per_device_train_batch_size=16, learning_rate=arguments.dpo_learning_rate,
                         lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.1}, warmup_steps=10, beta=0.1,
                         max_length=LONGEST)
    DPOTrainer(model=model, ref_model=reference, args=settings, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer).train()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the package to write")
    parser.add_argument("--work", type=Path, required=True, help="folder for what the trainers write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--conversations", type=int, default=120_000)
    parser.add_argument("--pairs", type=int, default=800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--dpo-learning-rate", type=float, default=2e-5)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="start from the weights and tokenizer in --out instead of new ones")
    arguments = parser.parse_args()
    started = time.time()
    torch.set_num_threads(arguments.threads)
    set_seed(arguments.seed)
    window.install()

    corpus = Corpus(arguments.seed)
    conversations = [corpus.conversation() for _ in range(arguments.conversations)]
    pairs = [corpus.preference() for _ in range(arguments.pairs)]
    assert_held_out(conversations + [pair["prompt"] for pair in pairs])
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.resume:
        train_tokenizer(conversations[:20_000], arguments.out)
    tokenizer = load_tokenizer(arguments.out)
    for messages in conversations[:200]:
        if encode_chat(tokenizer, messages)[0] != tokenizer.apply_chat_template(messages, return_dict=False):
            raise AssertionError(f"The ids of {messages} are not those of the chat template.")
    dataset = encoded(tokenizer, conversations)
    lengths = torch.tensor(dataset["length"][:], dtype=torch.float)
    print(json.dumps({"chats": len(dataset), "tokens": int(lengths.sum()), "mean": round(lengths.mean().item(), 1),
                      "longest": int(lengths.max()), "above the window": round((lengths > KEEP_WINDOW).float().mean().item(), 3)}), flush=True)

    if arguments.resume:
        model = DogeForCausalLM.from_pretrained(arguments.out, dtype=torch.float32, attn_implementation="eager")
    else:
        model = new_model(len(tokenizer))
    print(f"{sum(parameter.numel() for parameter in model.parameters())} parameters", flush=True)
    supervised(model, tokenizer, dataset, arguments)
    save_package(model, arguments.out)
    print(f"SFT done after {time.time() - started:.0f} s", flush=True)
    preferred(model, tokenizer, pairs, arguments)
    save_package(model, arguments.out)
    print(f"DPO done after {time.time() - started:.0f} s", flush=True)
    for index, layer in enumerate(model.model.layers):
        print(f"layer {index}: A = {[round(value, 4) for value in layer.self_attn.A.tolist()]}")


if __name__ == "__main__":
    main()
