use proptest::prelude::*;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;

use super::*;

/// What a client of our own sends first.
fn hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same message in records of no more than `most` bytes of it (RFC 8446, section 5.1).
fn in_records(hello: &[u8], most: usize) -> Vec<u8> {
    let (header, message) = hello.split_at(5);
    let record =
        |part: &[u8]| [&header[..3], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
    message.chunks(most).flat_map(record).collect()
}

async fn read_all(mut bytes: &[u8]) -> Result<(Option<Arc<str>>, Vec<u8>), NoHello> {
    let hello = read(&mut bytes).await?;
    let (name, mut again) = (hello.server_name.clone(), Vec::new());
    hello.rewind(bytes).read_to_end(&mut again).await.unwrap();
    Ok((name, again))
}

#[tokio::test]
async fn the_name_is_read_and_every_byte_is_read_again() {
    // What follows may have come with it: early data, say.
    let bytes = [hello("Shop.Example.com"), b"\x17\x03\x03\x00\x01x".repeat(2_000)].concat();
    let (name, again) = read_all(&bytes).await.unwrap();
    assert_eq!(name.as_deref(), Some("shop.example.com"));
    assert!(again == bytes, "{} of {} bytes", again.len(), bytes.len());
}

#[tokio::test]
async fn a_client_that_names_an_address_names_no_server() {
    assert_eq!(read_all(&hello("127.0.0.1")).await.unwrap().0, None);
}

#[tokio::test]
async fn a_message_in_many_records_is_put_together() {
    for most in [1, 7, 100] {
        let bytes = in_records(&hello("shop.example.com"), most);
        assert_eq!(read_all(&bytes).await.unwrap(), (Some("shop.example.com".into()), bytes), "{most}");
    }
}

#[tokio::test]
async fn a_message_in_many_packets_is_waited_for() {
    let (mut client, mut server) = tokio::io::duplex(1);
    let bytes = hello("shop.example.com");
    let (sent, hello) = tokio::join!(client.write_all(&bytes), read(&mut server));
    sent.unwrap();
    assert_eq!(hello.unwrap().server_name.as_deref(), Some("shop.example.com"));
}

#[tokio::test]
async fn what_is_no_first_message_is_refused_with_its_reason() {
    let whole = hello("shop.example.com");
    let mut endless = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    endless.resize(64 * 1024, 0);
    for (bytes, want) in [
        (&b""[..], "the client left without a word"),
        (&whole[..20], "the client left in the middle of its first message"),
        (&whole[..whole.len() - 1], "the client left in the middle of its first message"),
        (b"GET / HTTP/1.1\r\nhost: shop.example.com\r\n\r\n", "not TLS, or broken: received corrupt message"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "not TLS, or broken: received unexpected message"),
        (&endless, "the first message has more than 16384 bytes"),
    ] {
        let error = read_all(bytes).await.unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_read_beyond_its_limit(
        at in any::<prop::sample::Index>(),
        byte: u8,
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut changed = hello("shop.example.com");
        let at = at.index(changed.len());
        changed[at] = byte;
        changed.extend(noise.iter().cycle().take(1 << 16));
        for mut bytes in [&changed[..], &noise] {
            if let Ok(hello) = runtime.block_on(read(&mut bytes)) {
                prop_assert!(hello.start.len() <= MAX_HELLO);
            }
        }
    }
}
