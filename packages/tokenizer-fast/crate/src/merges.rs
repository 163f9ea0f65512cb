//! The merges of a vocabulary by their pair, and the merging of one word: always the pair of the lowest rank, of equal ones the
//! leftmost, until no pair of neighbours is left that merges.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

const EMPTY: u64 = u64::MAX;
const NO_RANK: u32 = u32::MAX;
/// From this many bytes on a heap finds the next pair; below, a look at all of them is faster.
const LONG: usize = 48;

#[derive(Clone, Copy)]
struct Slot {
    pair: u64,
    rank: u32,
    merged: u32,
}

/// An open hash table from a pair of ids to rank and id of what they merge to.
pub struct Merges {
    slots: Vec<Slot>,
    shift: u32,
}

const NOTHING: Slot = Slot { pair: EMPTY, rank: NO_RANK, merged: 0 };

impl Merges {
    pub fn with_capacity(count: usize) -> Merges {
        let size = (count * 2).next_power_of_two().max(2);
        Merges { slots: vec![NOTHING; size], shift: 64 - size.trailing_zeros() }
    }

    /// The pair is not in the table yet, and the table is not fuller than it was made for.
    pub fn insert(&mut self, left: u32, right: u32, rank: u32, merged: u32) {
        let pair = pair(left, right);
        let mut at = self.place(pair);
        while self.slots[at].pair != EMPTY {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = Slot { pair, rank, merged };
    }

    /// Rank and merged id, the rank NO_RANK when the two do not merge.
    #[inline(always)]
    fn find(&self, left: u32, right: u32) -> (u32, u32) {
        let pair = pair(left, right);
        let mut at = self.place(pair);
        loop {
            let slot = self.slots[at];
            if slot.pair == pair || slot.pair == EMPTY {
                return (slot.rank, slot.merged);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    #[inline(always)]
    fn place(&self, pair: u64) -> usize {
        (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
}

#[inline(always)]
fn pair(left: u32, right: u32) -> u64 {
    (left as u64) << 32 | right as u64
}

/// Room for merging, used again for every word.
#[derive(Default)]
pub struct Merger {
    /// Rank and merged id of each symbol with its right neighbour.
    pairs: Vec<(u32, u32)>,
    /// The symbols beside each one, for long words.
    left: Vec<u32>,
    right: Vec<u32>,
    heap: BinaryHeap<Reverse<u64>>,
}

impl Merger {
    /// Merge the symbols from `start` to the end of `ids` in place.
    pub fn merge(&mut self, merges: &Merges, ids: &mut Vec<u32>, start: usize) {
        let count = ids.len() - start;
        if count < 2 {
            return;
        }
        let symbols = &mut ids[start..];
        self.pairs.clear();
        self.pairs.extend(symbols.windows(2).map(|two| merges.find(two[0], two[1])));
        let left = if count < LONG { self.merge_short(merges, symbols) } else { self.merge_long(merges, symbols) };
        ids.truncate(start + left);
    }

    /// How many symbols are left at the front of `symbols`.
    fn merge_short(&mut self, merges: &Merges, symbols: &mut [u32]) -> usize {
        let mut count = symbols.len();
        loop {
            let (mut best, mut at) = (NO_RANK, 0);
            for (index, &(rank, _)) in self.pairs[..count - 1].iter().enumerate() {
                if rank < best {
                    (best, at) = (rank, index);
                }
            }
            if best == NO_RANK {
                return count;
            }
            symbols[at] = self.pairs[at].1;
            symbols.copy_within(at + 2..count, at + 1);
            self.pairs.copy_within(at + 1..count - 1, at);
            count -= 1;
            if at > 0 {
                self.pairs[at - 1] = merges.find(symbols[at - 1], symbols[at]);
            }
            if at + 1 < count {
                self.pairs[at] = merges.find(symbols[at], symbols[at + 1]);
            }
            if count == 1 {
                return 1;
            }
        }
    }

    /// The same by a linked list and a heap: time in proportion to n log n.
    fn merge_long(&mut self, merges: &Merges, symbols: &mut [u32]) -> usize {
        let count = symbols.len();
        self.left.clear();
        self.left.extend((0..count as u32).map(|index| index.wrapping_sub(1)));
        self.right.clear();
        self.right.extend(1..=count as u32);
        self.pairs.push((NO_RANK, 0));
        let waiting = self.pairs.iter().enumerate().filter(|(_, pair)| pair.0 != NO_RANK);
        self.heap.extend(waiting.map(|(index, pair)| Reverse((pair.0 as u64) << 32 | index as u64)));

        while let Some(Reverse(next)) = self.heap.pop() {
            let at = next as u32 as usize;
            // Another merge has changed the pair since: its entry, if it has one, comes by itself.
            if self.pairs[at].0 != (next >> 32) as u32 {
                continue;
            }
            symbols[at] = self.pairs[at].1;
            let taken = self.right[at] as usize;
            let behind = self.right[taken] as usize;
            self.pairs[taken].0 = NO_RANK;
            self.right[at] = behind as u32;
            self.pairs[at] = (NO_RANK, 0);
            if behind < count {
                self.left[behind] = at as u32;
                self.set(merges, symbols, at, behind);
            }
            let before = self.left[at] as usize;
            if before < count {
                self.set(merges, symbols, before, at);
            }
        }

        let (mut at, mut kept) = (0, 0);
        while at < count {
            symbols[kept] = symbols[at];
            kept += 1;
            at = self.right[at] as usize;
        }
        kept
    }

    fn set(&mut self, merges: &Merges, symbols: &[u32], at: usize, next: usize) {
        let pair = merges.find(symbols[at], symbols[next]);
        self.pairs[at] = pair;
        if pair.0 != NO_RANK {
            self.heap.push(Reverse((pair.0 as u64) << 32 | at as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Merge by looking for the best pair again and again, in the list of merges.
    fn naive(list: &[(u32, u32, u32)], mut symbols: Vec<u32>) -> Vec<u32> {
        loop {
            let best = list.iter().find_map(|&(left, right, merged)| {
                let at = symbols.windows(2).position(|two| two == [left, right])?;
                Some((at, merged))
            });
            let Some((at, merged)) = best else { return symbols };
            symbols.splice(at..at + 2, [merged]);
        }
    }

    #[test]
    fn short_and_long_words_merge_as_the_definition_says() {
        let mut random = Random::new(2);
        for round in 0..3000 {
            // A small alphabet, and merges of what there is so far: also several ways to one token.
            let mut list: Vec<(u32, u32, u32)> = vec![];
            let mut spelling: Vec<Vec<u32>> = (0..3).map(|letter| vec![letter]).collect();
            for _ in 0..random.below(30) {
                let (left, right) = (random.below(spelling.len()), random.below(spelling.len()));
                if list.iter().any(|&(a, b, _)| (a, b) == (left as u32, right as u32)) {
                    continue;
                }
                let joined = [&spelling[left][..], &spelling[right][..]].concat();
                let known = spelling.iter().position(|other| *other == joined);
                let merged = known.unwrap_or_else(|| {
                    spelling.push(joined);
                    spelling.len() - 1
                });
                list.push((left as u32, right as u32, merged as u32));
            }
            let mut merges = Merges::with_capacity(list.len());
            for (rank, &(left, right, merged)) in list.iter().enumerate() {
                merges.insert(left, right, rank as u32, merged);
            }
            let word: Vec<u32> =
                (0..random.below(if round % 2 == 0 { 20 } else { 200 })).map(|_| random.below(3) as u32).collect();
            let mut ids = vec![99];
            ids.extend(&word);
            Merger::default().merge(&merges, &mut ids, 1);
            assert_eq!(ids[1..], naive(&list, word), "{list:?}");
        }
    }

    #[test]
    fn a_long_word_takes_time_in_proportion() {
        // Runs of one letter: the worst case for a search of the whole word at each of its merges.
        let mut merges = Merges::with_capacity(20);
        for rank in 0..20 {
            merges.insert(rank, rank, rank, rank + 1);
        }
        let mut ids = vec![0; 1 << 20];
        Merger::default().merge(&merges, &mut ids, 0);
        assert_eq!(ids, [20]);
    }
}
