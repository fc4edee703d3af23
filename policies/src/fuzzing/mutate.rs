//! Small changes to bytes, as a fuzzer without coverage makes them: most of what it makes is still nearly right.

/// What parsers trip over.
const PIECES: [&[u8]; 20] = [
    b"%2e%2e",
    b"%2f",
    b"%5c",
    b"..",
    b"//",
    b"*",
    b";",
    b"=",
    b"\"",
    b"\n",
    b"\r\n",
    b"\0",
    b"-----",
    b": ",
    b"- ",
    b"[",
    b"{",
    b"99999",
    b"\xff",
    b"\xc3\xa9",
];

/// `bytes` with one to four changes; `other` is where a part may be taken from.
pub fn mutate(bytes: &[u8], other: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.usize(1..=4) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            2 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => insert(&mut bytes, at, PIECES[rng.usize(..PIECES.len())]),
            5 => {
                let end = rng.usize(at..=bytes.len().min(at + 40));
                let part = bytes[at..end].to_vec();
                insert(&mut bytes, at, &part);
            }
            _ => {
                let from = rng.usize(..=other.len());
                let part = &other[from..rng.usize(from..=other.len().min(from + 200))];
                insert(&mut bytes, at, part);
            }
        }
    }
    bytes
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}
