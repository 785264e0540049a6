//! `stampede serve`: everything is opened, then wired, then run until a signal.
//!
//! ```text
//!   main ── opens images, store, sockets; starts the others; waits
//!   shard-N ── one per core: ring and shard
//!   control ── registrar, store, status
//!   socket, signals, log ── small helpers
//! ```

mod cache;
mod home;
mod interrupts;
mod keep;
mod listen;
mod shards;
mod signals;
mod watchdog;

use crate::Failure;
use crate::cli::ServeArgs;
use crate::logging::{Log, abort_on_panic};
use crate::place::place;
use anyhow::{Context, anyhow};
use cache::Cached;
use crossbeam::channel::{Receiver, Sender, bounded};
use keep::Arena;
use listen::Listeners;
use sd_notify::NotifyState;
use shards::{Blueprint, Running};
use stampede_control::config::{CloneKind, Config, SteeringMode};
use stampede_control::directory::TargetDirectory;
use stampede_control::entropy::SystemEntropy;
use stampede_control::goldens::Caching;
use stampede_control::images::Images;
use stampede_control::journals::Journals;
use stampede_control::keys::Keys;
use stampede_control::plan::Plan;
use stampede_control::registrar::{AdmissionLimits, Keeper, Registrar, Survivor};
use stampede_control::scratch::ScratchFile;
use stampede_control::socket::{ControlSocket, Request, Response};
use stampede_control::status::{Facts, FeatureStatus};
use stampede_control::store::Store;
use stampede_control::thread::{Command, ControlThread, Ended, Setup};
use stampede_engine::messages::ToControl;
use stampede_engine::setup::TokenKey;
use stampede_image::epoch::EpochRecord;
use stampede_image::scratch::Scratch;
use stampede_ring::clock::monotonic_ns;
use stampede_ring::net::ListenError;
use stampede_ring::{Pool, cpu, limits, probe};
use stampede_session::{Entropy, Settings};
use stampede_steer::placement::Placement;
use stampede_steer::reuseport::{Steering, Step};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Commands that may wait for the control thread.
const COMMANDS_MAX: usize = 64;
/// Messages of all shards that may wait for the control thread; more stay with their shards.
const TO_CONTROL_MAX: usize = 4096;
/// How long the control thread may take to answer the socket.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a killed predecessor's files and sockets may take to close.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn serve(arguments: ServeArgs) -> Result<(), Failure> {
    let partial = arguments.partial().map_err(Failure::usage)?;
    if arguments.print_config {
        print!("{}", partial.effective().map_err(Failure::usage)?.to_toml());
        return Ok(());
    }
    let config = partial.finish().map_err(Failure::usage)?;
    let (_, placement) = place(&config, Path::new("/"))?;
    if arguments.check_config {
        let images = Images::open(&config).map_err(Failure::usage)?;
        let (encrypted, without) = Keys::check(&config, &images).map_err(Failure::usage)?;
        let (targets, files) = (config.targets.len(), images.files().len());
        println!("the configuration is right: {targets} targets, {files} images");
        if encrypted > 0 {
            println!(
                "{encrypted} of the images are encrypted; {without} of them get their keys at the first start"
            );
        }
        return Ok(());
    }
    let log = Log::start(&config)?;
    abort_on_panic();
    for warning in &placement.warnings {
        tracing::warn!("{}", warning.text);
    }
    let result = run(&config, &placement);
    log.finish();
    result
}

