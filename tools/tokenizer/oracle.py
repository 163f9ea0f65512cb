"""The Rust library's answers, for tools/tokenizer/identity.ts: JSON lines on standard input, JSON lines on standard output.

    python oracle.py TOKENIZER.json          {"encode": [text, ...]}    -> [[id, ...], ...]
                                             {"decode": [[id, ...], ...]} -> [[text, text without special tokens], ...]
    python oracle.py --train                 {"texts": [...], "pattern": name, "special": [...], "size": n, "least": n, "limit": n or null}
                                             -> {"vocab": {token: id}, "merges": [[left, right], ...]}
Made with tokenizers 0.23.3.
"""

import json
import sys

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")


def train(task):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    if task["pattern"] == "llama3":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(vocab_size=task["size"], min_frequency=task["least"], special_tokens=task["special"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                  **({"max_token_length": task["limit"]} if task["limit"] is not None else {}))
    tokenizer.train_from_iterator(task["texts"], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": model["merges"]}


def answer(tokenizer, task):
    if "encode" in task:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(task["encode"])]
    return [[tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids)] for ids in task["decode"]]


def main():
    training = sys.argv[1] == "--train"
    tokenizer = None if training else Tokenizer.from_file(sys.argv[1])
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps(train(task) if training else answer(tokenizer, task), separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main()
