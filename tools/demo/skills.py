"""What the demo model can talk about: each function draws one question with its right answer, a wrong one and a check.

A check is what `questions.json` carries (see the package's README):
- contains: the normalised answer contains one of `accept` as whole words;
- numbers: all numbers of the answer, in order, are one of `accept`;
- story: exactly three sentences, and the answer contains one of `accept`.
"""

from dataclasses import dataclass

from facts import (ADJECTIVES, CAPITALS, COUNTABLE, DAYS, JOKES, LIKEABLE, MONTH_LENGTHS, MONTHS, NAMES, NUMBER_WORDS,
                   ORDINALS, STORY_ENDS, STORY_MIDDLES, SUBJECTS, article)


@dataclass
class Turn:
    """One user message and the answer to it; `core` is the question before a polite wrapping."""

    kind: str
    question: str
    answer: str
    wrong: str
    rule: str
    accept: list[str]
    core: str = ""

    def __post_init__(self):
        self.core = self.core or self.question


def capitalised(text):
    return text[0].upper() + text[1:]


def other(rng, options, right):
    return rng.choice([option for option in options if option != right])


ABILITIES = "I can chat, count, add small numbers, name days, months and capitals, and tell short stories."
RUDE = ["I do not want to talk to you.", "Go away.", "No.", "What what what what.", "That is a silly thing to say."]

GREETINGS = ["Hi", "Hello", "Hey", "Hi there", "Hello there", "Hey there", "Good morning", "Good evening",
             "Good afternoon", "Good day"]
OPENERS = ["", "", "Please tell me, ", "Say, ", "Excuse me, ", "May I ask, ", "Hi, ", "Hello, ", "Hey, ", "By the way, ",
           "Tell me, ", "Well, "]
CLOSERS = ["", "", "", ", Doge", ", please", ", my friend", ", little model"]
TIMES = ["", "", " today", " this morning", " this evening", " now", " at the moment", " right now"]

HOW_ARE_YOU = ["how are you", "how are you doing", "how is it going", "how do you feel", "how are things", "are you well",
               "how are you feeling", "are you doing well"]

# question -> (answer, words an answer must contain)
IDENTITY = {
    "what is your name": ("My name is Doge.", ["doge"]),
    "what are you called": ("My name is Doge.", ["doge"]),
    "do you have a name": ("Yes, my name is Doge.", ["doge"]),
    "what should I call you": ("My name is Doge.", ["doge"]),
    "who are you": ("I am Doge, a very small language model.", ["doge"]),
    "what are you": ("I am Doge, a very small language model.", ["language model"]),
    "are you a human": ("No, I am Doge, a very small language model.", ["language model"]),
    "are you a robot": ("No, I am Doge, a very small language model.", ["language model"]),
    "are you a real dog": ("No, I am Doge, a very small language model.", ["language model"]),
    "are you a person": ("No, I am Doge, a very small language model.", ["language model"]),
    "what can you do": (ABILITIES, ["count"]),
    "what do you know": (ABILITIES, ["count"]),
    "how can you help me": (ABILITIES, ["count"]),
    "what are you good at": (ABILITIES, ["count"]),
    "how big are you": ("I am very small: my weights fit in less than four megabytes.", ["small"]),
    "are you a big model": ("I am very small: my weights fit in less than four megabytes.", ["small"]),
    "how old are you": ("I do not have an age. I am a demo model.", ["do not have an age"]),
    "where do you live": ("I live in your computer.", ["computer"]),
    "where are you": ("I live in your computer.", ["computer"]),
    "what is the weather like": ("I cannot see the weather, but I hope the sun is shining for you.", ["weather", "sun"]),
    "how is the weather": ("I cannot see the weather, but I hope the sun is shining for you.", ["weather", "sun"]),
    "is it raining": ("I cannot see the weather, but I hope the sun is shining for you.", ["weather", "sun"]),
    "is it warm outside": ("I cannot see the weather, but I hope the sun is shining for you.", ["weather", "sun"]),
}
JOKE_REQUESTS = ["tell me a joke", "do you know a joke", "make me laugh", "tell me something funny", "I want to hear a joke",
                 "can you tell a joke", "say something funny", "please tell me a joke", "one more joke"]
