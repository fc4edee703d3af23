//! Maps as they cross the boundary: `u32` count, the lengths of all keys and values, then each followed by a NUL.

/// Beyond which nothing is read, as in the reference host.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_PAIRS: usize = 1024;

/// Writes a map. `pairs` is asked twice and must say the same both times.
pub(crate) fn write<'a, I: Iterator<Item = (&'a [u8], &'a [u8])>>(out: &mut Vec<u8>, pairs: impl Fn() -> I) {
    out.clear();
    push(out, pairs().count());
    for (key, value) in pairs() {
        push(out, key.len());
        push(out, value.len());
    }
    for (key, value) in pairs() {
        out.extend_from_slice(key);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
}

fn push(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

/// Reads a map; what is malformed, too large or too long is an empty one, as in the reference host.
pub(crate) fn read(bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
    parse(bytes).unwrap_or_default()
}

fn parse(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let count = number(bytes, 0)?;
    if count > MAX_PAIRS {
        return None;
    }
    let mut at = 4 + count * 8;
    let mut pairs = Vec::with_capacity(count);
    for pair in 0..count {
        let key = part(bytes, &mut at, number(bytes, 4 + pair * 8)?)?;
        let value = part(bytes, &mut at, number(bytes, 8 + pair * 8)?)?;
        pairs.push((key, value));
    }
    (at == bytes.len()).then_some(pairs)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

fn part<'a>(bytes: &'a [u8], at: &mut usize, length: usize) -> Option<&'a [u8]> {
    let end = at.checked_add(length)?;
    let part = bytes.get(*at..end)?;
    (*bytes.get(end)? == 0).then_some(())?;
    *at = end + 1;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs: Vec<(Vec<u8>, Vec<u8>)>) {
            let mut bytes = Vec::new();
            let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(k, v)| (&**k, &**v)).collect();
            write(&mut bytes, || pairs.iter().copied());
            prop_assert_eq!(read(&bytes), pairs);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            read(&bytes);
        }
    }

    #[test]
    fn a_missing_nul_trailing_bytes_and_lying_lengths_make_an_empty_map() {
        let mut bytes = Vec::new();
        write(&mut bytes, || [(&b"k"[..], &b"v"[..])].into_iter());
        assert_eq!(read(&bytes).len(), 1);
        let mut cut = bytes.clone();
        cut.pop();
        assert!(read(&cut).is_empty());
        let mut more = bytes.clone();
        more.push(0);
        assert!(read(&more).is_empty());
        bytes[4] = 255;
        assert!(read(&bytes).is_empty());
        assert!(read(&[]).is_empty());
        assert!(read(&u32::MAX.to_le_bytes()).is_empty());
    }
}
