//! From compiled code to a plugin that is ready.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Instance, Store};

use super::{Life, Vm, watch};
use crate::abi::Callbacks;
use crate::code::{ALLOCATORS, Code};
use crate::error::{Fault, StartError};
use crate::host::{Calls, Host, Limiter, ROOT, Stage, World};
use crate::hostcalls::linked;
use crate::log::Rate;
use crate::settings::Settings;
use crate::stats::Stats;

impl Vm {
    /// Instantiates, initializes and configures; `faults` is told of what ends it later.
    ///
    /// # Errors
    /// It traps, takes too long, or refuses its configuration.
    pub fn start(
        code: &Code,
        settings: &Arc<Settings>,
        world: &World,
        stats: &Arc<Stats>,
        faults: Arc<dyn Fn(&Fault) + Send + Sync>,
    ) -> Result<Self, StartError> {
        let host = host(code, settings, world, stats)?;
        let mut store = Store::new(code.pre.module().engine(), host);
        store.limiter(|host| &mut host.limiter);
        watch(&mut store);
        stats.instance_started();
        // From here on, dropping it is what counts it out.
        let mut vm = Self { store, callbacks: Callbacks::default(), last_id: ROOT, life: Life::Live, faults };
        let settings = settings.clone();
        let budget = settings.budgets.start;
        vm.instantiate(code, budget)?;
        vm.store.data_mut().stage = Stage::VmStart;
        vm.told("proxy_on_context_create", budget, |store, callbacks| match &callbacks.context_create {
            Some(create) => create.call(store, (ROOT, 0)),
            None => Ok(()),
        })?;
        let size = |bytes: &bytes::Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let vm_size = size(&settings.vm_configuration);
        let agreed = vm.told("proxy_on_vm_start", budget, |store, callbacks| match &callbacks.vm_start {
            Some(start) => start.call(store, (ROOT, vm_size)),
            None => Ok(1),
        })?;
        if agreed == 0 {
            return Err(StartError::Refused("proxy_on_vm_start"));
        }
        vm.store.data_mut().stage = Stage::Configure;
        let plugin_size = size(&settings.configuration);
        let agreed =
            vm.told("proxy_on_configure", budget, |store, callbacks| match &callbacks.configure {
                Some(configure) => configure.call(store, (ROOT, plugin_size)),
                None => Ok(1),
            })?;
        if agreed == 0 {
            return Err(StartError::Refused("proxy_on_configure"));
        }
        vm.store.data_mut().stage = Stage::Running;
        Ok(vm)
    }

    fn instantiate(&mut self, code: &Code, budget: Duration) -> Result<(), StartError> {
        let made = self.enter(ROOT, budget, |store, _| code.pre.instantiate(store));
        let instance = made.map_err(|fault| StartError::Instantiate(fault.to_string()))?;
        let memory = instance.get_memory(&mut self.store, "memory");
        let mut allocate = None;
        for name in ALLOCATORS {
            allocate = allocate.or_else(|| instance.get_typed_func(&mut self.store, name).ok());
        }
        let host = self.store.data_mut();
        (host.memory, host.allocate) = (memory, allocate);
        let abi = host.abi;
        self.callbacks = Callbacks::of(&instance, &mut self.store, abi);
        // A reactor, then what some toolchains add; or else a command. Neither must be there.
        if !code.exports("_initialize") {
            return self.run(&instance, "_start", budget);
        }
        self.run(&instance, "_initialize", budget)?;
        let main = if code.exports("main") { "main" } else { "__main_void" };
        self.run(&instance, main, budget)
    }

    /// Runs a function that has one of the forms of a start, if there is one.
    fn run(&mut self, instance: &Instance, name: &'static str, budget: Duration) -> Result<(), StartError> {
        if let Ok(main) = instance.get_typed_func::<(i32, i32), i32>(&mut self.store, name) {
            return self.told(name, budget, |store, _| main.call(store, (0, 0)).map(drop));
        }
        if let Ok(main) = instance.get_typed_func::<(), i32>(&mut self.store, name) {
            return self.told(name, budget, |store, _| main.call(store, ()).map(drop));
        }
        match instance.get_typed_func::<(), ()>(&mut self.store, name) {
            Ok(start) => self.told(name, budget, |store, _| start.call(store, ())),
            Err(_) => Ok(()),
        }
    }

    fn told<R>(
        &mut self,
        during: &'static str,
        budget: Duration,
        call: impl FnOnce(&mut Store<Host>, &Callbacks) -> wasmtime::Result<R>,
    ) -> Result<R, StartError> {
        self.enter(ROOT, budget, call).map_err(|fault| StartError::Fault { during, fault })
    }
}

fn host(
    code: &Code,
    settings: &Arc<Settings>,
    world: &World,
    stats: &Arc<Stats>,
) -> Result<Host, StartError> {
    let linked = linked().map_err(|error| StartError::Instantiate(error.to_string()))?;
    Ok(Host {
        settings: settings.clone(),
        world: world.clone(),
        stats: stats.clone(),
        store: world.shared.store(&settings.vm_id),
        mailbox: Arc::default(),
        abi: code.abi,
        allowed: linked.allowed(settings.capabilities.hostcalls.as_deref()),
        memory: None,
        allocate: None,
        limiter: Limiter { limit: settings.budgets.memory, memory: 0, stats: stats.clone() },
        stage: Stage::Initializing,
        effective: ROOT,
        streams: Default::default(),
        tick: None,
        pending_done: false,
        view: None,
        calls: Calls::default(),
        log_rate: Rate::default(),
        looked: None,
        budget: Duration::ZERO,
        scratch: Vec::new(),
    })
}