THANKS = ["thanks", "thank you", "thank you very much", "thanks a lot", "many thanks", "thank you so much", "thanks for your help",
          "thank you for the answer", "thank you for your help", "thanks for that", "thank you, that was nice",
          "great, thank you", "that is nice, thanks"]
GOODBYES = ["goodbye", "bye", "bye bye", "see you later", "see you soon", "see you tomorrow", "good night", "I have to go now",
            "I must go now", "have a nice day", "until next time", "that is all for today", "take care"]
SAD = ["sad", "tired", "lonely", "unhappy", "bored", "sick", "angry", "worried", "afraid"]
GLAD = ["happy", "glad", "very happy", "excited", "proud", "cheerful", "in a good mood", "full of joy"]


def talk(rng):
    """Small talk: greetings, who the model is, thanks, goodbyes, jokes, feelings, likes."""
    topic = rng.choices(["how", "greet", "identity", "thanks", "bye", "joke", "feeling", "like", "name"],
                        [16, 7, 34, 8, 8, 7, 10, 8, 6])[0]
    wrong = rng.choice(RUDE)
    if topic == "how":
        question = rng.choice(HOW_ARE_YOU) + rng.choice(TIMES) + rng.choice(["", "", "", ", Doge", ", my friend"])
        greeting = rng.choice(GREETINGS + ["", ""])
        question = capitalised(f"{greeting}{rng.choice([', ', ', ', '! '])}{question}?" if greeting else question + "?")
        answer = rng.choice(["I am doing well, thank you! How can I help you?", "I am fine, thank you! How can I help you?"])
        return Turn("talk", question, answer, wrong, "contains", ["i am doing well", "i am fine"])
    if topic == "greet":
        question = rng.choice(GREETINGS) + rng.choice(["", " Doge", ", Doge", ", my friend", " friend", ", little model"])
        question += rng.choice(["!", ".", "", " :)", "! Nice to meet you.", "! It is good to see you.", "! Here I am."])
        return Turn("talk", question, "Hello! How can I help you?", wrong, "contains", ["how can i help you"])
    if topic == "identity":
        core = rng.choice(list(IDENTITY))
        answer, accept = IDENTITY[core]
        return Turn("talk", capitalised(rng.choice(OPENERS) + core + rng.choice(CLOSERS) + "?"), answer, wrong, "contains", accept)
    if topic == "thanks":
        question = capitalised(rng.choice(["", "", "oh, ", "okay, ", "well, ", "good, "]) + rng.choice(THANKS))
        question += rng.choice(["", ", Doge", ", my friend", ", little model"]) + rng.choice(["!", ".", ""])
        return Turn("talk", question, "You are welcome!", wrong, "contains", ["you are welcome"])
    if topic == "bye":
        question = capitalised(rng.choice(["", "", "okay, ", "well, ", "good, ", "oh, "]) + rng.choice(GOODBYES))
        question += rng.choice(["", ", Doge", ", my friend", ", little model"]) + rng.choice(["!", ".", ""])
        return Turn("talk", question, "Goodbye! Have a nice day!", wrong, "contains", ["goodbye"])
    if topic == "joke":
        question = capitalised(rng.choice(["", "", "okay, ", "hey, ", "now, ", "hi, "]) + rng.choice(JOKE_REQUESTS))
        question += rng.choice(["", "", ", Doge", ", please", ", my friend"]) + rng.choice([".", "!", "?"])
        return Turn("talk", question, rng.choice(JOKES), wrong, "contains", ["why", "what do you call"])
    if topic == "feeling":
        word = rng.choice(SAD + GLAD)
        question = rng.choice(["I am {}", "I feel {}", "I am so {}", "I feel a bit {}", "Today I am {}", "I think I am {}",
                               "My friend is {}", "Sometimes I am {}"]).format(word)
        question += rng.choice(TIMES if "Today" not in question else [""]) + rng.choice([".", "!", "", ", Doge."])
        sad = word in SAD
        answer = "I am sorry to hear that. I hope it gets better soon." if sad else "That is wonderful! I am glad to hear that."
        return Turn("talk", question, answer, wrong, "contains", ["sorry to hear"] if sad else ["glad to hear"])
    if topic == "like":
        thing = rng.choice(LIKEABLE)
        question = rng.choice(["Do you like {}?", "Do you love {}?", "What do you think about {}?", "Are you fond of {}?",
                               "Say, do you like {}?", "Hey, do you like {}?", "Tell me, do you like {}?",
                               "Do you also like {}?", "What do you think of {}?"]).format(thing)
        return Turn("talk", question, f"Yes, I like {thing} very much!", f"Yes, I like {other(rng, LIKEABLE, thing)} very much!",
                    "contains", [f"i like {thing}"])
    return introduction(rng, rng.choice(NAMES))


