//! A module, checked and compiled: what every VM of it begins with.

use std::fmt;

use sha2::{Digest as _, Sha256};
use wasmtime::{ExternType, InstancePre, Module};

use crate::abi::{self, AbiVersion};
use crate::cache::Cache;
use crate::engine::engine;
use crate::error::LoadError;
use crate::host::Host;
use crate::hostcalls::{Linked, linked};

/// Of the module's bytes.
pub type Digest = [u8; 32];

/// Allocators that plugins export, the one to be used first.
pub(crate) const ALLOCATORS: [&str; 2] = ["malloc", "proxy_on_memory_allocate"];

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Code {
    pub(crate) pre: InstancePre<Host>,
    pub(crate) abi: AbiVersion,
    digest: Digest,
}

/// What can be said of a module without running it.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub digest: Digest,
    pub size: usize,
    /// `None` if that is what is wrong with it.
    pub abi: Option<AbiVersion>,
    pub hears: Hears,
    /// `module.name`, functions.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// Imports that the host does not have.
    pub missing: Vec<String>,
    /// Why it cannot be loaded, everything that is known of it.
    pub faults: Vec<LoadError>,
}

impl Code {
    /// Checks and compiles; what a `cache` has is not compiled again. This takes up to seconds: not for a thread that moves
    /// traffic.
    ///
    /// # Errors
    /// It is no plugin for this host.
    pub fn load(bytes: &[u8], cache: Option<&Cache>) -> Result<Self, LoadError> {
        check_form(bytes)?;
        let linked = linked()?;
        let digest = digest(bytes);
        let module = match cache.and_then(|cache| cache.get(&digest)) {
            Some(module) => module,
            None => compile(bytes, &digest, cache)?,
        };
        let abi = AbiVersion::of(&module)?;
        if let Some(fault) = faults(&module, linked, Some(abi)).into_iter().next() {
            return Err(fault);
        }
        let pre = linked.linker.instantiate_pre(&module);
        let pre = pre.map_err(|error| LoadError::Invalid(format!("{error:#}")))?;
        Ok(Self { pre, abi, digest })
    }

    pub fn abi(&self) -> AbiVersion {
        self.abi
    }

    pub(crate) fn exports(&self, name: &str) -> bool {
        self.pre.module().get_export(name).is_some()
    }

    /// What the plugin can be told of.
    pub fn hears(&self) -> Hears {
        Hears::of(self.pre.module())
    }

    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether both are the same compiled module, in one place of memory.
    pub fn is_same(&self, other: &Self) -> bool {
        self.pre.module().image_range() == other.pre.module().image_range()
    }
}

/// What a module has callbacks for, beside its own start and end. SDKs of some languages export all of them, whatever their
/// plugins do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hears {
    pub requests: bool,
    /// That are carried as a whole.
    pub connections: bool,
}

impl Hears {
    fn of(module: &Module) -> Self {
        let any = |names: &[&str]| names.iter().any(|name| module.get_export(name).is_some());
        Self { requests: any(&abi::OF_REQUESTS), connections: any(&abi::OF_CONNECTIONS) }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("abi", &self.abi).finish_non_exhaustive()
    }
}

impl Inspection {
    /// # Errors
    /// Not a module at all, so that nothing can be said of it.
    pub fn of(bytes: &[u8]) -> Result<Self, LoadError> {
        check_form(bytes)?;
        let linked = linked()?;
        let digest = digest(bytes);
        let module = compile(bytes, &digest, None)?;
        let abi = AbiVersion::of(&module);
        let mut all = faults(&module, linked, abi.as_ref().ok().copied());
        if let Err(fault) = &abi {
            all.insert(0, fault.clone());
        }
        let name = |import: wasmtime::ImportType<'_>| format!("{}.{}", import.module(), import.name());
        Ok(Self {
            digest,
            size: bytes.len(),
            abi: abi.ok(),
            hears: Hears::of(&module),
            imports: module.imports().map(name).collect(),
            exports: module.exports().map(|export| export.name().to_owned()).collect(),
            missing: missing(&module, linked),
            faults: all,
        })
    }
}

pub fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// The first eight bytes: `\0asm` and version 1, where a component has another.
fn check_form(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.get(..4) != Some(b"\0asm") {
        return Err(LoadError::NotWasm);
    }
    match bytes.get(4..8) {
        Some([1, 0, 0, 0]) => Ok(()),
        Some([_, _, 1, 0]) => Err(LoadError::Component),
        _ => Err(LoadError::Invalid(String::from("truncated, or of an unknown version of WebAssembly"))),
    }
}

fn compile(bytes: &[u8], digest: &Digest, cache: Option<&Cache>) -> Result<Module, LoadError> {
    let engine = engine().map_err(|error| LoadError::Engine(error.to_owned()))?;
    // By `from_binary`, so that text is never taken for a module, whatever features others turn on.
    let module =
        Module::from_binary(engine, bytes).map_err(|error| LoadError::Invalid(format!("{error:#}")))?;
    if let Some(cache) = cache {
        cache.put(digest, &module);
    }
    Ok(module)
}

fn faults(module: &Module, linked: &Linked, abi: Option<AbiVersion>) -> Vec<LoadError> {
    let mut faults = Vec::new();
    let missing = missing(module, linked);
    if !missing.is_empty() {
        faults.push(LoadError::Imports(missing.join(", ")));
    }
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        faults.push(LoadError::Lacks("`memory`"));
    }
    if !ALLOCATORS.iter().any(|name| matches!(module.get_export(name), Some(ExternType::Func(_)))) {
        faults.push(LoadError::Lacks("`proxy_on_memory_allocate` (or `malloc`)"));
    }
    if let Some(Err(fault)) = abi.map(|abi| abi::check_callbacks(module, abi)) {
        faults.push(fault);
    }
    faults
}

/// What is not there; what is there in another form, the linker names.
fn missing(module: &Module, linked: &Linked) -> Vec<String> {
    let lacking = module.imports().filter(|import| !linked.has(import.module(), import.name()));
    lacking.map(|import| format!("`{}.{}`", import.module(), import.name())).collect()
}
