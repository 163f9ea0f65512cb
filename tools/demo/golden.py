"""Writes golden.json: the demo model's greedy texts as transformers computes them, for the text tests of every backend.

    python golden.py ../../packages/demo-model

transformers 5.18, eager attention, float32, from the saved bf16 weights. Inside the dynamic mask torch.topk is replaced by the
runtime's tie rule (among equal biases the most recent key stays: a descending stable sort of the flipped row). Each prompt goes
on for 200 tokens by argmax, also past <|end_of_text|>. `margins` are the gaps between the two highest logits at each step: where
one is below a backend's tolerance, another choice there is a tie and no fault.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers

import window
from evaluate import END_ID, load

TOKENS = 200


def user(*texts):
    """A chat of user messages with the model's own answers between them filled in later."""
    return [{"role": "user", "content": text} for text in texts]


CHATS = [
    user("Hi, how are you doing today?"),
    user("What is 7 + 8?"),
    user("Count from 3 to 12."),
    user("Tell me a story about a brave mouse."),
    user("My name is Clara.", "What is the capital of Norway?", "And of Japan?", "What is my name?"),
    user("Hello, my name is Leo.", "Name the months of the year.", "Tell me a story about an old wizard.", "Count down from 15 to 6.",
         "What day comes after Sunday?", "Do you remember my name?"),
    [{"role": "system", "content": "You are a helpful assistant."},
     *user("Good morning! What can you do?", "What is 12 plus 9?", "Name the days of the week.", "Which country has Athens as its capital?",
           "I am a bit tired today.", "Tell me a joke.", "Thank you very much!", "What is 20 minus 13?")],
]
PLAIN = "Once upon a time, there was a"


@torch.no_grad()
def continued(model, ids, count):
    """`count` greedy ids after `ids`, end of text or not, and the gap between the two highest logits at each step."""
    cache, step, output, margins = None, torch.tensor([ids]), [], []
    for _ in range(count):
        result = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = result.past_key_values
        best = result.logits[0, -1].topk(2)
        output.append(best.indices[0].item())
        margins.append(round((best.values[0] - best.values[1]).item(), 5))
        step = best.indices[:1][None]
    return output, margins


def check_window(model, ids):
    """The counting form of the tie rule and the stable sort choose the same keys, in every layer of this very text."""
    compared = []
    fast = window.prepare_dynamic_mask

    def both(self, hidden_states, dt_states, keep_window_size, attention_mask):
        mask = fast(self, hidden_states, dt_states, keep_window_size, attention_mask)
        seen = attention_mask if attention_mask.dtype == torch.bool else attention_mask == 0
        lowest = torch.finfo(torch.float32).min
        rows = dt_states[:, :, None, :].expand(-1, -1, mask.shape[2], -1).masked_fill(~seen, lowest)
        kept = window.kept_by_sorting(rows, min(keep_window_size, rows.shape[-1])) & seen
        compared.append(torch.equal(kept, mask > lowest))
        return mask

    window.modeling_doge.DogeAttention.prepare_dynamic_mask = both
    with torch.no_grad():
        whole = model(input_ids=torch.tensor([ids])).logits[0].argmax(-1).tolist()
    window.install()
    if not compared or not all(compared):
        raise AssertionError("The two forms of the tie rule chose different keys.")
    return whole


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = load(arguments.folder)
    entries = []
    for chat in [*CHATS, None]:
        if chat is None:
            messages, text, prompt = None, PLAIN, tokenizer.encode(PLAIN)
        else:
            # Every user message but the last gets the model's own greedy answer.
            messages = []
            for message in chat:
                messages.append(message)
                prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
                if message["role"] == "user" and message is not chat[-1]:
                    answer, _ = continued(model, prompt, 120)
                    answer = answer[: answer.index(END_ID)] if END_ID in answer else answer
                    messages.append({"role": "assistant", "content": tokenizer.decode(answer)})
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        output, margins = continued(model, prompt, TOKENS)
        whole = check_window(model, prompt + output)
        # Decoding with a cache and one pass over the whole text agree wherever the margin is more than rounding.
        for index, token in enumerate(output):
            if whole[len(prompt) - 1 + index] != token and margins[index] > 1e-3:
                raise AssertionError(f"Step {index} of {text!r} differs between cached and uncached passes.")
        end = output.index(END_ID) if END_ID in output else len(output)
        entries.append({"messages": messages, "text": text, "ids": prompt, "answer": tokenizer.decode(output[:end]), "endsAfter": end,
                        "continuation": output, "smallestMargin": min(margins), "margins": margins})
        print(f"{len(prompt):4d} + {TOKENS} tokens, smallest margin {min(margins)}: {entries[-1]['answer']!r}", flush=True)
    source = (f"transformers {transformers.__version__}, eager, float32, greedy, end of text ignored; window ties: the most recent key stays")
    rows = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    head = json.dumps({"source": source, "tokens": TOKENS})[1:-1]
    (arguments.folder / "golden.json").write_text("{" + head + ', "entries": [\n' + ",\n".join(rows) + "\n]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
