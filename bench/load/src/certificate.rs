//! A certificate of the kind that servers have today: ECDSA on P-256, signed by itself, for localhost.

use std::fs;
use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct CertificateArgs {
    /// Where `cert.pem` and `key.pem` go
    folder: PathBuf,
}

pub(crate) fn write(args: &CertificateArgs) -> anyhow::Result<()> {
    let names = [String::from("localhost"), String::from("127.0.0.1")];
    let pair = rcgen::generate_simple_self_signed(names)?;
    fs::write(args.folder.join("cert.pem"), pair.cert.pem())?;
    fs::write(args.folder.join("key.pem"), pair.signing_key.serialize_pem())?;
    Ok(())
}
