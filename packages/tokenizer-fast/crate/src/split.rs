//! The two word patterns, by hand: each function gives the end of the word at `at`, as a regular expression engine that
//! tries the alternatives in order would. Words follow one another without gaps, and each is found in one pass.

use crate::unicode::{BREAK, Classes, LETTER, NUMBER, OTHER, SPACE};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3,
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
}

/// End of the word of `text[..end]` that begins at `at`.
#[inline(always)]
pub fn word_end(pattern: Pattern, classes: &Classes, text: &[u8], at: usize, end: usize) -> usize {
    match pattern {
        Pattern::Llama3 => llama3(classes, text, at, end),
        Pattern::Gpt2 => gpt2(classes, text, at, end),
    }
}

#[inline(always)]
fn llama3(classes: &Classes, text: &[u8], at: usize, end: usize) -> usize {
    let first = text[at];
    if first == b'\'' {
        if let Some(found) = contraction(&text[at + 1..end], true) {
            return at + 1 + found;
        }
    }
    let (class, width) = classes.at(text, at);
    let next = at + width;
    if class == LETTER {
        return run(classes, LETTER, text, next, end);
    }
    if class == NUMBER {
        return numbers(classes, text, next, end, 2);
    }
    let (second, second_width) = if next < end { classes.at(text, next) } else { (SPACE, 0) };
    if class != BREAK && second == LETTER {
        return run(classes, LETTER, text, next + second_width, end);
    }
    if class == OTHER || (first == b' ' && second == OTHER) {
        let mut stop = run(classes, OTHER, text, next, end);
        while stop < end && (text[stop] == b'\r' || text[stop] == b'\n') {
            stop += 1;
        }
        return stop;
    }
    spaces(classes, text, at, end, true)
}

fn gpt2(classes: &Classes, text: &[u8], at: usize, end: usize) -> usize {
    let first = text[at];
    if first == b'\'' {
        if let Some(found) = contraction(&text[at + 1..end], false) {
            return at + 1 + found;
        }
    }
    let (mut class, width) = classes.at(text, at);
    let mut next = at + width;
    if first == b' ' && next < end {
        let (second, second_width) = classes.at(text, next);
        if second != SPACE && second != BREAK {
            class = second;
            next += second_width;
        }
    }
    if class == SPACE || class == BREAK {
        return spaces(classes, text, at, end, false);
    }
    run(classes, class, text, next, end)
}

/// End of the characters of `class` from `at` on.
#[inline(always)]
fn run(classes: &Classes, class: u8, text: &[u8], mut at: usize, end: usize) -> usize {
    while at < end {
        let (found, width) = classes.at(text, at);
        if found != class {
            break;
        }
        at += width;
    }
    at
}

/// End of at most `most` numbers from `at` on.
fn numbers(classes: &Classes, text: &[u8], mut at: usize, end: usize, most: usize) -> usize {
    for _ in 0..most {
        if at >= end {
            break;
        }
        let (class, width) = classes.at(text, at);
        if class != NUMBER {
            break;
        }
        at += width;
    }
    at
}

/// `\s*[\r\n]+` (only with `breaks`), `\s+(?!\S)`, `\s+`: up to the last line break; else all to the end of the text; else
/// all but the last, which is left to the word behind; else the only one.
fn spaces(classes: &Classes, text: &[u8], start: usize, end: usize, breaks: bool) -> usize {
    let (mut at, mut last, mut behind_break) = (start, start, None);
    while at < end {
        let (class, width) = classes.at(text, at);
        if class != SPACE && class != BREAK {
            break;
        }
        last = at;
        at += width;
        if class == BREAK {
            behind_break = Some(at);
        }
    }
    match behind_break {
        Some(stop) if breaks => stop,
        _ if at == end || last == start => at,
        _ => last,
    }
}

