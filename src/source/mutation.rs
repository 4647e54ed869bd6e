//! Files as a broken disk, a hurried editor or a newer kernel may leave them; for tests only.

use proptest::collection::vec;
use proptest::prelude::*;

/// What becomes of a text at one place.
#[derive(Clone, Debug)]
enum Change {
    Cut,
    Flip(u8),
    Insert(&'static str),
    /// Puts this in place of the number, or word, that stands there.
    Replace(&'static str),
    /// Takes this many bytes away.
    Remove(usize),
}

const PIECES: [&str; 20] = [
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "1e400",
    "-1",
    "NaN",
    "0",
    "",
    " ",
    "\n",
    "\n\n\n",
    "\t",
    "\0",
    "\u{fffd}ß€",
    "%",
    "\"'\\",
    "[[]]",
    "{}()",
    "=:",
    "a-very-long-word-a-very-long-word-a-very-long-word-a-very-long-word-a-very-long-word-a-very-long-word",
];

/// The text with up to four changes, anywhere.
pub(crate) fn mutated(text: impl Into<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let text = text.into();
    let piece = || proptest::sample::select(&PIECES[..]);
    let change = prop_oneof![
        1 => Just(Change::Cut),
        3 => any::<u8>().prop_map(Change::Flip),
        3 => piece().prop_map(Change::Insert),
        6 => piece().prop_map(Change::Replace),
        2 => (1_usize..40).prop_map(Change::Remove),
    ];
    vec((any::<proptest::sample::Index>(), change), 0..5).prop_map(move |changes| {
        let mut bytes = text.clone();
        for (index, change) in changes {
            let at = index.index(bytes.len() + 1);
            apply(&mut bytes, at, &change);
        }
        bytes
    })
}

fn apply(bytes: &mut Vec<u8>, at: usize, change: &Change) {
    let is_word = |byte: &&u8| byte.is_ascii_alphanumeric();
    let (start, end) = match change {
        Change::Cut => return bytes.truncate(at),
        Change::Flip(mask) => return bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask),
        Change::Insert(_) => (at, at),
        Change::Replace(_) => {
            let before = bytes[..at].iter().rev().take_while(is_word).count();
            let after = bytes[at..].iter().take_while(is_word).count();
            (at - before, at + after)
        }
        Change::Remove(count) => (at, bytes.len().min(at + count)),
    };
    let new = match change {
        Change::Insert(piece) | Change::Replace(piece) => piece.bytes(),
        _ => "".bytes(),
    };
    bytes.splice(start..end, new);
}
