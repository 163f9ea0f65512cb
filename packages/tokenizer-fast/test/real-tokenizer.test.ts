// The fast tokenizer with the published files.
import { createFastTokenizer } from "@doge-lm/tokenizer-fast";
import { realTokenizerSuite } from "../../core/test/text/real-tokenizer-suite.ts";

realTokenizerSuite(createFastTokenizer, process.env.DOGE_TOKENIZER_DIR);
