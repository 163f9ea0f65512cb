"""The demo model's tokenizer: a byte-level BPE of its own in the Doge format, and the chat layout as token ids."""

import json
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 1792
NAMED = ["<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
         "<|eot_id|>", "<|python_tag|>", "<|begin_of_thought|>", "<|end_of_thought|>", "<|begin_of_solution|>", "<|end_of_solution|>"]
SPECIAL = NAMED + [f"<|reserved_special_token_{index}|>" for index in range(244)]
BEGIN, END, PAD = SPECIAL[:3]
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")
DATES = "Cutting Knowledge Date: December 2024\nToday Date: December 2024\n"
CHAT_TEMPLATE = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "December 2024" %}
{%- endif %}
{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n" }}
{{- "Cutting Knowledge Date: December 2024\\n" }}
{{- "Today Date: " + date_string + "\\n" }}
{{- system_message }}
{{- "<|end_of_text|>\\n\\n" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n' + message['content'] | trim + '<|end_of_text|>\\n\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n' }}
{%- endif %}
"""


def train_tokenizer(conversations, folder):
    """Learns the merges from the conversations and writes the three tokenizer files of the package."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    texts = [message["content"] for messages in conversations for message in messages]
    # Every number below 100 becomes one token, and so do the words of the template.
    numbers = [str(number) for number in range(100)] * 200
    template = [DATES, "system\n", "user\n", "assistant\n", "\n\n"] * 200
    tokenizer.train_from_iterator(texts + numbers + template, trainer)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN}:1 $B:1", special_tokens=[(BEGIN, 0)]),
    ])
    folder.mkdir(parents=True, exist_ok=True)
    saved = json.loads(tokenizer.to_str())
    saved["post_processor"]["processors"][0]["use_regex"] = True
    write_json(folder / "tokenizer.json", saved, indent=None)
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    write_json(folder / "tokenizer_config.json", {
        "added_tokens_decoder": {str(index): {"content": content, **flags, "special": True} for index, content in enumerate(SPECIAL)},
        "bos_token": BEGIN, "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": True, "eos_token": END, "extra_special_tokens": {},
        "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 512, "pad_token": PAD, "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None,
    }, indent=1)
    write_json(folder / "special_tokens_map.json", {name: {"content": content, **flags} for name, content in
                                                    [("bos_token", BEGIN), ("eos_token", END), ("pad_token", PAD)]}, indent=2)


def write_json(path, value, indent):
    separators = (",", ":") if indent is None else None
    Path(path).write_text(json.dumps(value, ensure_ascii=False, indent=indent, separators=separators) + "\n", encoding="utf-8")


def load_tokenizer(folder):
    return PreTrainedTokenizerFast.from_pretrained(str(folder))


@lru_cache(maxsize=200_000)
def piece_ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def encode_chat(tokenizer, messages, everything=False):
    """Token ids of a finished chat and its labels: -100 on the system block and on what the user says, unless `everything`."""
    ids, labels = [], []

    def add(text, learnt):
        piece = piece_ids(tokenizer, text)
        ids.extend(piece)
        labels.extend(piece if learnt or everything else [-100] * len(piece))

    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    add(f"{BEGIN}<|start_header_id|>system<|end_header_id|>\n{DATES}{system}{END}\n\n", False)
    for message in messages:
        if message["role"] == "system":
            continue
        # A line break before a letter, digit or sign is always a piece of its own, so the parts encode as the whole does.
        add(f"<|start_header_id|>{message['role']}<|end_header_id|>\n", True)
        add(message["content"], message["role"] == "assistant")
        add(f"{END}\n\n", True)
    return ids, labels