fn run(config: &Config, placement: &Placement) -> Result<(), Failure> {
    let cores = &placement.cores();
    let started_ns = monotonic_ns();
    let kernel = probe_kernel()?;
    limits::raise_descriptors().context("cannot raise the limit of open files").map_err(Failure::Runtime)?;
    let images = patiently(|| Images::open(config), |error| error.is_in_use()).map_err(Failure::usage)?;
    let store = open_store(config)?;
    interrupts::recover(config)?;
    let shard_count = u16::try_from(cores.len()).map_err(Failure::runtime)?;
    let journals =
        patiently(|| Journals::open(config, &images), |error| error.is_in_use()).map_err(Failure::runtime)?;
    let mut plan = Plan::new(config, &images, &store, shard_count).map_err(Failure::runtime)?;
    plan.offer_atomic_writes(&journals);
    let keys = Keys::open(config, &images).map_err(Failure::usage)?;
    let in_use = |error: &ListenError| matches!(error, ListenError::InUse { .. });
    let listeners =
        patiently(|| listen::listen(&config.listen, cores.len()), in_use).map_err(Failure::runtime)?;
    let steering = Arc::new(steer(&listeners, config, cores)?);
    let socket = Arc::new(ControlSocket::bind(&config.control).map_err(Failure::runtime)?);
    let scratch_file =
        patiently(|| ScratchFile::open(config), |error| error.is_in_use()).map_err(Failure::usage)?;
    let scratch = scratch_file.as_ref().map(|file| Arc::new(Scratch::new(file.blocks())));
    let records = store.epochs().map_err(Failure::runtime)?;
    let spill = scratch_file.as_ref().zip(scratch.as_deref());
    let Arena { pool: arena, kept } = keep::arena(config, &plan, &images, &records, spill)?;
    let (to_control, from_shards) = bounded(TO_CONTROL_MAX);
    let (commands, command_queue) = bounded(COMMANDS_MAX);
    let blueprint = Blueprint {
        placement,
        config,
        plan: &plan,
        images: &images,
        journals: &journals,
        keys: &keys,
        settings: Arc::new(settings(config)?),
        arena: &arena,
        scratch: scratch_file.as_ref().zip(scratch.as_ref()),
        token_key: token_key()?,
    };
    let addresses = listeners.addresses.clone();
    let cached = Cached::new(&blueprint, shard_count)?;
    let caching = cached.caching(config);
    let shards = shards::start(&blueprint, listeners, &cached, &to_control, &commands)?;
    drop(to_control);
    let interrupts = interrupts::arrange(config, placement)?;
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ns,
        state_store: store.path().map(ToOwned::to_owned),
        run: store.run(),
        listen: addresses.clone(),
        steering: Arc::clone(&steering),
        cores: cores.to_vec(),
        homes: shards.homes(),
        limits: config.limits,
        images: plan.images.clone(),
        kernel,
        interrupts: interrupts.statuses(),
    };
    let control = start_control(
        config,
        placement,
        plan,
        &images,
        keys,
        store,
        (records, kept),
        caching,
        (arena, scratch),
        facts,
        from_shards,
        command_queue,
        &shards,
    )?;
    answer_socket(&socket, &commands)?;
    signals::watch(commands.clone(), config.drain_timeout.0, detach(&steering)).map_err(Failure::runtime)?;
    tracing::info!(?addresses, ?cores, control = %socket.path().display(), "ready");
    watchdog::feed(&commands).map_err(Failure::runtime)?;
    let status = format!("serving {} targets on {} cores", config.targets.len(), cores.len());
    let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    let ended = control.join().map_err(|_| Failure::Runtime(anyhow!("the control thread broke")))?;
    socket.remove();
    drop(interrupts);
    finish(ended, shards)
}

/// Tries again for a while when something is in use: the kernel takes a moment to close the files and sockets of a
/// ring whose process was killed, and the next stampede may be started before that.
fn patiently<T, E>(attempt: impl Fn() -> Result<T, E>, in_use: impl Fn(&E) -> bool) -> Result<T, E> {
    let deadline = Instant::now() + PREDECESSOR_TIMEOUT;
    loop {
        match attempt() {
            Err(error) if in_use(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20))
            }
            result => return result,
        }
    }
}

/// Sets up which shard gets a connection, and says so.
fn steer(listeners: &Listeners, config: &Config, cores: &[u16]) -> Result<Steering, Failure> {
    let steering = listeners.steer(config.steering, cores).map_err(|error| {
        Failure::Runtime(anyhow!(
            "steering = \"cpu\" is not possible: {error}. With \"auto\" stampede does without"
        ))
    })?;
    match steering.step() {
        Step::OneShard => {}
        Step::PlainReuseport if config.steering == SteeringMode::Plain => {
            tracing::info!("steering: plain reuseport, the kernel's hash chooses the shard");
        }
        Step::PlainReuseport => tracing::warn!(
            reason = steering.reason(),
            "steering: plain reuseport, the kernel's hash chooses the shard: sessions may land far from their packets"
        ),
        Step::ReuseportByCpu => {
            tracing::info!(
                "steering: reuseport by CPU, a connection goes to the shard on whose core its SYN came in"
            );
        }
    }
    Ok(steering)
}

/// What ends steering: it keeps a listener of each address open until then.
fn detach(steering: &Arc<Steering>) -> impl FnOnce() + Send + 'static {
    let steering = Arc::clone(steering);
    move || {
        if let Err(error) = steering.detach() {
            tracing::warn!(%error, "the steering program goes with the last listener");
        }
    }
}

/// Tries what the kernel can do.
fn probe_kernel() -> Result<Vec<FeatureStatus>, Failure> {
    let report = probe::run();
    let missing: Vec<String> = report.fatal().map(ToString::to_string).collect();
    if !missing.is_empty() {
        return Err(Failure::Runtime(anyhow!("this kernel cannot run stampede: {}", missing.join("; "))));
    }
    for feature in report.degraded() {
        tracing::warn!("{feature}");
    }
    let status = |feature: &probe::Feature| FeatureStatus {
        feature: feature.name.to_owned(),
        works: feature.result.is_ok(),
        note: if feature.result.is_ok() { String::new() } else { feature.to_string() },
    };
    Ok(report.features.iter().map(status).collect())
}

fn open_store(config: &Config) -> Result<Store, Failure> {
    if let Some(directory) = &config.state_dir {
        return Store::open(directory).map_err(Failure::runtime);
    }
    if config.targets.iter().any(|target| target.clone == CloneKind::Ephemeral) {
        tracing::warn!(
            "without --state-dir boot epochs do not survive a restart: a system that runs through one would be given \
             a fresh clone under its mounted filesystems. Give --state-dir for anything but a trial"
        );
    }
    Store::in_memory().map_err(Failure::runtime)
}

