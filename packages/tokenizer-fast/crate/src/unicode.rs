//! What a character is to a word pattern: letter, number, white space, line break or none of these.

use crate::unicode_tables::{LETTERS, NUMBERS};

pub const OTHER: u8 = 0;
pub const LETTER: u8 = 1;
pub const NUMBER: u8 = 2;
/// White_Space but the two line breaks. JavaScript's \s also has U+FEFF and lacks U+0085.
pub const SPACE: u8 = 3;
/// \r and \n, which the patterns name beside \s.
pub const BREAK: u8 = 4;

const SPACES: [(u32, u32); 9] = [
    (0x09, 0x0d),
    (0x20, 0x20),
    (0x85, 0x85),
    (0xa0, 0xa0),
    (0x1680, 0x1680),
    (0x2000, 0x200a),
    (0x2028, 0x2029),
    (0x202f, 0x202f),
    (0x205f, 0x205f),
];
const IDEOGRAPHIC_SPACE: u32 = 0x3000;
const CODE_POINTS: u32 = 0x110000;

/// The class of every code point, in pages of 256 that are kept once each.
pub struct Classes {
    ascii: [u8; 128],
    page_of: Vec<u16>,
    pages: Vec<[u8; 256]>,
}

impl Classes {
    pub fn new() -> Classes {
        let mut classes = vec![OTHER; CODE_POINTS as usize];
        for (table, class) in [(LETTERS, LETTER), (NUMBERS, NUMBER)] {
            for (first, last) in ranges(table) {
                classes[first as usize..=last as usize].fill(class);
            }
        }
        for (first, last) in SPACES {
            classes[first as usize..=last as usize].fill(SPACE);
        }
        classes[IDEOGRAPHIC_SPACE as usize] = SPACE;
        classes[b'\r' as usize] = BREAK;
        classes[b'\n' as usize] = BREAK;

        let mut pages: Vec<[u8; 256]> = Vec::new();
        let page_of = classes
            .chunks_exact(256)
            .map(|chunk| {
                let known = pages.iter().position(|page| page == chunk);
                known.unwrap_or_else(|| {
                    pages.push(chunk.try_into().unwrap());
                    pages.len() - 1
                }) as u16
            })
            .collect();
        let mut ascii = [OTHER; 128];
        ascii.copy_from_slice(&classes[..128]);
        Classes { ascii, page_of, pages }
    }

    /// The class of a code point; of what is none, OTHER.
    pub fn of(&self, code: u32) -> u8 {
        match self.page_of.get((code >> 8) as usize) {
            Some(&page) => self.pages[page as usize][(code & 255) as usize],
            None => OTHER,
        }
    }

    /// Class and width in bytes of the character at `at`. The text is well-formed UTF-8 from there on.
    #[inline(always)]
    pub fn at(&self, text: &[u8], at: usize) -> (u8, usize) {
        let byte = text[at];
        if byte < 0x80 { (self.ascii[byte as usize], 1) } else { self.beyond_ascii(text, at) }
    }

    fn beyond_ascii(&self, text: &[u8], at: usize) -> (u8, usize) {
        let tail = |index: usize| (text[at + index] & 0x3f) as u32;
        let byte = text[at] as u32;
        match byte {
            0xf0.. => (self.of((byte & 7) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3)), 4),
            0xe0.. => (self.of((byte & 15) << 12 | tail(1) << 6 | tail(2)), 3),
            _ => (self.of((byte & 31) << 6 | tail(1)), 2),
        }
    }
}

/// First and last code point of each range of a table.
fn ranges(table: &str) -> impl Iterator<Item = (u32, u32)> {
    let number = |digits: &str| u32::from_str_radix(digits, 36).unwrap();
    let mut end = 0;
    table.split(' ').map(move |range| {
        let (gap, more) = range.split_once(':').unwrap_or((range, "0"));
        let first = end + number(gap);
        end = first + number(more);
        (first, end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_that_of_the_standard_library() {
        let classes = Classes::new();
        for character in '\0'..=char::MAX {
            let class = classes.of(character as u32);
            assert_eq!(character.is_whitespace(), class == SPACE || class == BREAK, "{character:?}");
        }
    }

    #[test]
    fn classes_are_the_same_in_utf8() {
        let classes = Classes::new();
        for character in '\0'..=char::MAX {
            let mut text = [0; 4];
            let width = character.encode_utf8(&mut text).len();
            assert_eq!(classes.at(&text, 0), (classes.of(character as u32), width), "{character:?}");
        }
    }

    #[test]
    fn letters_and_numbers_of_unicode_16() {
        let classes = Classes::new();
        let count = |class| (0..CODE_POINTS).filter(|&code| classes.of(code) == class).count();
        // DerivedGeneralCategory-16.0.0.txt: the totals of Lu, Ll, Lt, Lm, Lo, and of Nd, Nl, No.
        assert_eq!(count(LETTER), 1858 + 2258 + 31 + 404 + 136_477);
        assert_eq!(count(NUMBER), 760 + 236 + 915);
    }
}
