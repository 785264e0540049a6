//! Setting a ring up: the queues, the tables, the registered memory, the workers.

use super::config::{SetupError, SetupReport, UringConfig};
use super::inflight::InFlight;
use super::receive_buffers::ReceiveBuffers;
use super::survey::Surveyor;
use super::table::Table;
use super::wake::Waker;
use super::{RegisteredPool, UringRing};
use crate::cpu;
use crate::memory::Pool;
use io_uring::{IoUring, Submitter};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The longest that one registered buffer may be.
const REGISTERED_MAX: u64 = 1 << 30;
/// The most registered buffers that a ring may have.
const REGISTERED_COUNT_MAX: usize = 1 << 14;

/// Rings that the process has made.
static RINGS: AtomicU32 = AtomicU32::new(0);

impl UringRing {
    /// Sets a ring up for the calling thread, and registers the pools' memory with it.
    ///
    /// # Errors
    /// See [`SetupError`]. Not being able to register memory or files is none: [`UringRing::report`] tells.
    pub fn new(config: &UringConfig, pools: &[Arc<Pool>]) -> Result<Self, SetupError> {
        check(config)?;
        let ring = build(config)?;
        let mut report = SetupReport::default();
        let submitter = ring.submitter();
        let receive = ReceiveBuffers::new(&submitter, config.receive_buffers, config.receive_buffer_len)?;
        let has_file_table = match submitter.register_files_sparse(config.sockets_max + config.files_max) {
            Ok(()) => true,
            Err(error) => {
                report.unregistered_files_reason = Some(format!(
                    "a table of {} descriptors: {error} (the descriptor limit, `ulimit -n`, must be at least that)",
                    config.sockets_max + config.files_max
                ));
                false
            }
        };
        let registered = register_pools(&submitter, pools, &mut report);
        place_workers(&submitter, config, &mut report)?;
        let waker = Waker::new().map_err(|source| SetupError::Resources { step: "eventfd", source })?;
        let ready_max = config.entries as usize;
        let no_iowait = ring.params().is_feature_no_iowait();
        let has_min_wait = ring.params().is_feature_min_timeout();
        let mut this = Self {
            ring: ManuallyDrop::new(ring),
            inflight: ManuallyDrop::new(InFlight::new(config.operations_max)),
            receive: ManuallyDrop::new(receive),
            registered: ManuallyDrop::new(registered),
            ready: VecDeque::with_capacity(ready_max),
            ready_max,
            deferred: VecDeque::with_capacity(16),
            idle_sends: Vec::new(),
            sockets: Table::new(config.sockets_max),
            files: Table::new(config.files_max),
            has_file_table,
            peers: BTreeMap::new(),
            surveyor: Surveyor::new(waker.clone(), config.shard_cores.clone()),
            waker,
            report,
            no_iowait,
            has_min_wait,
            sends_queued: 0,
            number: RINGS.fetch_add(1, Ordering::Relaxed),
            late_sends: Vec::new(),
            _not_send: PhantomData,
        };
        this.arm_waker();
        Ok(this)
    }
}

fn check(config: &UringConfig) -> Result<(), SetupError> {
    let rule = |holds: bool, setting, value: u32, rule| {
        if holds { Ok(()) } else { Err(SetupError::Config { setting, value: u64::from(value), rule }) }
    };
    let UringConfig { entries, completions, operations_max, sockets_max, files_max, .. } = *config;
    let buffers = u32::from(config.receive_buffers);
    let len = config.receive_buffer_len;
    let table_max = Table::<()>::LIMIT;
    let power =
        |value: u32, least: u32, most: u32| value.is_power_of_two() && (least..=most).contains(&value);
    rule(power(entries, 8, 32_768), "entries", entries, "a power of two from 8 to 32,768")?;
    rule(
        power(completions, entries * 2, 65_536),
        "completions",
        completions,
        "a power of two from twice the entries to 65,536",
    )?;
    let operations = 1..=UringConfig::OPERATIONS_LIMIT;
    rule(operations.contains(&operations_max), "operations_max", operations_max, "from 1 to 1,048,576")?;
    rule((1..=table_max).contains(&sockets_max), "sockets_max", sockets_max, "from 1 to 1,048,576")?;
    rule((1..=table_max).contains(&files_max), "files_max", files_max, "from 1 to 1,048,576")?;
    rule(power(buffers, 1, 32_768), "receive_buffers", buffers, "a power of two up to 32,768")?;
    let fits = len > 0 && len.is_multiple_of(4096) && len <= 1 << 20;
    rule(fits, "receive_buffer_len", len, "a multiple of 4,096 up to 1,048,576")
}

