// Core's own tokenizer under the suite of all tokenizers.
import { createTokenizer } from "../../src/index.ts";
import { tokenizerSuite } from "./tokenizer-suite.ts";

await tokenizerSuite(createTokenizer);
