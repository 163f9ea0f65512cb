"""Writes the chats that backends are compared on: seeded conversations of the demo model's own domain, each ending with a question.

    python prompts.py ../../benchmarks/prompts.json

Half are single questions, the rest chats of two to eleven exchanges, some with a system message, a few longer than the keep window. No two
are equal. They come from the generators of the training corpus with another seed: what is asked of a backend here is that it computes
what the others compute, not that the model has not seen a question.
"""

import argparse
import json

from corpus import Corpus

SEED = 20261


def chats(count, longest):
    """`count` different chats without the answer to their last question, at most `longest` characters each."""
    corpus, found, seen = Corpus(SEED), [], set()
    while len(found) < count:
        exchanges = corpus.rng.choices([1, 2, 3, 4, 6, 8, 11], [50, 18, 12, 8, 6, 4, 2])[0]
        messages = corpus.messages(exchanges)[:-1]
        line = json.dumps([[message["role"], message["content"]] for message in messages], ensure_ascii=False)
        if line in seen or len(line) > longest:
            continue
        seen.add(line)
        found.append(line)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--longest", type=int, default=1500)
    arguments = parser.parse_args()
    with open(arguments.out, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(chats(arguments.count, arguments.longest)) + "\n]\n")


if __name__ == "__main__":
    main()
