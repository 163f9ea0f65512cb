// The fast tokenizer under the suite of all tokenizers.
import { createFastTokenizer } from "@doge-lm/tokenizer-fast";
import { tokenizerSuite } from "../../core/test/text/tokenizer-suite.ts";

await tokenizerSuite(createFastTokenizer);
