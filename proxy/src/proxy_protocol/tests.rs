use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_policy::model::ProxyProtocol;
use tidegate_testkit::proxy_header::{v1, v2, v2_raw};

const REST: &[u8] = b"GET / HTTP/1.1\r\n";

/// What is read, and what is left on the stream for whoever comes next.
fn read_all(bytes: &[u8]) -> (Result<Option<Addresses>, HeaderError>, usize) {
    let mut stream = bytes;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outcome = runtime.block_on(read(&mut stream));
    (outcome, stream.len())
}

fn told(header: &[u8]) -> Option<Addresses> {
    let (outcome, left) = read_all(&[header, REST].concat());
    assert_eq!(left, REST.len(), "exactly the header is taken");
    outcome.unwrap()
}

fn refused(header: &[u8]) -> String {
    read_all(&[header, REST].concat()).0.unwrap_err().to_string()
}

fn line(text: &str) -> Vec<u8> {
    format!("{text}\r\n").into_bytes()
}

#[test]
fn both_versions_and_families_tell_source_and_destination() {
    for (source, destination) in
        [("192.0.2.1:4000", "10.96.0.7:80"), ("[2001:db8::1]:4000", "[2001:db8::7]:80")]
    {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let want = Some(Addresses { source, destination });
        assert_eq!(told(&v1(source, destination)), want);
        assert_eq!(told(&v2(source, destination, b"")), want);
    }
}

#[test]
fn an_ipv4_address_in_ipv6_is_told_as_ipv4() {
    let (source, destination) =
        ("[::ffff:192.0.2.1]:4000".parse().unwrap(), "[::ffff:10.0.0.7]:80".parse().unwrap());
    let want =
        Addresses { source: "192.0.2.1:4000".parse().unwrap(), destination: "10.0.0.7:80".parse().unwrap() };
    assert_eq!(told(&v2(source, destination, b"")), Some(want));
}

#[test]
fn who_speaks_for_itself_tells_no_address() {
    let addresses = [9; 12];
    for header in [
        v2_raw(0x20, 0x00, b""),
        v2_raw(0x20, 0x11, &addresses),
        v2_raw(0x20, 0xff, b"anything"),
        v2_raw(0x21, 0x00, b"ignored"),
        v2_raw(0x21, 0x31, &[0; 216]),
        line("PROXY UNKNOWN"),
        line("PROXY UNKNOWN ffff::1 ffff::2 65535 65535"),
    ] {
        assert_eq!(told(&header), None, "{header:x?}");
    }
}

#[test]
fn what_a_header_says_beyond_the_addresses_is_skipped_however_long() {
    let (source, destination) = ("192.0.2.1:4000".parse().unwrap(), "10.96.0.7:80".parse().unwrap());
    for length in [1, 24, 25, 10_000, 65_535 - 12] {
        let header = v2(source, destination, &vec![0xee; length]);
        assert_eq!(told(&header), Some(Addresses { source, destination }), "{length}");
    }
}

#[test]
fn what_is_no_header_is_refused_with_the_reason() {
    for (bytes, hint) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "does not begin"),
        (b"PRI * HTTP/2.0\r\n\r\nSM".to_vec(), "does not begin"),
        (b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), "does not begin"),
        (v2_raw(0x11, 0x11, &[0; 12]), "version or command"),
        (v2_raw(0x22, 0x11, &[0; 12]), "version or command"),
        (v2_raw(0x21, 0x12, &[0; 12]), "not about a TCP connection"),
        (v2_raw(0x21, 0x11, &[0; 11]), "too short"),
        (v2_raw(0x21, 0x21, &[0; 35]), "too short"),
        (line("PROXY TCP5 1.1.1.1 2.2.2.2 1 2"), "protocol"),
        (line("PROXY TCP4 1.1.1.1 2.2.2.2 1"), "addresses"),
        (line("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3"), "addresses"),
        (line("PROXY TCP4 ::1 ::2 1 2"), "addresses"),
        (line("PROXY TCP6 1.1.1.1 2.2.2.2 1 2"), "addresses"),
        (line("PROXY TCP4 1.1.1.1  2.2.2.2 1 2"), "addresses"),
        (line("PROXY TCP4 1.1.1.1 2.2.2.2 01 2"), "addresses"),
        (line("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2"), "addresses"),
        (line("PROXY TCP4 1.1.1.1 2.2.2.2 1 65536"), "addresses"),
        (line(&format!("PROXY UNKNOWN {}", "x".repeat(100))), "does not end"),
    ] {
        let why = refused(&bytes);
        assert!(why.contains(hint), "{}: {why}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_header_that_breaks_off_is_refused_wherever_it_does() {
    let (source, destination) = ("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap());
    for header in [v1(source, destination), v2(source, destination, b"some more")] {
        for end in 0..header.len() {
            let (outcome, _) = read_all(&header[..end]);
            assert!(matches!(outcome, Err(HeaderError::Broken(_))), "{end}: {outcome:?}");
        }
    }
}

fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = (any::<Ipv4Addr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port));
    let v6 = (any::<Ipv6Addr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port));
    prop_oneof![(v4.clone(), v4), (v6.clone(), v6)]
}

