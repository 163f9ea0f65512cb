//! Special strings in a text: the leftmost, and of those the longest, as the Rust library finds them.

#[derive(Default)]
struct Node {
    children: Vec<(u8, u32)>,
    id: Option<u32>,
}

/// A tree of the special strings, byte by byte.
pub struct Specials {
    nodes: Vec<Node>,
    /// Whether a special string begins with the byte.
    first: [bool; 256],
}

impl Specials {
    pub fn new() -> Specials {
        Specials { nodes: vec![Node::default()], first: [false; 256] }
    }

    /// `content` is not empty.
    pub fn insert(&mut self, content: &[u8], id: u32) {
        self.first[content[0] as usize] = true;
        let mut node = 0;
        for &byte in content {
            node = self.child(node, byte).unwrap_or_else(|| {
                let new = self.nodes.len();
                self.nodes.push(Node::default());
                self.nodes[node].children.push((byte, new as u32));
                new
            });
        }
        self.nodes[node].id = Some(id);
    }

    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let found = self.nodes[node].children.iter().find(|child| child.0 == byte)?;
        Some(found.1 as usize)
    }

    /// Begin, end and id of the first special string in text[at..end].
    pub fn find(&self, text: &[u8], at: usize, end: usize) -> Option<(usize, usize, u32)> {
        (at..end).filter(|&start| self.first[text[start] as usize]).find_map(|start| {
            let (mut node, mut longest) = (0, None);
            for stop in start..end {
                let Some(child) = self.child(node, text[stop]) else { break };
                node = child;
                if let Some(id) = self.nodes[node].id {
                    longest = Some((start, stop + 1, id));
                }
            }
            longest
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leftmost_and_then_the_longest() {
        let mut specials = Specials::new();
        for (id, content) in ["<think>", "<think>>", "hink", "b<"].iter().enumerate() {
            specials.insert(content.as_bytes(), id as u32);
        }
        let find = |text: &str| specials.find(text.as_bytes(), 0, text.len());
        assert_eq!(find("a <think>> b"), Some((2, 10, 1)));
        assert_eq!(find("a <think> b"), Some((2, 9, 0)));
        assert_eq!(find("<<thinker"), Some((3, 7, 2)));
        assert_eq!(find("b<think>"), Some((0, 2, 3)));
        assert_eq!(find("<thin"), None);
        assert_eq!(specials.find(b"<think>", 0, 6), Some((2, 6, 2)));
    }
}