fn settings(config: &Config) -> Result<Settings, Failure> {
    let directory = TargetDirectory::new(config, Arc::new(SystemEntropy)).map_err(Failure::usage)?;
    Ok(Settings {
        login_timeout_ns: config.login_timeout.as_nanos(),
        window: config.limits.commands,
        ping_interval_ns: config.nop_interval.as_nanos(),
        ..Settings::new(Arc::new(directory))
    })
}

/// What this run's ROD tokens are made from.
fn token_key() -> Result<TokenKey, Failure> {
    let mut bytes = [0; 32];
    SystemEntropy.fill(&mut bytes).context("cannot make a key for copy tokens").map_err(Failure::Runtime)?;
    Ok(TokenKey::new(bytes))
}

#[expect(clippy::too_many_arguments, reason = "the one place where everything comes together")]
fn start_control(
    config: &Config,
    placement: &Placement,
    plan: Plan,
    images: &Images,
    mut keys: Keys,
    store: Store,
    (records, kept): (Vec<EpochRecord>, Option<(Keeper, Vec<Survivor>)>),
    caching: Caching,
    (arena, scratch): (Arc<Pool>, Option<Arc<Scratch>>),
    facts: Facts,
    from_shards: Receiver<ToControl>,
    commands: Receiver<Command>,
    shards: &Running,
) -> Result<JoinHandle<Ended>, Failure> {
    let shard_count = u16::try_from(placement.shards.len()).map_err(Failure::runtime)?;
    let goldens = plan.goldens.iter().filter_map(|(id, file)| Some((*id, images.files().get(*file)?)));
    let goldens = goldens.map(|(id, file)| Ok((id, file.try_clone()?))).collect::<std::io::Result<_>>();
    let mut registrar = Registrar::new(plan.targets, records, plan.first_clone, shard_count);
    registrar.set_limits(AdmissionLimits {
        admissions: usize::try_from(config.limits.admissions).unwrap_or(usize::MAX),
        sessions: usize::try_from(config.limits.sessions).unwrap_or(usize::MAX),
    });
    let mut first = Vec::new();
    if let Some((keeper, survivors)) = kept {
        registrar.keep(keeper);
        first = registrar.adopt(survivors, monotonic_ns());
    }
    let files = plan.disks.iter().filter_map(|disk| Some((disk.lun, images.files().get(disk.file)?)));
    let files = files.map(|(lun, file)| Ok((lun, file.try_clone()?))).collect::<std::io::Result<_>>();
    let keys = plan.disks.iter().filter_map(|disk| Some((disk.lun, keys.take(disk.file)?))).collect();
    let setup = Setup {
        registrar,
        first,
        keys,
        files: files.map_err(Failure::runtime)?,
        store,
        units: plan.disks.into_iter().map(|disk| (disk.lun, disk.name)).collect(),
        from_shards,
        shards: shards.links(),
        commands,
        goldens: goldens.map_err(Failure::runtime)?,
        caching,
        arena,
        scratch,
        facts,
        config: config.clone(),
        clock: monotonic_ns,
    };
    let core = placement.control.core;
    let body = move || {
        if let Some(core) = core
            && let Err(error) = cpu::pin_current_thread(usize::from(core))
        {
            tracing::warn!(%error, "the control thread runs on any core");
        }
        ControlThread::new(setup).run()
    };
    std::thread::Builder::new().name("control".to_owned()).spawn(body).map_err(Failure::runtime)
}

/// Hands requests of the control socket to the control thread.
fn answer_socket(socket: &Arc<ControlSocket>, commands: &Sender<Command>) -> Result<(), Failure> {
    let (socket, commands) = (Arc::clone(socket), commands.clone());
    let answer = move |request: Request| -> Response {
        let (sender, receiver) = bounded(1);
        if commands.send_timeout(Command::Ask(request, sender), ANSWER_TIMEOUT).is_err() {
            return Response::Error("stampede is stopping, or overloaded".to_owned());
        }
        let late = |_| {
            Response::Error(
                "the control thread does not answer: stampede is stopping, or overloaded".to_owned(),
            )
        };
        receiver.recv_timeout(ANSWER_TIMEOUT).unwrap_or_else(late)
    };
    let thread = std::thread::Builder::new().name("socket".to_owned()).spawn(move || socket.serve(answer));
    thread.map(drop).map_err(Failure::runtime)
}

fn finish(ended: Ended, shards: Running) -> Result<(), Failure> {
    let stopped = shards.join();
    match ended {
        Ended::Drained if stopped => {
            tracing::info!("stopped: all sessions closed, all files flushed");
            Ok(())
        }
        Ended::Drained => {
            Err(Failure::Runtime(anyhow!("a shard did not stop; all files were flushed before")))
        }
        Ended::DrainTimeout => {
            Err(Failure::Runtime(anyhow!("stopping took too long: some writes may not have been flushed")))
        }
        Ended::Failed(why) => Err(Failure::Runtime(anyhow!("{why}"))),
    }
}
