//! A pod's network namespace, entered by a thread of its own: the rest of the process stays where it is.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::spec::{Code, Failure};

const OWN: &str = "/proc/thread-self/ns/net";

/// What `work` says in the namespace at `path`; nothing, if there is none there any more.
///
/// # Errors
/// It cannot be entered, or is the node's own, whose connections are nobody's to lead.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<Option<T>, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Io, format!("CNI_NETNS {}: {error}", path.display()))
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let own = fs::metadata(OWN).map_err(|error| failed(&error))?;
    let its = file.metadata().map_err(|error| failed(&error))?;
    if (own.dev(), own.ino()) == (its.dev(), its.ino()) {
        let why = "it is the node's own network: every connection of the node would be redirected";
        return Err(Failure::new(Code::InvalidEnvironment, format!("CNI_NETNS {}: {why}", path.display())));
    }
    let entered = thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // Of a file that is no network namespace, the kernel says so.
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok::<_, rustix::io::Errno>(work())
        });
        inside.join()
    });
    match entered {
        Ok(Ok(done)) => Ok(Some(done)),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&"the thread within panicked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_itself_is_never_entered() {
        let failure = within(Path::new(OWN.replace("thread-self", "self").as_str()), || ()).unwrap_err();
        assert!(
            failure.code == Code::InvalidEnvironment && failure.message.contains("node's own"),
            "{failure}"
        );
    }

    #[test]
    fn a_namespace_that_is_gone_is_nothing_and_what_is_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(within(&folder.path().join("gone"), || ()), Ok(None));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(within(&file, || ()).unwrap_err().code, Code::Io);
    }
}
