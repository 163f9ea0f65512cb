// Core's own tokenizer with the published files.
import { createTokenizer } from "../../src/index.ts";
import { realTokenizerSuite } from "./real-tokenizer-suite.ts";

realTokenizerSuite(createTokenizer, process.env.DOGE_TOKENIZER_DIR);