fn build(config: &UringConfig) -> Result<IoUring, SetupError> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(config.completions)
        .dontfork();
    // One lookup per operation less, since Linux 6.6.
    let with_extras = builder.clone().setup_no_sqarray().build(config.entries);
    with_extras
        .or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => builder.build(config.entries),
            _ => Err(error),
        })
        .map_err(|source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => SetupError::Forbidden { source },
            Some(libc::EINVAL) => SetupError::Missing {
                feature: "rings of one thread with deferred work (SINGLE_ISSUER, DEFER_TASKRUN)",
                since: "6.1",
                source,
            },
            _ => SetupError::Resources { step: "io_uring_setup", source },
        })
}

/// Registers the pools' mappings, all or none.
fn register_pools(
    submitter: &Submitter<'_>,
    pools: &[Arc<Pool>],
    report: &mut SetupReport,
) -> Vec<RegisteredPool> {
    let mut iovecs = Vec::new();
    let mut registered = Vec::new();
    let mut bytes = 0u64;
    for pool in pools.iter().filter(|pool| pool.slots() > 0) {
        let (base, len) = pool.extent();
        let slot_len = u64::from(pool.slot_len());
        let slots_per_index = (REGISTERED_MAX / slot_len).min(u64::from(pool.slots())).max(1);
        let piece = usize::try_from(slots_per_index * slot_len).unwrap_or(usize::MAX);
        let first_index = u16::try_from(iovecs.len()).unwrap_or(u16::MAX);
        for start in (0..len).step_by(piece) {
            let iov_base = base.as_ptr().wrapping_add(start).cast();
            iovecs.push(libc::iovec { iov_base, iov_len: piece.min(len - start) });
        }
        let slots_per_index = u32::try_from(slots_per_index).unwrap_or(u32::MAX);
        registered.push(RegisteredPool { pool: Arc::clone(pool), first_index, slots_per_index });
        bytes += len as u64;
    }
    if iovecs.is_empty() {
        return Vec::new();
    }
    if iovecs.len() > REGISTERED_COUNT_MAX {
        report.unregistered_reason = Some(format!("more than {REGISTERED_COUNT_MAX} GiB of I/O memory"));
        return Vec::new();
    }
    // SAFETY: the mappings belong to the pools, which `registered` keeps alive until the ring is closed.
    #[allow(unsafe_code, reason = "the kernel is given addresses")]
    let result = unsafe { submitter.register_buffers(&iovecs) };
    match result {
        Ok(()) => {
            report.registered_bytes = bytes;
            registered
        }
        Err(error) => {
            let hint = match error.raw_os_error() {
                Some(libc::ENOMEM) => " (the limit of locked memory, `ulimit -l`, must be at least that)",
                _ => "",
            };
            report.unregistered_reason = Some(format!("{bytes} bytes of I/O memory: {error}{hint}"));
            Vec::new()
        }
    }
}

/// Keeps the kernel's workers off the shards' cores, and bounds their number.
fn place_workers(
    submitter: &Submitter<'_>,
    config: &UringConfig,
    report: &mut SetupReport,
) -> Result<(), SetupError> {
    let workers = config.workers_max.max(1);
    submitter.register_iowq_max_workers(&mut [workers, workers]).map_err(|source| SetupError::Missing {
        feature: "limits of worker threads (IORING_REGISTER_IOWQ_MAX_WORKERS)",
        since: "5.15",
        source,
    })?;
    // The calling thread may be pinned already; the process's first thread knows what is allowed.
    let cores: Vec<usize> = match cpu::allowed_to_process() {
        Ok(cores) => cores.into_iter().filter(|core| !config.shard_cores.contains(core)).collect(),
        Err(error) => {
            report.worker_cores_reason = Some(format!("sched_getaffinity: {error}"));
            return Ok(());
        }
    };
    if cores.is_empty() {
        report.worker_cores_reason = Some("every core has a shard".to_owned());
        return Ok(());
    }
    match submitter.register_iowq_aff(&cpu_set(&cores)) {
        Ok(()) => report.worker_cores = Some(cpu::ranges(&cores)),
        Err(error) => report.worker_cores_reason = Some(format!("IORING_REGISTER_IOWQ_AFF: {error}")),
    }
    Ok(())
}

#[allow(
    unsafe_code,
    reason = "libc's CPU sets have no safe constructor, and the io-uring crate wants libc's"
)]
fn cpu_set(cores: &[usize]) -> libc::cpu_set_t {
    // SAFETY: a CPU set is an array of integers, for which zero is valid; CPU_SET ignores cores beyond its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &core in cores.iter().filter(|&&core| core < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(core, &mut set);
        }
        set
    }
}

/// The kernel's answer as an error of ours.
pub(super) fn errno(error: &io::Error) -> crate::seam::Errno {
    crate::seam::Errno(error.raw_os_error().unwrap_or(libc::EIO))
}