#[test]
fn a_sender_that_speaks_for_nobody_says_so_and_is_understood() {
    assert_eq!(header(ProxyProtocol::V1, None), line("PROXY UNKNOWN"));
    assert_eq!(header(ProxyProtocol::V2, None), v2_raw(0x20, 0, b""));
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        assert_eq!(told(&header(version, None)), None);
    }
}

#[test]
fn what_is_sent_is_what_others_send() {
    for (source, destination) in
        [("192.0.2.1:4000", "10.96.0.7:80"), ("[2001:db8::1]:4000", "[2001:db8::7]:80")]
    {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let addresses = Addresses { source, destination };
        assert_eq!(header(ProxyProtocol::V1, Some(&addresses)), v1(source, destination));
        assert_eq!(header(ProxyProtocol::V2, Some(&addresses)), v2(source, destination, b""));
    }
}

#[test]
fn where_the_families_differ_ipv4_is_written_as_ipv6() {
    let addresses = Addresses {
        source: "192.0.2.1:4000".parse().unwrap(),
        destination: "[2001:db8::7]:80".parse().unwrap(),
    };
    let text = header(ProxyProtocol::V1, Some(&addresses));
    assert_eq!(text, line("PROXY TCP6 ::ffff:192.0.2.1 2001:db8::7 4000 80"));
    assert_eq!(header(ProxyProtocol::V2, Some(&addresses))[13], 0x21);
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    /// Of any two families, in both versions: what is sent is read as it was meant, and the line is never too long.
    #[test]
    fn what_is_sent_is_read_as_it_was_meant(source in any_address(), destination in any_address()) {
        let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
        let want = Addresses { source: canonical(source), destination: canonical(destination) };
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let sent = header(version, Some(&Addresses { source, destination }));
            prop_assert!(sent.len() <= V1_MAX);
            prop_assert_eq!(told(&sent), Some(want));
        }
    }

    #[test]
    fn any_addresses_come_out_as_they_went_in((source, destination) in pair(), tlvs in vec(any::<u8>(), 0..300)) {
        let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
        let want = Addresses { source: canonical(source), destination: canonical(destination) };
        prop_assert_eq!(told(&v2(source, destination, &tlvs)), Some(want));
        prop_assert_eq!(told(&v1(source, destination)), Some(want));
    }

    /// Whatever comes, reading ends without a panic, and takes no more than the header says.
    #[test]
    fn any_bytes_are_read_or_refused(
        signed in any::<bool>(), command in 0x1f_u8..0x23, bytes in vec(any::<u8>(), 0..400),
    ) {
        let header = if signed { v2_raw(command, bytes.first().copied().unwrap_or(0x11), &bytes) } else { bytes };
        let (outcome, left) = read_all(&[&header[..], REST].concat());
        if signed && outcome.is_ok() {
            prop_assert_eq!(left, REST.len());
        }
    }

    /// One byte of a good header changed: still no panic, and never more taken than there is.
    #[test]
    fn a_damaged_header_is_read_or_refused((source, destination) in pair(), at in 0_usize..60, to in any::<u8>()) {
        for mut header in [v1(source, destination), v2(source, destination, b"tlv")] {
            let end = header.len();
            header[at % end] = to;
            let _ = read_all(&header);
        }
    }
}
