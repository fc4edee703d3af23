//! The story of one call, top to bottom.

use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::Value as Json;
use tidegate_redirect::tables;

use crate::api::{self, Patience};
use crate::netns;
use crate::pod::{Wanted, wanted};
use crate::spec::{Code, Command, Failure, MAX_INPUT_BYTES, NEWEST, PodName, Request, versions};

/// Answers a runtime's call: its result, or why there is none, goes to `out`. Whether it went well, and somebody has heard it.
pub fn run(env: impl Fn(&str) -> Option<String>, stdin: impl Read, out: &mut impl Write) -> bool {
    let answer = read(stdin).map_err(|failure| (failure, String::from(NEWEST))).and_then(|text| {
        let request = Request::read(env, &text)?;
        answer(&request).map_err(|failure| (failure, request.conf.cni_version.clone()))
    });
    let (told, is_well) = match answer {
        Ok(None) => return true,
        Ok(Some(result)) => (result, true),
        Err((failure, version)) => (failure.to_json(&version), false),
    };
    writeln!(out, "{told}").is_ok() && is_well
}

fn read(stdin: impl Read) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::new(Code::Io, format!("standard input: {why}"));
    let mut text = Vec::new();
    stdin.take(MAX_INPUT_BYTES + 1).read_to_end(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > MAX_INPUT_BYTES {
        return Err(failed(format!("more than {MAX_INPUT_BYTES} bytes")));
    }
    Ok(text)
}

fn answer(request: &Request) -> Result<Option<Json>, Failure> {
    match request.command {
        Command::Version => Ok(Some(versions(&request.conf.cni_version))),
        Command::Add => {
            if let Some(Wanted::Lead(rules)) = wanted_by(request)? {
                let set = inside(request, || tables::apply(Some(&rules)))?;
                set.map_err(|error| Failure::new(Code::NotRedirected, error.to_string()))?;
            }
            Ok(request.conf.prev_result.clone())
        }
        Command::Check => {
            if let Some(Wanted::Lead(rules)) = wanted_by(request)? {
                let missing = inside(request, || tables::check(&rules))?;
                let missing = missing.map_err(|error| Failure::new(Code::Missing, error.to_string()))?;
                if !missing.is_empty() {
                    return Err(Failure::new(Code::Missing, missing.join("; ")));
                }
            }
            Ok(None)
        }
        Command::Del => {
            remove(request);
            Ok(None)
        }
        Command::Status => status(request).map(|()| None),
        // What is set is in the pod's namespace, and goes with it.
        Command::Gc => Ok(None),
    }
}

/// What the pod of a call wants; nothing for a sandbox that is none of our business.
fn wanted_by(request: &Request) -> Result<Option<Wanted>, Failure> {
    let Some(name) = ours(request) else { return Ok(None) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Code::Io, error.to_string()))?;
    let pod = runtime.block_on(api::pod(kubeconfig(request)?, name, Patience::default()))?;
    wanted(&pod, name).map(Some)
}

fn ours(request: &Request) -> Option<&PodName> {
    request.pod.as_ref().filter(|pod| !request.conf.exclude_namespaces.contains(&pod.namespace))
}

fn kubeconfig(request: &Request) -> Result<&Path, Failure> {
    let missing =
        || Failure::new(Code::InvalidConfig, "kubeconfig: missing: nothing says how to ask for a pod");
    request.conf.kubeconfig.as_deref().ok_or_else(missing)
}

/// In the network namespace of the call.
fn inside<T: Send>(request: &Request, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    let path = request.netns.as_deref().unwrap_or(Path::new(""));
    let gone =
        || Failure::new(Code::InvalidEnvironment, format!("CNI_NETNS {}: there is none", path.display()));
    netns::within(path, work)?.ok_or_else(gone)
}

/// Takes back what is there. Whatever is in the way is no error: a runtime would try for ever to end a pod that is gone. Not
/// even the API server is asked, which has forgotten the pod by now.
fn remove(request: &Request) {
    let (Some(netns), Some(_)) = (request.netns.as_deref(), ours(request)) else { return };
    let why = match netns::within(netns, || tables::apply(None)) {
        Ok(Some(Err(error))) => error.to_string(),
        Err(failure) => failure.to_string(),
        Ok(_) => return,
    };
    let _ = writeln!(io::stderr(), "tidegate-cni: DEL: {why}");
}

/// Whether an ADD could be served, without asking anybody else.
fn status(request: &Request) -> Result<(), Failure> {
    let not_available = |why: String| Failure::new(Code::NotAvailable, why);
    api::access(kubeconfig(request)?).map_err(not_available)?;
    tables::are_there().map_err(|error| not_available(error.to_string()))
}