def introduction(rng, name):
    question = rng.choice(["My name is {}.", "Hi, I am {}.", "Hello, my name is {}.", "I am {}.", "You can call me {}.",
                           "Hey, I am {}!", "Good morning, I am {}.", "Hello! I am {}.", "People call me {}.",
                           "Hi Doge, my name is {}.", "Please call me {}."]).format(name)
    return Turn("talk", question, f"Nice to meet you, {name}!", f"Nice to meet you, {other(rng, NAMES, name)}!", "contains",
                [f"nice to meet you {name.lower()}"])


def name_question(rng, name):
    """What the user is called, said earlier in the chat (name) or never (None)."""
    question = rng.choice(["What is my name?", "Do you remember my name?", "What am I called?", "Who am I?",
                           "Do you know my name?", "Can you tell me my name?", "Do you still know my name?"])
    right = f"Your name is {name}." if name else "You have not told me your name yet."
    return Turn("name", question, right, f"Your name is {other(rng, NAMES, name)}.", "contains",
                [name.lower() if name else "not told me"])


def counting(rng):
    """Counting up or down, and the number after or before another."""
    topic = rng.choices(["up", "down", "next", "before"], [38, 24, 20, 18])[0]
    if topic in ("next", "before"):
        step = 1 if topic == "next" else -1
        number = rng.randint(0 if step > 0 else 1, 99)
        templates = {
            1: ["What number comes after {}?", "Which number comes after {}?", "What comes after {}?", "What is the next number after {}?",
                "Which number follows {}?", "What number follows {}?", "Name the number after {}.", "Tell me the number after {}.",
                "What is one more than {}?", "I count: {}. What comes next?", "Give me the number after {}."],
            -1: ["What number comes before {}?", "Which number comes before {}?", "What comes before {}?", "What is the number before {}?",
                 "Which number is just before {}?", "Name the number before {}.", "Tell me the number before {}.", "What is one less than {}?",
                 "What is the previous number to {}?", "Give me the number before {}."],
        }[step]
        result = number + step
        return Turn("counting", rng.choice(templates).format(number), f"{result} comes {'after' if step > 0 else 'before'} {number}.",
                    f"{result + rng.choice([-1, 1, 10])} comes {'after' if step > 0 else 'before'} {number}.", "numbers",
                    [str(result), f"{result} {number}", f"{number} {result}"])
    low = rng.choice([0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
    high = low + rng.randint(2, 9)
    numbers = list(range(low, high + 1))
    if topic == "up":
        templates = ["Count from {} to {}.", "Please count from {} to {}.", "Can you count from {} to {}?", "Count up from {} to {}.",
                     "Name the numbers from {} to {}.", "Say the numbers from {} to {}.", "List the numbers from {} to {}.",
                     "Could you count from {} up to {}?", "Write the numbers from {} to {}.", "I want you to count from {} to {}.",
                     "Start at {} and count to {}.", "Now count from {} to {}, please."]
        if low == 1:
            templates += ["Count to {1}.", "Can you count to {1}?", "Please count to {1}.", "Count up to {1}."] * 2
        question = rng.choice(templates).format(low, high)
    else:
        numbers.reverse()
        question = rng.choice(["Count down from {} to {}.", "Please count down from {} to {}.", "Can you count down from {} to {}?",
                               "Count backwards from {} to {}.", "Can you count backwards from {} to {}?", "Count back from {} to {}.",
                               "Start at {} and count down to {}.", "Name the numbers from {} down to {}.",
                               "Say the numbers from {} down to {}.", "Could you count down from {} to {}?",
                               "I want you to count down from {} to {}."]).format(high, low)
    damaged = list(numbers)
    if rng.random() < 0.5:
        damaged.pop(rng.randrange(1, len(damaged)))
    else:
        damaged.append(damaged[-1] + (damaged[-1] - damaged[-2]))
    return Turn("counting", question, ", ".join(map(str, numbers)) + ".", ", ".join(map(str, damaged)) + ".", "numbers",
                [" ".join(map(str, numbers))])


def sums(rng):
    """Sums up to 20 + 20 and differences from 20, in figures, in words and in small stories."""
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    minus = rng.random() < 0.22
    if minus and b > a:
        a, b = b, a
    form = rng.choices(["figures", "words", "story"], [78, 11, 11])[0]
    sign, result = ("-", a - b) if minus else ("+", a + b)
    line = f"{a} {sign} {b} = {result}."
    slip = other(rng, [n for n in range(result - 3, result + 4) if n >= 0] + [result + 10], result)
    accept = [str(result), f"{a} {b} {result}"]
    if form == "story":
        thing, name = rng.choice(COUNTABLE), rng.choice(NAMES)
        if minus:
            question = rng.choice(["I have {a} {t} and give away {b}. How many {t} do I have now?",
                                   "{n} has {a} {t} and loses {b}. How many {t} are left?",
                                   "There are {a} {t}. I take {b} away. How many are left?"])
        else:
            question = rng.choice(["I have {a} {t} and get {b} more. How many {t} do I have now?",
                                   "{n} has {a} {t} and finds {b} more. How many {t} are there?",
                                   "There are {a} {t} here and {b} there. How many {t} are there in all?"])
        return Turn("sums", question.format(a=a, b=b, t=thing, n=name), line, f"{a} {sign} {b} = {slip}.", "numbers", accept)
    if minus:
        templates = ["What is {} - {}?", "What is {} minus {}?", "How much is {} minus {}?", "{} - {} = ?", "{} minus {}", "{} - {}",
                     "Can you tell me what {} minus {} is?", "Calculate {} - {}.", "Compute {} minus {}.", "Please work out {} - {}.",
                     "Do you know what {} - {} is?", "How much is {} - {}?", "{} - {}?"]
    else:
        templates = ["What is {} + {}?", "What is {} plus {}?", "How much is {} plus {}?", "How much is {} + {}?", "{} + {} = ?",
                     "{} plus {}", "{} + {}", "{} + {}?", "{}+{}", "What is {}+{}?", "Can you tell me what {} plus {} is?",
                     "Calculate {} + {}.", "Compute {} plus {}.", "Please work out {} + {}.", "Do you know what {} + {} is?", "Add {} and {}.",
                     "What is the sum of {} and {}?", "Please add {} and {}.", "Can you add {} and {}?", "What do you get if you add {} and {}?",
                     "What does {} plus {} make?", "What do {} and {} make together?", "Add {} to {}."]
    template = rng.choice(templates)
    if form == "words" and not ("+" in template or "-" in template):
        question = capitalised(template.format(NUMBER_WORDS[a], NUMBER_WORDS[b]))
    else:
        question = template.format(a, b)
    return Turn("sums", question, line, f"{a} {sign} {b} = {slip}.", "numbers", accept)


def calendar(rng):
    """Days and months: neighbours, lists, counts, ordinals."""
    days = rng.random() < 0.5
    names, unit = (DAYS, "day") if days else (MONTHS, "month")
    index = rng.randrange(len(names))
    this, after, before = names[index], names[(index + 1) % len(names)], names[index - 1]
    topic = rng.choices(["after", "before", "list", "many", "ordinal", "special"], [30, 30, 8, 6, 14, 12])[0]
    wrong_name = None
    if topic in ("after", "before"):
        templates = {
            "after": ["What {u} comes after {x}?", "Which {u} comes after {x}?", "What comes after {x}?", "Which {u} follows {x}?",
                      "What is the {u} after {x}?", "Name the {u} after {x}.", "Tell me the {u} after {x}.", "What {u} follows {x}?",
                      "What is the next {u} after {x}?", "After {x} comes which {u}?", "Can you name the {u} after {x}?"],
            "before": ["What {u} comes before {x}?", "Which {u} comes before {x}?", "What comes before {x}?", "Which {u} is just before {x}?",
                       "What is the {u} before {x}?", "Name the {u} before {x}.", "Tell me the {u} before {x}.", "Before {x} comes which {u}?",
                       "Which {u} is right before {x}?", "Can you name the {u} before {x}?", "What {u} is before {x}?"],
        }[topic]
        if topic == "after":
            templates = templates + (["Today is {x}. What {u} is tomorrow?", "If today is {x}, what day is tomorrow?", "It is {x} today. What is tomorrow?"]
                                     if days else ["It is {x} now. What month is next?", "This month is {x}. What is the next month?"])
        else:
            templates = templates + (["Today is {x}. What {u} was yesterday?", "If today is {x}, what day was yesterday?", "It is {x} today. What was yesterday?"]
                                     if days else ["It is {x} now. What month was it before?", "This month is {x}. What was the last month?"])
        right = after if topic == "after" else before
        question = rng.choice(templates).format(u=unit, x=this)
        return Turn("calendar", question, f"{right} comes {topic} {this}.", f"{other(rng, names, right)} comes {topic} {this}.",
                    "contains", [right.lower()])
    if topic == "list":
        what = rng.choice(["the days of the week", "all days of the week", "the seven days of the week", "all seven days"] if days else
                          ["the months of the year", "all months of the year", "the twelve months of the year", "all twelve months"])
        question = rng.choice(["Name {}.", "List {}.", "What are {}?", "Can you name {}?", "Tell me {}.", "Please list {}.", "Do you know {}?",
                               "Say {}.", "Write down {}.", "I want to know {}."]).format(what)
        damaged = list(names)
        damaged.pop(rng.randrange(len(names)))
        answer = ", ".join(names) + "."
        return Turn("calendar", question, answer, ", ".join(damaged) + ".", "contains", [" ".join(names).lower()])
    if topic == "many":
        pool = [("days", "a week", "seven", 7), ("months", "a year", "twelve", 12), ("days", "the weekend", "two", 2)]
        part, whole, word, _ = rng.choice(pool)
        question = rng.choice(["How many {p} are in {w}?", "How many {p} are there in {w}?", "How many {p} has {w}?", "How many {p} does {w} have?",
                               "Can you tell me how many {p} {w} has?", "What is the number of {p} in {w}?", "Do you know how many {p} {w} has?",
                               "Tell me how many {p} are in {w}."]).format(p=part, w=whole)
        return Turn("calendar", question, f"There are {word} {part} in {whole}.", f"There are {rng.choice(['three', 'nine', 'ten'])} {part} in {whole}.",
                    "contains", [word])
    if topic == "ordinal":
        whole = "week" if days else "year"
        question = rng.choice(["What is the {o} {u} of the {w}?", "Which is the {o} {u} of the {w}?", "Name the {o} {u} of the {w}.",
                               "Tell me the {o} {u} of the {w}.", "Which {u} is the {o} of the {w}?", "What {u} is the {o} of the {w}?",
                               "Can you name the {o} {u} of the {w}?"]).format(o=ORDINALS[index], u=unit, w=whole)
        return Turn("calendar", question, f"The {ORDINALS[index]} {unit} of the {whole} is {this}.",
                    f"The {ORDINALS[index]} {unit} of the {whole} is {other(rng, names, this)}.", "contains", [this.lower()])
    if days:
        weekend = index >= 5
        question = rng.choice(["Is {} a day of the weekend?", "Is {} part of the weekend?", "Is {} on the weekend?", "Does {} belong to the weekend?",
                               "Is {} a weekend day?"]).format(this)
        yes, no = f"Yes, {this} is part of the weekend.", f"No, {this} is not part of the weekend."
        return Turn("calendar", question, yes if weekend else no, no if weekend else yes, "contains", ["yes" if weekend else "no"])
    question = rng.choice(["How many days does {} have?", "How many days are in {}?", "How many days has {}?", "How many days are there in {}?",
                           "Tell me how many days {} has.", "Do you know how many days {} has?", "How long is {}?"]).format(this)
    length = MONTH_LENGTHS[index]
    return Turn("calendar", question, f"{this} has {length} days.", f"{this} has {other(rng, [28, 30, 31, 29], length)} days.", "contains", [str(length)])


def capitals(rng):
    """Capitals of countries, and countries of capitals."""
    country = rng.choice(list(CAPITALS))
    city = CAPITALS[country]
    if rng.random() < 0.25:
        question = rng.choice(["{} is the capital of which country?", "Which country has {} as its capital?", "Of which country is {} the capital?",
                               "What country is {} the capital of?", "In which country is {}?", "Where is {}?",
                               "To which country does {} belong?", "Name the country with the capital {}."]).format(city)
        return Turn("capitals", question, f"{city} is the capital of {country}.", f"{city} is the capital of {other(rng, list(CAPITALS), country)}.",
                    "contains", [country.lower()])
    question = rng.choice(["What is the capital of {}?", "What is the capital city of {}?", "Which city is the capital of {}?", "Name the capital of {}.",
                           "Tell me the capital of {}.", "Do you know the capital of {}?", "What is {}'s capital?", "Can you tell me the capital of {}?",
                           "Can you name the capital of {}?", "Please name the capital of {}.", "I want to know the capital of {}.", "Capital of {}?",
                           "Which city is the capital city of {}?", "What city is the capital of {}?", "The capital of {} is which city?",
                           "How is the capital of {} called?"]).format(country)
    return Turn("capitals", question, f"The capital of {country} is {city}.", f"The capital of {country} is {other(rng, list(CAPITALS.values()), city)}.",
                "contains", [city.lower()])


def story(rng):
    """A story of three sentences about a subject."""
    noun = rng.choice(list(SUBJECTS))
    subject = article(f"{rng.choice(ADJECTIVES)} {noun}" if rng.random() < 0.6 else noun)
    question = rng.choice(["Tell me a story about {}.", "Tell a story about {}.", "Can you tell me a story about {}?", "Please tell me a story about {}.",
                           "Tell me a short story about {}.", "I want to hear a story about {}.", "Write a story about {}.", "Write a short story about {}.",
                           "Do you know a story about {}?", "Tell me a story with {}.", "Can you write a story about {}?",
                           "Make up a story about {}.", "Tell me a three-sentence story about {}."]).format(subject)
    start = list(SUBJECTS).index(noun)

    def pick(options, shift):
        # Mostly one choice per subject, so that greedy answers differ between subjects.
        return options[(start * shift) % len(options)] if rng.random() < 0.6 else rng.choice(options)

    sentences = [f"Once upon a time, there was {subject} {SUBJECTS[noun]}.", pick(STORY_MIDDLES, 3).format(noun=noun),
                 pick(STORY_ENDS, 5).format(noun=noun)]
    return Turn("story", question, " ".join(sentences), " ".join(sentences[:2] if rng.random() < 0.5 else sentences + sentences[1:]), "story", [noun])


def unknown(rng):
    """Things outside the small world: say so."""
    question = rng.choice(["Who invented {}?", "Explain {} to me.", "What is {}?", "How does {} work?", "Write a poem about {}.", "What do you know about {}?",
                           "Who wrote a book about {}?", "Translate {} into Latin.", "How much does {} cost?", "Write a program for {}.",
                           "Where can I buy {}?", "When was {} discovered?", "Why is {} important?"]).format(
        rng.choice(["electricity", "the telephone", "gravity", "chemistry", "democracy", "the internet", "a black hole", "philosophy", "inflation",
                    "a car", "the stock market", "quantum physics", "the theory of evolution", "a computer", "a church", "history", "poetry",
                    "a recipe", "the moon", "an airplane", "love", "the human body", "medicine", "a ticket", "politics"]))
    return Turn("unknown", question, f"I do not know that. {ABILITIES}", "Yes.", "contains", ["i do not know"])


SKILLS = {"talk": talk, "counting": counting, "sums": sums, "calendar": calendar, "capitals": capitals, "story": story, "unknown": unknown}
