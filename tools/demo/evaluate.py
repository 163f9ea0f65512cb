"""Answers the held-out questions greedily with a saved demo model and prints the score per kind.

    python evaluate.py ../../packages/demo-model [--chats 60]

With --chats it also continues seeded chats, as many shorter as longer than the keep window, and checks the last answer of each; in a
third of them the last question is the name the user gave at the start.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import torch
from transformers import DogeForCausalLM

import skills
import window
from corpus import Corpus
from facts import NAMES
from tokenizer import load_tokenizer

END_ID = 1


def load(folder):
    """The saved model in float32 with eager attention and the runtime's tie rule, and its tokenizer."""
    window.install()
    model = DogeForCausalLM.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="eager").eval()
    return model, load_tokenizer(folder)


def words(text):
    """Small letters and digits, everything else one space."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def is_right(row, answer):
    """The check of questions.json."""
    if row["rule"] == "numbers":
        return " ".join(re.findall(r"[0-9]+", answer)) in row["accept"]
    contained = any(f" {accepted} " in f" {words(answer)} " for accepted in row["accept"])
    if row["rule"] == "story":
        sentences = [part for part in re.split(r"[.!?]+", answer) if part.strip()]
        return contained and len(sentences) == 3 and answer.strip()[-1:] in (".", "!", "?")
    return contained


@torch.no_grad()
def greedy(model, prompts, limit=120):
    """Greedy continuations of prompts of one length, without padding; each ends before <|end_of_text|>."""
    ids, cache = torch.tensor(prompts), None
    step, output, open_rows = ids, [[] for _ in prompts], set(range(len(prompts)))
    for _ in range(limit):
        result = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, step = result.past_key_values, result.logits[:, -1].argmax(-1, keepdim=True)
        for row in list(open_rows):
            token = step[row].item()
            if token == END_ID:
                open_rows.discard(row)
            else:
                output[row].append(token)
        if not open_rows:
            break
    return output


def answer_all(model, tokenizer, chats):
    """The greedy answer to each chat (a list of messages ending with the user's)."""
    prompts = [tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False) for messages in chats]
    groups, answers = defaultdict(list), [""] * len(chats)
    for index, prompt in enumerate(prompts):
        groups[len(prompt)].append(index)
    for members in groups.values():
        for index, ids in zip(members, greedy(model, [prompts[index] for index in members])):
            answers[index] = tokenizer.decode(ids)
    return answers


def long_chats(tokenizer, count, shortest, longest):
    """Seeded chats whose prompt has more than `shortest` and at most `longest` tokens: rows of (messages, the last turn)."""
    corpus, rows = Corpus(seed=77), []
    while len(rows) < count:
        turns = [corpus.turn() for _ in range(corpus.rng.randint(4, 11))]
        if len(rows) % 3 == 0:
            name = corpus.rng.choice(NAMES)
            turns = [turn for turn in turns if "Nice to meet" not in turn.answer]
            turns = [skills.introduction(corpus.rng, name), *turns, skills.name_question(corpus.rng, name)]
        messages = []
        for turn in turns:
            messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
        if shortest < len(tokenizer.apply_chat_template(messages[:-1], return_dict=False)) <= longest:
            rows.append((messages[:-1], turns[-1]))
    return rows


def check_long_chats(model, tokenizer, count, shortest, longest):
    """Prints how many last answers of `count` such chats are right, per kind."""
    chats, asked, right = long_chats(tokenizer, count, shortest, longest), Counter(), Counter()
    for (messages, turn), answer in zip(chats, answer_all(model, tokenizer, [messages for messages, _ in chats])):
        good = is_right({"rule": turn.rule, "accept": turn.accept}, answer)
        asked[turn.kind] += 1
        right[turn.kind] += good
        if not good:
            print(f"long chat, {turn.kind}: {turn.question} -> {answer} (expected {turn.accept})")
    parts = ", ".join(f"{kind} {right[kind]} of {asked[kind]}" for kind in asked)
    print(f"chats of {shortest} to {longest} tokens: {right.total()} of {asked.total()} ({parts})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chats", type=int, default=0, help="also check this many chats below and above the keep window")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = json.loads((arguments.folder / "questions.json").read_text(encoding="utf-8"))
    model, tokenizer = load(arguments.folder)
    answers = answer_all(model, tokenizer, [[{"role": "user", "content": row["question"]}] for row in rows])
    asked, right = Counter(), Counter()
    for row, answer in zip(rows, answers):
        asked[row["kind"]] += 1
        right[row["kind"]] += is_right(row, answer)
        if not is_right(row, answer):
            print(f"{row['kind']}: {row['question']} -> {answer}")
    for kind in asked:
        print(f"{kind:>9}: {right[kind]} of {asked[kind]}")
    print(f"    total: {right.total()} of {asked.total()}")
    if arguments.chats:
        window_size = model.config.keep_window_size
        check_long_chats(model, tokenizer, arguments.chats, window_size // 2, window_size)
        check_long_chats(model, tokenizer, arguments.chats, window_size + 20, model.config.max_position_embeddings - 80)
    chat = [{"role": "user", "content": "Hi, how are you doing today?"}]
    print(answer_all(model, tokenizer, [chat])[0])


if __name__ == "__main__":
    main()
