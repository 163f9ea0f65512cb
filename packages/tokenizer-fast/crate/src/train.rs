//! Learns a vocabulary from texts as the Rust library's BpeTrainer does: the pair of neighbours that is counted most becomes a
//! token, of equal counts the one with the lower ids, until the vocabulary is full.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use crate::split::{Pattern, word_end};
use crate::unicode::Classes;

/// A quick hash in place of the standard one, which guards against chosen keys and is slow for short ones.
#[derive(Default)]
pub struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(number));
        }
    }
    fn write_u32(&mut self, number: u32) {
        self.write_u64(number as u64);
    }
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(26) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;
type Pair = (u32, u32);

/// Words and how often they stand in the texts.
pub struct Counts {
    classes: Classes,
    pattern: Pattern,
    words: Map<Box<[u8]>, u64>,
}

impl Counts {
    pub fn new(pattern: Pattern) -> Counts {
        Counts { classes: Classes::new(), pattern, words: Map::default() }
    }

    /// Count the words of text[at..end], which is well-formed UTF-8.
    pub fn feed(&mut self, text: &[u8], mut at: usize, end: usize) {
        while at < end {
            let stop = word_end(self.pattern, &self.classes, text, at, end);
            self.add(&text[at..stop], 1);
            at = stop;
        }
    }

    fn add(&mut self, word: &[u8], count: u64) {
        match self.words.get_mut(word) {
            Some(known) => *known += count,
            None => {
                self.words.insert(word.into(), count);
            }
        }
    }
}

pub struct Options {
    /// Stop at this many tokens. Special tokens and the 256 bytes are in it whatever it says.
    pub size: usize,
    /// A pair that is counted less often is no token.
    pub least_count: u64,
    /// A token is shorter than this.
    pub length_limit: usize,
}

/// A vocabulary as it grows: a token's place is its id.
pub struct Vocabulary {
    pub tokens: Vec<Box<[u8]>>,
    ids: Map<Box<[u8]>, u32>,
}

impl Vocabulary {
    /// The id of the token, which is put at the end when it is new.
    fn id(&mut self, token: &[u8]) -> u32 {
        match self.ids.entry(token.into()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                new.insert(self.tokens.len() as u32);
                self.tokens.push(token.into());
                self.tokens.len() as u32 - 1
            }
        }
    }
}

/// A pair that may become a token, with the words where it stands.
struct Candidate {
    count: i64,
    pair: Pair,
    words: Vec<u32>,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        self.count.cmp(&other.count).then_with(|| other.pair.cmp(&self.pair))
    }
}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Candidate {}

/// The tokens and, by their ids, the merges in the order of their ranks. First come the special tokens, then the bytes in the
/// order of `alphabet`.
pub fn train(counts: &Counts, special: &[&[u8]], alphabet: &[u8; 256], options: &Options) -> (Vocabulary, Vec<Pair>) {
    let mut vocabulary = Vocabulary { tokens: vec![], ids: Map::default() };
    for token in special {
        vocabulary.id(token);
    }
    let mut byte_ids = [0; 256];
    for &byte in alphabet {
        byte_ids[byte as usize] = vocabulary.id(&[byte]);
    }
    let mut words: Vec<(Vec<u32>, i64)> = counts
        .words
        .iter()
        .map(|(word, &count)| (word.iter().map(|&byte| byte_ids[byte as usize]).collect(), count as i64))
        .collect();

    let mut pair_counts: Map<Pair, i64> = Map::default();
    let mut places: Map<Pair, Vec<u32>> = Map::default();
    let mut queue = BinaryHeap::new();
    for (index, (word, count)) in words.iter().enumerate() {
        for two in word.windows(2) {
            note(&mut pair_counts, &mut places, (two[0], two[1]), *count, index as u32);
        }
    }
    enqueue(&mut queue, &mut places, &pair_counts);

    // A token can be made in two ways, so a pair may come up again with further words: the last time gives its rank.
    let mut ranks: Map<Pair, usize> = Map::default();
    let mut round = 0;
    while vocabulary.tokens.len() < options.size {
        let Some(mut top) = queue.pop() else { break };
        let count = pair_counts[&top.pair];
        if top.count != count {
            top.count = count;
            queue.push(top);
            continue;
        }
        if top.count < 1 || (top.count as u64) < options.least_count {
            break;
        }
        let (left, right) = top.pair;
        let token = [&vocabulary.tokens[left as usize][..], &vocabulary.tokens[right as usize]].concat();
        let merged = vocabulary.id(&token);
        ranks.insert(top.pair, round);
        round += 1;
        let fits = |neighbour: u32| vocabulary.tokens[neighbour as usize].len() + token.len() < options.length_limit;
        for &index in &top.words {
            let (word, count) = &mut words[index as usize];
            merge(word, top.pair, merged, fits, |pair, sign| {
                if sign > 0 {
                    note(&mut pair_counts, &mut places, pair, *count, index);
                } else {
                    *pair_counts.entry(pair).or_default() -= *count;
                }
            });
        }
        enqueue(&mut queue, &mut places, &pair_counts);
    }

    let mut merges: Vec<(Pair, usize)> = ranks.into_iter().collect();
    merges.sort_unstable_by_key(|merge| merge.1);
    (vocabulary, merges.into_iter().map(|merge| merge.0).collect())
}

