//! Writes `corpus/<target>/`, beside this file, with what each target begins with.

use std::path::Path;
use std::{fs, io};

use tidegate_policy::fuzzing as policy;
use tidegate_proxy::fuzzing::properties as proxy;

fn main() -> io::Result<()> {
    for (target, _) in policy::ALL {
        write(target, &policy::seeds(target))?;
    }
    for (target, _) in proxy::ALL {
        write(target, &proxy::seeds(target))?;
    }
    Ok(())
}

fn write(target: &str, seeds: &[Vec<u8>]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