/// Bytes of s, t, re, ve, m, ll or d at the beginning of `text`, if it begins so. Folded as Unicode does: s is also U+017F
/// (long s), no other of these letters has such a relative.
fn contraction(text: &[u8], fold: bool) -> Option<usize> {
    let letter = |index: usize| {
        let byte = *text.get(index)?;
        Some(if fold { byte.to_ascii_lowercase() } else { byte })
    };
    match (letter(0)?, letter(1)) {
        (b's' | b't' | b'm' | b'd', _) => Some(1),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(2),
        (0xc5, Some(0xbf)) if fold => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The patterns' alternatives one after the other, on characters, with backtracking written out.
    fn by_the_pattern(pattern: Pattern, classes: &Classes, text: &[char]) -> usize {
        let class = |at: usize| text.get(at).map(|&character| classes.of(character as u32));
        let many = |mut at: usize, wanted: &dyn Fn(u8) -> bool| {
            while class(at).is_some_and(wanted) {
                at += 1;
            }
            at
        };
        let is_space = |class: u8| class == SPACE || class == BREAK;
        let space = text[0] == ' ';
        for short in ["s", "t", "re", "ve", "m", "ll", "d"] {
            let count = short.len();
            if text[0] != '\'' || text.len() <= count {
                continue;
            }
            let found: String = text[1..=count].iter().collect();
            let folded = found.replace('\u{17f}', "s").to_ascii_lowercase();
            if found == short || (pattern == Pattern::Llama3 && folded == short) {
                return 1 + count;
            }
        }
        let mut ends = vec![];
        let other = |class: u8| class == OTHER;
        if pattern == Pattern::Llama3 {
            let optional = class(0).is_some_and(|class| ![BREAK, LETTER, NUMBER].contains(&class)) as usize;
            for skip in [optional, 0] {
                ends.push((many(skip, &|class| class == LETTER), skip));
            }
            ends.push((many(0, &|class| class == NUMBER).min(3), 0));
            for skip in [space as usize, 0] {
                let end = many(skip, &other);
                let mut behind = end;
                while text.get(behind).is_some_and(|&character| "\r\n".contains(character)) {
                    behind += 1;
                }
                ends.push((if end > skip { behind } else { 0 }, skip));
            }
        } else {
            for wanted in [LETTER, NUMBER, OTHER] {
                for skip in [space as usize, 0] {
                    ends.push((many(skip, &|class| class == wanted), skip));
                }
            }
        }
        if let Some((end, _)) = ends.into_iter().find(|(end, skip)| end > skip) {
            return end;
        }
        let all = many(0, &is_space);
        if pattern == Pattern::Llama3 {
            if let Some(last) = (0..all).rev().find(|&at| class(at) == Some(BREAK)) {
                return last + 1;
            }
        }
        (1..=all).rev().find(|&stop| class(stop).is_none_or(is_space)).unwrap_or(all)
    }

    #[test]
    fn words_are_those_of_the_patterns() {
        let classes = Classes::new();
        let characters: Vec<char> =
            "aZsStTrReEvVmMlLdD'' \t\n\r  09.,!<|\u{17f}\u{212a}é中ⅷ½٣\u{85}\u{a0}\u{3000}\u{feff}\u{300}😀\u{10ffff}\0"
                .chars()
                .collect();
        let mut random = Random::new(1);
        for _ in 0..200_000 {
            let text: Vec<char> = (0..1 + random.below(12)).map(|_| characters[random.below(characters.len())]).collect();
            let bytes: Vec<u8> = text.iter().collect::<String>().into_bytes();
            for pattern in [Pattern::Llama3, Pattern::Gpt2] {
                let (mut at, mut byte) = (0, 0);
                while at < text.len() {
                    let count = by_the_pattern(pattern, &classes, &text[at..]);
                    let width: usize = text[at..at + count].iter().map(|character| character.len_utf8()).sum();
                    let end = word_end(pattern, &classes, &bytes, byte, bytes.len());
                    assert_eq!(end, byte + width, "{pattern:?} {text:?} at {at}");
                    at += count;
                    byte = end;
                }
            }
        }
    }

    #[test]
    fn a_word_ends_where_the_text_does() {
        let classes = Classes::new();
        assert_eq!(word_end(Pattern::Llama3, &classes, b"  x", 0, 2), 2);
        assert_eq!(word_end(Pattern::Llama3, &classes, b"'s", 0, 1), 1);
        assert_eq!(word_end(Pattern::Llama3, &classes, b" x", 0, 1), 1);
    }
}
