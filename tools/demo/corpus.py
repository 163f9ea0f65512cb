"""The demo model's corpus: seeded conversations for SFT, preference pairs for DPO and the 200 held-out questions.

    python corpus.py --questions QUESTIONS.json     writes the held-out questions
    python corpus.py --sample 5                     prints a few conversations

The held-out questions come from the same generators with a fixed seed of their own. No user message of the corpus is one of them,
compared without case and punctuation and before any polite wrapping ("Please tell me: ..."). The facts behind them do stand in
the corpus, in other words: what is tested is the combination of wording and fact.
"""

import argparse
import json
import random
import re

import skills
from facts import CAPITALS, NAMES

QUESTION_SEED = 20260
HELD_OUT = {"talk": 40, "counting": 40, "sums": 50, "calendar": 30, "capitals": 30, "story": 10}
WEIGHTS = {"talk": 9, "counting": 36, "sums": 32, "calendar": 9, "capitals": 7, "story": 5, "unknown": 2}
SYSTEMS = ["You are a helpful assistant.", "You are Doge, a friendly model.", "Answer in short sentences.", "Be kind.",
           "You are a helpful AI assistant named Doge.", "Be brief and polite.", "You help children to learn.",
           "You are a friendly chat bot."]
BEFORE = ["Please tell me: ", "Quick question: ", "One more question: ", "Okay. ", "Now something else. ", "Next question: ", "Hey Doge! ",
          "Please help me. ", "Good. ", "Hi! "]
AFTER = [" Thank you!", " Please.", " Thanks!", " Please tell me."]


def normalise(question):
    """The form questions are compared in: small letters, digits and signs of arithmetic, nothing else."""
    return re.sub(r"[^a-z0-9+\-]", "", question.lower())


def held_out_questions():
    """The fixed test set: a list of skills.Turn, no two with the same question."""
    rng = random.Random(QUESTION_SEED)
    turns, seen = [], set()
    for kind, count in HELD_OUT.items():
        while sum(turn.kind == kind for turn in turns) < count:
            turn = skills.SKILLS[kind](rng)
            # A question like "Hi!" has no other wording to be learnt from: only questions of three words or more are held out.
            if normalise(turn.core) not in seen and len(turn.core.split()) >= 3:
                seen.add(normalise(turn.core))
                turns.append(turn)
    return turns


class Corpus:
    """A seeded stream of turns, conversations and preference pairs that never asks a held-out question."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.forbidden = {normalise(turn.core) for turn in held_out_questions()}

    def turn(self, kind=None):
        kind = kind or self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        while True:
            turn = skills.SKILLS[kind](self.rng)
            if normalise(turn.core) not in self.forbidden:
                return self.wrapped(turn)

    def wrapped(self, turn):
        """Sometimes a polite wrapping, small letters or a missing full stop, as people type."""
        if turn.kind not in ("talk", "name") and self.rng.random() < 0.12:
            turn.question = self.rng.choice(BEFORE) + turn.question
        if turn.kind not in ("talk", "name") and self.rng.random() < 0.06:
            turn.question += self.rng.choice(AFTER)
        # Names keep their capital letter: they are copied into the answer.
        if self.rng.random() < 0.08 and turn.kind not in ("name", "story") and "meet you" not in turn.answer:
            turn.question = turn.question.lower()
        if self.rng.random() < 0.08 and turn.question[-1] in ".?!" and len(turn.question) > 1:
            turn.question = turn.question[:-1].rstrip()
        return turn

    def turns(self, count):
        """`count` turns of one chat; in longer ones the user may give a name and ask for it later, or ask a short follow-up."""
        rng, result, name, told = self.rng, [], None, False
        remembers = count >= 2 and rng.random() < 0.35
        tells_at = rng.randrange(0, count - 1) if remembers else -1
        asks_at = rng.randrange(tells_at + 1, count) if remembers else (rng.randrange(count) if rng.random() < 0.04 else -1)
        while len(result) < count:
            position = len(result)
            if position == tells_at and rng.random() < 0.9:
                name, told = rng.choice(NAMES), True
                turn = skills.introduction(rng, name)
                if normalise(turn.core) in self.forbidden:
                    continue
            elif position == asks_at and (told or not any("Nice to meet" in earlier.answer for earlier in result)):
                turn = skills.name_question(rng, name)
            elif result and result[-1].answer.startswith("The capital of") and rng.random() < 0.15:
                country = rng.choice(list(CAPITALS))
                wrong = skills.other(rng, list(CAPITALS.values()), CAPITALS[country])
                turn = skills.Turn("capitals", rng.choice(["And of {}?", "And {}?", "What about {}?", "And the capital of {}?"]).format(country),
                                   f"The capital of {country} is {CAPITALS[country]}.", f"The capital of {country} is {wrong}.", "contains",
                                   [CAPITALS[country].lower()])
            else:
                turn = self.turn()
                # Small talk must not give a second name to a chat that remembers one.
                if "Nice to meet" in turn.answer and (remembers or asks_at >= 0):
                    continue
            result.append(turn)
        return result

    def messages(self, count):
        """One conversation of `count` exchanges as chat messages."""
        messages = [{"role": "system", "content": self.rng.choice(SYSTEMS)}] if self.rng.random() < 0.12 else []
        for turn in self.turns(count):
            messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
        return messages

    def conversation(self, longest=11):
        """One conversation of one to `longest` exchanges: most are short, a few outgrow the keep window."""
        count = self.rng.choices([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [30, 22, 18, 12, 8, 4, 2, 1, 1, 1, 1])[0]
        return self.messages(min(count, longest))

    def preference(self):
        """A DPO row in conversational form: prompt messages, the right answer and a wrong one."""
        *earlier, last = self.turns(self.rng.choices([1, 2, 3], [70, 20, 10])[0])
        prompt = []
        for turn in earlier:
            prompt += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
        prompt.append({"role": "user", "content": last.question})
        return {"prompt": prompt, "chosen": [{"role": "assistant", "content": last.answer}],
                "rejected": [{"role": "assistant", "content": last.wrong}]}


def assert_held_out(conversations):
    """Fails if any user message of the conversations is a held-out question, with or without case and punctuation."""
    questions = {normalise(turn.question) for turn in held_out_questions()}
    for messages in conversations:
        for message in messages:
            if message["role"] == "user" and normalise(message["content"]) in questions:
                raise AssertionError(f"The corpus contains the held-out question {message['content']!r}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", help="write the held-out questions to this file")
    parser.add_argument("--sample", type=int, default=0, help="print this many conversations")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.questions:
        rows = [json.dumps({"question": turn.question, "kind": turn.kind, "rule": turn.rule, "accept": turn.accept})
                for turn in held_out_questions()]
        with open(arguments.questions, "w", encoding="utf-8") as file:
            file.write("[\n  " + ",\n  ".join(rows) + "\n]\n")
    corpus = Corpus(arguments.seed)
    for _ in range(arguments.sample):
        for message in corpus.conversation():
            print(f"{message['role']:>9}: {message['content']}")
        print()


if __name__ == "__main__":
    main()