fn note(counts: &mut Map<Pair, i64>, places: &mut Map<Pair, Vec<u32>>, pair: Pair, count: i64, word: u32) {
    *counts.entry(pair).or_default() += count;
    let words = places.entry(pair).or_default();
    // Words come one after the other: one that is noted already is the last.
    if words.last() != Some(&word) {
        words.push(word);
    }
}

fn enqueue(queue: &mut BinaryHeap<Candidate>, places: &mut Map<Pair, Vec<u32>>, counts: &Map<Pair, i64>) {
    for (pair, words) in places.drain() {
        let count = counts[&pair];
        if count > 0 {
            queue.push(Candidate { count, pair, words });
        }
    }
}

/// Merge `pair` wherever it stands in the word, and tell which pairs there are one less and one more of.
fn merge(word: &mut Vec<u32>, pair: Pair, merged: u32, fits: impl Fn(u32) -> bool, mut tell: impl FnMut(Pair, i32)) {
    let (mut read, mut kept) = (0, 0);
    while read < word.len() {
        if word[read] != pair.0 || word.get(read + 1) != Some(&pair.1) {
            word[kept] = word[read];
            read += 1;
            kept += 1;
            continue;
        }
        if kept > 0 {
            let before = word[kept - 1];
            tell((before, pair.0), -1);
            if fits(before) {
                tell((before, merged), 1);
            }
        }
        if let Some(&behind) = word.get(read + 2) {
            tell((pair.1, behind), -1);
            if fits(behind) {
                tell((merged, behind), 1);
            }
        }
        word[kept] = merged;
        read += 2;
        kept += 1;
    }
    word.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The alphabet as numbers go, and the words of the test of the Rust library's trainer.
    fn library_example(least_count: u64, length_limit: usize) -> Vec<String> {
        let mut counts = Counts::new(Pattern::Llama3);
        let words = ["roses", "are", "are", "red", "voilets", "blue", "BERT", "is", "is", "big", "and", "so", "GPT-2"];
        words.iter().for_each(|word| counts.add(word.as_bytes(), 1));
        let alphabet = std::array::from_fn(|byte| byte as u8);
        let options = Options { size: 30000, least_count, length_limit };
        let (vocabulary, merges) = train(&counts, &[], &alphabet, &options);
        let text = |id: u32| String::from_utf8(vocabulary.tokens[id as usize].to_vec()).unwrap();
        assert_eq!(vocabulary.tokens.len(), 256 + merges.len());
        merges.iter().map(|&(left, right)| format!("{} {}", text(left), text(right))).collect()
    }

    #[test]
    fn learns_what_the_library_learns() {
        assert_eq!(library_example(2, usize::MAX), ["r e", "a re", "i s"]);
    }

    #[test]
    fn no_token_is_as_long_as_the_limit() {
        assert_eq!(library_example(2, 3), ["r e", "i s"]);
    }

    #[test]
    fn overlapping_pairs_are_counted_as_they_merge() {
        let mut word = vec![1, 1, 1, 1, 1];
        let mut changes = vec![];
        merge(&mut word, (1, 1), 2, |_| true, |pair, sign| changes.push((pair, sign)));
        assert_eq!(word, [2, 2, 1]);
        let expected = [((1, 1), -1), ((2, 1), 1), ((2, 1), -1), ((2, 2), 1), ((1, 1), -1), ((2, 1), 1)];
        assert_eq!(changes, expected);
    }
}
