//! Words by their bytes: which of them are tokens, and what the last ones merged to.

/// The first 16 bytes of a word as two numbers, zeros behind its end.
pub type Key = [u64; 2];
pub const SHORT: usize = 16;

/// The key of the word at `at`, of `length` <= SHORT bytes; the text goes on for SHORT bytes at least.
#[inline(always)]
pub fn key(text: &[u8], at: usize, length: usize) -> Key {
    let bytes = &text[at..at + SHORT];
    let low = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let high = u64::from_le_bytes(bytes[8..].try_into().unwrap());
    if length >= 8 {
        let rest = 8 * (length - 8) as u32;
        [low, if rest == 64 { high } else { high & ((1 << rest) - 1) }]
    } else {
        [low & ((1 << (8 * length)) - 1), 0]
    }
}

#[inline(always)]
fn mix(key: Key) -> u64 {
    (key[0].wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ key[1]).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

const CACHE_BITS: u32 = 14;
const MOST_IDS: usize = 7;

#[derive(Clone, Copy)]
struct Entry {
    key: Key,
    /// 0: the entry is free.
    length: u16,
    count: u16,
    ids: [u32; MOST_IDS],
}

/// What short words became, each in the one place its key gives: a newer word takes the place of an older one.
pub struct Cache {
    entries: Vec<Entry>,
}

impl Cache {
    pub fn new() -> Cache {
        let free = Entry { key: [0; 2], length: 0, count: 0, ids: [0; MOST_IDS] };
        Cache { entries: vec![free; 1 << CACHE_BITS] }
    }

    #[inline(always)]
    fn place(key: Key) -> usize {
        (mix(key) >> (64 - CACHE_BITS)) as usize
    }

    /// Appends the ids of the word, if it is known.
    #[inline(always)]
    pub fn find(&self, key: Key, length: usize, ids: &mut Vec<u32>) -> bool {
        let entry = &self.entries[Cache::place(key)];
        if entry.key != key || entry.length as usize != length {
            return false;
        }
        if entry.count == 1 {
            ids.push(entry.ids[0]);
        } else {
            ids.extend_from_slice(&entry.ids[..entry.count as usize]);
        }
        true
    }

    pub fn keep(&mut self, key: Key, length: usize, ids: &[u32]) {
        if ids.len() > MOST_IDS {
            return;
        }
        let entry = &mut self.entries[Cache::place(key)];
        *entry = Entry { key, length: length as u16, count: ids.len() as u16, ids: [0; MOST_IDS] };
        entry.ids[..ids.len()].copy_from_slice(ids);
    }
}

/// All tokens: token `id` is bytes[offsets[id]..offsets[id + 1]].
pub struct Tokens {
    pub offsets: Vec<u32>,
    pub bytes: Vec<u8>,
}

impl Tokens {
    pub fn get(&self, id: u32) -> &[u8] {
        &self.bytes[self.offsets[id as usize] as usize..self.offsets[id as usize + 1] as usize]
    }

    pub fn size(&self) -> usize {
        self.offsets.len() - 1
    }
}

/// An open hash table of tokens by their bytes.
pub struct TokenIds {
    slots: Vec<u32>,
}

const FREE: u32 = u32::MAX;

impl TokenIds {
    pub fn with_capacity(count: usize) -> TokenIds {
        TokenIds { slots: vec![FREE; (count * 2).next_power_of_two().max(2)] }
    }

    /// No other token in the table has its bytes.
    pub fn insert(&mut self, tokens: &Tokens, id: u32) {
        let mut at = self.place(tokens.get(id));
        while self.slots[at] != FREE {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = id;
    }

    pub fn find(&self, tokens: &Tokens, word: &[u8]) -> Option<u32> {
        let mut at = self.place(word);
        loop {
            let id = self.slots[at];
            if id == FREE {
                return None;
            }
            if tokens.get(id) == word {
                return Some(id);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    fn place(&self, word: &[u8]) -> usize {
        let mut hash = word.len() as u64;
        for part in word.chunks(8) {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            hash = mix([hash ^ u64::from_le_bytes(bytes), hash >> 32]);
        }
        (hash >> 32) as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_the_word_and_nothing_behind_it() {
        let text: Vec<u8> = (1..=40).collect();
        for length in 1..=SHORT {
            let mut expected = [0; 16];
            expected[..length].copy_from_slice(&text[3..3 + length]);
            let found = key(&text, 3, length);
            assert_eq!([found[0].to_le_bytes(), found[1].to_le_bytes()].concat(), expected);
        }
    }

    #[test]
    fn words_that_differ_in_zeros_are_different() {
        let mut cache = Cache::new();
        let text = [b"a\0".as_slice(), &[0; SHORT]].concat();
        cache.keep(key(&text, 0, 1), 1, &[7]);
        let mut ids = vec![];
        assert!(!cache.find(key(&text, 0, 2), 2, &mut ids));
        assert!(cache.find(key(&text, 0, 1), 1, &mut ids));
        assert_eq!(ids, [7]);
    }

    #[test]
    fn tokens_are_found_by_their_bytes() {
        let words: Vec<String> = (0..5000).map(|number| "x".repeat(number % 40) + &number.to_string()).collect();
        let mut tokens = Tokens { offsets: vec![0], bytes: vec![] };
        for word in &words {
            tokens.bytes.extend(word.as_bytes());
            tokens.offsets.push(tokens.bytes.len() as u32);
        }
        let mut ids = TokenIds::with_capacity(words.len());
        (0..words.len() as u32).for_each(|id| ids.insert(&tokens, id));
        for (id, word) in words.iter().enumerate() {
            assert_eq!(ids.find(&tokens, word.as_bytes()), Some(id as u32));
        }
        assert_eq!(ids.find(&tokens, b"y"), None);
        assert_eq!(ids.find(&tokens, b""), None);
    }
}
