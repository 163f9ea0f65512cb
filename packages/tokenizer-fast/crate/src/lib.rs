//! Byte-level BPE for the tokenizer.json files of the Doge and Llama 3 family: encoding, decoding and training. The files are
//! read and checked in TypeScript; what comes here is right.

mod exports;
mod merges;
#[cfg(test)]
mod random;
mod special;
mod split;
mod tokenizer;
mod train;
mod unicode;
mod unicode_tables;
mod words;
