//! What WebAssembly exports: plain functions over numbers and buffers in memory. The caller writes into the input buffers, calls,
//! and reads the output buffers before the next call. One instance serves one tokenizer or one training.
//!
//! `texts`: UTF-8, one text behind the other, in the bytes; in the words, the length of each.

use std::cell::UnsafeCell;

use crate::split::Pattern;
use crate::tokenizer::{Parts, Tokenizer};
use crate::train::{Counts, Options, train};
use crate::words::{SHORT, Tokens};

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    words: Vec<u32>,
    /// Where and how long the results are, for the caller to read: ids or numbers, ends, bytes.
    results: [u32; 6],
    ids: Vec<u32>,
    ends: Vec<u32>,
    text: Vec<u8>,
    tokenizer: Option<Tokenizer>,
    counts: Option<Counts>,
}

struct Global(UnsafeCell<Option<State>>);

// SAFETY: WebAssembly without shared memory has one thread, and no export calls back out.
unsafe impl Sync for Global {}

static STATE: Global = Global(UnsafeCell::new(None));

fn state() -> &'static mut State {
    // SAFETY: as above; each export takes the state once and gives it back before it returns.
    unsafe { &mut *STATE.0.get() }.get_or_insert_default()
}

impl State {
    fn publish(&mut self) -> *const u32 {
        let (ids, ends, text) = (&self.ids, &self.ends, &self.text);
        self.results = [
            ids.as_ptr() as usize as u32,
            ids.len() as u32,
            ends.as_ptr() as usize as u32,
            ends.len() as u32,
            text.as_ptr() as usize as u32,
            text.len() as u32,
        ];
        self.results.as_ptr()
    }
}

fn pattern(number: u32) -> Pattern {
    if number == 0 { Pattern::Llama3 } else { Pattern::Gpt2 }
}

/// Room for `length` bytes of input; what was written before stays.
#[unsafe(no_mangle)]
pub extern "C" fn reserve_bytes(length: usize) -> *mut u8 {
    let bytes = &mut state().bytes;
    // Words are read 16 bytes at a time, also the last one.
    bytes.resize(length + SHORT, 0);
    bytes.as_mut_ptr()
}

/// Room for `length` numbers of input.
#[unsafe(no_mangle)]
pub extern "C" fn reserve_words(length: usize) -> *mut u32 {
    let words = &mut state().words;
    words.resize(length, 0);
    words.as_mut_ptr()
}

/// Make the tokenizer. The words: whether words that are tokens are taken whole, then seven lists, each with its length in
/// front (patterns, ids of the 256 bytes, added ids, skipped ids, prefix, suffix, merges as left, right, merged), then the
/// offsets of the tokens; the bytes: the tokens.
#[unsafe(no_mangle)]
pub extern "C" fn build() {
    let state = state();
    let words = std::mem::take(&mut state.words);
    let mut rest = &words[1..];
    let mut list = || {
        let (list, behind) = rest[1..].split_at(rest[0] as usize);
        rest = behind;
        list
    };
    let [patterns, byte_ids, added, skipped, prefix, suffix, merges] = std::array::from_fn(|_| list());
    let offsets = rest.to_vec();
    let mut bytes = std::mem::take(&mut state.bytes);
    bytes.truncate(*offsets.last().unwrap() as usize);
    state.tokenizer = Some(Tokenizer::new(Parts {
        tokens: Tokens { offsets, bytes },
        byte_ids: byte_ids.try_into().unwrap(),
        merges: &merges.chunks_exact(3).map(|merge| [merge[0], merge[1], merge[2]]).collect::<Vec<_>>(),
        ignore_merges: words[0] != 0,
        patterns: patterns.iter().map(|&number| pattern(number)).collect(),
        added,
        skipped,
        prefix: prefix.to_vec(),
        suffix: suffix.to_vec(),
    }));
}

/// Encode the first `count` texts; `around` puts prefix and suffix around each, `special` parses special strings. The ids of
/// all texts, and where those of each one end.
#[unsafe(no_mangle)]
pub extern "C" fn encode(count: usize, around: bool, special: bool) -> *const u32 {
    let state = state();
    let tokenizer = state.tokenizer.as_mut().unwrap();
    state.ids.clear();
    state.ends.clear();
    let mut at = 0;
    for &length in &state.words[..count] {
        let end = at + length as usize;
        tokenizer.encode(&state.bytes, at, end, around, special, &mut state.ids);
        state.ends.push(state.ids.len() as u32);
        at = end;
    }
    state.publish()
}

/// The bytes of the first `count` ids in the words, which are in range.
#[unsafe(no_mangle)]
pub extern "C" fn decode(count: usize, skip_special: bool) -> *const u32 {
    let state = state();
    state.text.clear();
    state.tokenizer.as_ref().unwrap().decode(&state.words[..count], skip_special, &mut state.text);
    state.publish()
}

/// Begin to count words.
#[unsafe(no_mangle)]
pub extern "C" fn begin_counts(number: u32) {
    state().counts = Some(Counts::new(pattern(number)));
}

/// Count the words of the first `count` texts.
#[unsafe(no_mangle)]
pub extern "C" fn feed_counts(count: usize) {
    let state = state();
    let counts = state.counts.as_mut().unwrap();
    let mut at = 0;
    for &length in &state.words[..count] {
        counts.feed(&state.bytes, at, at + length as usize);
        at += length as usize;
    }
}

/// Learn from what was counted. The texts: the bytes in the order of the alphabet as one of 256 bytes, then the special tokens,
/// `count` in all. The merges as pairs of ids, and the tokens: their bytes and where each ends.
#[unsafe(no_mangle)]
pub extern "C" fn learn(count: usize, size: usize, least_count: u32, length_limit: usize) -> *const u32 {
    let state = state();
    let mut rest = &state.bytes[..];
    let mut texts = state.words[..count].iter().map(|&length| {
        let (text, behind) = rest.split_at(length as usize);
        rest = behind;
        text
    });
    let alphabet = texts.next().unwrap().try_into().unwrap();
    let special: Vec<&[u8]> = texts.collect();
    let options = Options { size, least_count: least_count.into(), length_limit };
    let (vocabulary, merges) = train(state.counts.as_ref().unwrap(), &special, alphabet, &options);
    state.ids = merges.into_iter().flat_map(|(left, right)| [left, right]).collect();
    state.text.clear();
    state.ends.clear();
    for token in &vocabulary.tokens {
        state.text.extend_from_slice(token);
        state.ends.push(state.text.len() as u32);
    }
    state.publish()
}
