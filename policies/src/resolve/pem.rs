//! PEM (RFC 7468) as far as it can be judged without cryptography.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One block: its label, and what its base64 stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) label: String,
    pub(super) body: Vec<u8>,
}

/// The blocks in `bytes`. Text around them is explanation.
///
/// # Errors
/// What is wrong, in words that follow "that".
pub(super) fn blocks(bytes: &[u8]) -> Result<Vec<Block>, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not text")?;
    let (mut blocks, mut open) = (Vec::new(), None::<(String, String)>);
    for line in text.lines().map(str::trim) {
        let boundary = |word: &str| line.strip_prefix(word)?.strip_suffix("-----").map(str::to_owned);
        match (&mut open, boundary("-----BEGIN "), boundary("-----END ")) {
            (None, Some(label), _) => open = Some((label, String::new())),
            (Some((label, body)), None, Some(end)) if *label == end => {
                let body = STANDARD.decode(&*body).map_err(|_| "has a PEM block that is not base64")?;
                blocks.push(Block { label: end, body });
                open = None;
            }
            (_, Some(_), _) | (_, _, Some(_)) => return Err("has a PEM block without its other end"),
            (Some((_, body)), None, None) => body.push_str(line),
            (None, None, None) => {}
        }
    }
    if open.is_some() { Err("has a PEM block without its other end") } else { Ok(blocks) }
}

/// A bundle of CA certificates.
///
/// # Errors
/// What is wrong, in words that follow "that".
pub(super) fn check_bundle(bytes: &[u8]) -> Result<(), &'static str> {
    let blocks = blocks(bytes)?;
    if blocks.is_empty() {
        return Err("holds no PEM certificate");
    }
    match blocks.iter().all(|block| block.label == "CERTIFICATE" && is_certificate(&block.body)) {
        true => Ok(()),
        false => Err("holds something else than PEM certificates"),
    }
}

/// The outermost shape of an X.509 certificate in DER: a sequence that begins with a sequence, and nothing after it.
fn is_certificate(der: &[u8]) -> bool {
    sequence(der).is_some_and(|(inner, rest)| rest.is_empty() && sequence(inner).is_some())
}

/// What is in a DER sequence, and what follows it (X.690, 8.9 and 10.1).
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (tag == SEQUENCE).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &str = "text before\n-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n";

    fn labels(bytes: &[u8]) -> Result<Vec<String>, &'static str> {
        blocks(bytes).map(|blocks| blocks.into_iter().map(|block| block.label).collect())
    }

    #[test]
    fn pem_is_read_block_by_block_with_text_around() {
        assert_eq!(labels(CHAIN.as_bytes()), Ok(vec![String::from("CERTIFICATE")]));
        let two = format!("{CHAIN}\r\n{CHAIN}");
        assert_eq!(labels(two.as_bytes()).map(|labels| labels.len()), Ok(2));
        assert_eq!(labels(b""), Ok(Vec::new()));
    }

    #[test]
    fn pem_that_is_cut_or_not_base64_is_told_apart() {
        assert_eq!(labels(&CHAIN.as_bytes()[..60]), Err("has a PEM block without its other end"));
        assert_eq!(labels(b"-----END CERTIFICATE-----"), Err("has a PEM block without its other end"));
        let odd = CHAIN.replace("BBBB", "B?BB");
        assert_eq!(labels(odd.as_bytes()), Err("has a PEM block that is not base64"));
        assert_eq!(labels(&[0xff, 0xfe]), Err("is not text"));
    }

    fn bundle(der: &[u8]) -> Result<(), &'static str> {
        let body = STANDARD.encode(der);
        check_bundle(format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n").as_bytes())
    }

    #[test]
    fn a_bundle_is_of_certificates_by_their_outermost_shape_and_nothing_else() {
        assert_eq!(bundle(&[0x30, 2, 0x30, 0]), Ok(()));
        let long = [&[0x30, 0x82, 1, 4, 0x30, 0x82, 1, 0][..], &[0; 256]].concat();
        assert_eq!(bundle(&long), Ok(()));
        let other = Err("holds something else than PEM certificates");
        for der in
            [&long[..259], &[0x30, 2, 0x30, 0, 0], &[0x31, 2, 0x30, 0], &[0x30, 0x80], &[0x30], &[1, 2, 3]]
        {
            assert_eq!(bundle(der), other, "{der:?}");
        }
        assert_eq!(check_bundle(b""), Err("holds no PEM certificate"));
        let key = b"-----BEGIN PRIVATE KEY-----\nMAIwAA==\n-----END PRIVATE KEY-----\n";
        assert_eq!(check_bundle(key), other);
    }
}
