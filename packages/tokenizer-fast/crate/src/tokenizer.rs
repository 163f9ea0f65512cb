//! Text to ids and back: special strings, words, merging.

use crate::merges::{Merger, Merges};
use crate::special::Specials;
use crate::split::{Pattern, word_end};
use crate::unicode::Classes;
use crate::words::{Cache, SHORT, TokenIds, Tokens, key};

/// What a tokenizer is made of. The ids go from 0 to tokens.size() - 1, and the 256 bytes are tokens.
pub struct Parts<'a> {
    pub tokens: Tokens,
    /// Id of every byte.
    pub byte_ids: [u32; 256],
    /// Left, right, merged; in the order of their ranks, no pair twice.
    pub merges: &'a [[u32; 3]],
    /// A word that is a token is taken whole.
    pub ignore_merges: bool,
    /// Applied one after the other, each to the words of the one before.
    pub patterns: Vec<Pattern>,
    /// Ids of the special strings; their tokens' bytes are the strings.
    pub added: &'a [u32],
    /// Those of them that a decode can leave out.
    pub skipped: &'a [u32],
    /// Put around a text that asks for it.
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
}

pub struct Tokenizer {
    classes: Classes,
    tokens: Tokens,
    byte_ids: [u32; 256],
    merges: Merges,
    whole: Option<TokenIds>,
    patterns: Vec<Pattern>,
    specials: Specials,
    skipped: Vec<bool>,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    cache: Cache,
    merger: Merger,
}

impl Tokenizer {
    pub fn new(parts: Parts) -> Tokenizer {
        let Parts { tokens, .. } = parts;
        let mut merges = Merges::with_capacity(parts.merges.len());
        for (rank, &[left, right, merged]) in parts.merges.iter().enumerate() {
            merges.insert(left, right, rank as u32, merged);
        }
        let mut specials = Specials::new();
        let mut is_added = vec![false; tokens.size()];
        for &id in parts.added {
            specials.insert(tokens.get(id), id);
            is_added[id as usize] = true;
        }
        let mut skipped = vec![false; tokens.size()];
        for &id in parts.skipped {
            skipped[id as usize] = true;
        }
        let whole = parts.ignore_merges.then(|| {
            let mut ids = TokenIds::with_capacity(tokens.size());
            // No text may become a special id by its letters: a special string is no word.
            (0..tokens.size()).filter(|&id| !is_added[id]).for_each(|id| ids.insert(&tokens, id as u32));
            ids
        });
        Tokenizer {
            classes: Classes::new(),
            tokens,
            byte_ids: parts.byte_ids,
            merges,
            whole,
            patterns: parts.patterns,
            specials,
            skipped,
            prefix: parts.prefix,
            suffix: parts.suffix,
            cache: Cache::new(),
            merger: Merger::default(),
        }
    }

    /// Appends the ids of text[start..end], which is well-formed UTF-8; at least SHORT bytes stand behind it.
    pub fn encode(&mut self, text: &[u8], start: usize, end: usize, around: bool, special: bool, ids: &mut Vec<u32>) {
        if around {
            ids.extend_from_slice(&self.prefix);
        }
        let mut at = start;
        if special {
            while let Some((begin, behind, id)) = self.specials.find(text, at, end) {
                self.split(text, at, begin, 0, ids);
                ids.push(id);
                at = behind;
            }
        }
        self.split(text, at, end, 0, ids);
        if around {
            ids.extend_from_slice(&self.suffix);
        }
    }

    /// Cuts text[at..end] by the patterns from the `depth`th on.
    fn split(&mut self, text: &[u8], mut at: usize, end: usize, depth: usize, ids: &mut Vec<u32>) {
        let Some(&pattern) = self.patterns.get(depth) else {
            if at < end {
                self.word(text, at, end, ids);
            }
            return;
        };
        let last = depth + 1 == self.patterns.len();
        while at < end {
            let stop = word_end(pattern, &self.classes, text, at, end);
            if last {
                self.word(text, at, stop, ids);
            } else {
                self.split(text, at, stop, depth + 1, ids);
            }
            at = stop;
        }
    }

    #[inline(always)]
    fn word(&mut self, text: &[u8], at: usize, end: usize, ids: &mut Vec<u32>) {
        let length = end - at;
        if length > SHORT {
            return self.new_word(&text[at..end], ids);
        }
        let key = key(text, at, length);
        if !self.cache.find(key, length, ids) {
            let start = ids.len();
            self.new_word(&text[at..end], ids);
            self.cache.keep(key, length, &ids[start..]);
        }
    }

    fn new_word(&mut self, word: &[u8], ids: &mut Vec<u32>) {
        if let Some(whole) = &self.whole {
            if let Some(id) = whole.find(&self.tokens, word) {
                return ids.push(id);
            }
        }
        let start = ids.len();
        ids.extend(word.iter().map(|&byte| self.byte_ids[byte as usize]));
        self.merger.merge(&self.merges, ids, start);
    }

    /// Appends the bytes of the ids, which are in range.
    pub fn decode(&self, ids: &[u32], skip_special: bool, bytes: &mut Vec<u8>) {
        for &id in ids {
            if !(skip_special && self.skipped[id as usize]) {
                bytes.extend_from_slice(self.tokens.get(id));
            }
        }
    }
}
