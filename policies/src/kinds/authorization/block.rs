//! Blocks of addresses in CIDR notation (RFC 4632, RFC 4291 section 2.3).

use std::net::IpAddr;

/// One of them; an IPv4-mapped address counts as the IPv4 address that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// As the lowest bits.
    network: u128,
    v4: bool,
    /// Bits that are whoever's in the block.
    free: u32,
}

impl Block {
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (ip, length) = text.split_once('/').map_or((text, None), |(ip, length)| (ip, Some(length)));
        let fix = "write an address, or a block of them such as 10.0.0.0/8 or 2001:db8::/32";
        let ip: IpAddr = ip.parse().map_err(|_| format!("`{text}` is no block of addresses: {fix}"))?;
        let (bits, v4) = number(ip);
        if ip.is_ipv6() && v4 {
            return Err(format!("`{text}` is an IPv4 address in IPv6: write it as {}", ip.to_canonical()));
        }
        let most = if v4 { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|length| *length <= most && !digits.starts_with('+'))
                .ok_or_else(|| format!("`/{digits}` is no length of a block: write 0 to {most}"))?,
        };
        let block = Self { network: bits, v4, free: most - length };
        let network = block.cut(bits);
        if network != bits {
            let first = block.address(network);
            return Err(format!("`{text}` has bits beyond its first {length}: write {first}/{length}"));
        }
        Ok(block)
    }

    pub(super) fn contains(self, ip: IpAddr) -> bool {
        let (bits, v4) = number(ip);
        v4 == self.v4 && self.cut(bits) == self.network
    }

    fn cut(self, bits: u128) -> u128 {
        bits.checked_shr(self.free).and_then(|kept| kept.checked_shl(self.free)).unwrap_or(0)
    }

    fn address(self, bits: u128) -> IpAddr {
        match u32::try_from(bits) {
            Ok(bits) if self.v4 => IpAddr::V4(bits.into()),
            _ => IpAddr::V6(bits.into()),
        }
    }
}

fn number(ip: IpAddr) -> (u128, bool) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (ip.to_bits().into(), true),
        IpAddr::V6(ip) => (ip.to_bits(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_begins_with_its_bits_and_nothing_of_the_other_family() {
        let holds = |block: &str, ip: &str| Block::parse(block).unwrap().contains(ip.parse().unwrap());
        for (block, ip, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "1.2.3.4", false),
            ("1.2.3.4", "1.2.3.4", true),
            ("1.2.3.4/32", "1.2.3.5", false),
            ("1.2.3.4/31", "1.2.3.5", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::1/128", "::1", true),
        ] {
            assert_eq!(holds(block, ip), want, "{ip} in {block}");
        }
    }

    #[test]
    fn what_is_no_block_is_told_with_what_would_be_right() {
        for (text, want) in [
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("10.0.0.0/33", "write 0 to 32"),
            ("::/129", "write 0 to 128"),
            ("10.0.0.0/+8", "no length"),
            ("10.0.0.0/", "no length"),
            ("10.0.0/8", "no block"),
            ("example.com", "no block"),
            ("::ffff:10.0.0.0/104", "IPv4 address in IPv6"),
        ] {
            let why = Block::parse(text).unwrap_err();
            assert!(why.contains(want), "{text}: {why}");
        }
    }
}
