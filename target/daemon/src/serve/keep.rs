//! Where the clones' memory is: in the process, or in a file that outlives it, of a tmpfs or kept by the service manager.

use crate::Failure;
use anyhow::{Context, anyhow};
use sd_notify::NotifyState;
use stampede_control::config::{CloneKind, Config};
use stampede_control::images::Images;
use stampede_control::kept::{FILE_NAME, KeptArena, KeptFile, Known};
use stampede_control::plan::Plan;
use stampede_control::registrar::{Keeper, Survivor};
use stampede_control::scratch::ScratchFile;
use stampede_image::epoch::EpochRecord;
use stampede_image::scratch::Scratch;
use stampede_ring::file::OpenedFile;
use stampede_ring::{Pool, PoolConfig};
use std::sync::Arc;

/// Bytes of an overlay slot.
const ARENA_SLOT: u32 = 4096;

/// The overlays' memory.
pub(super) struct Arena {
    pub(super) pool: Arc<Pool>,
    /// What enters and what was found, if it outlives the process.
    pub(super) kept: Option<(Keeper, Vec<Survivor>)>,
}

/// Takes or finds the overlays' memory; next to none when there are no clones.
pub(super) fn arena(
    config: &Config,
    plan: &Plan,
    images: &Images,
    records: &[EpochRecord],
    scratch: Option<(&ScratchFile, &Scratch)>,
) -> Result<Arena, Failure> {
    let clones = config.targets.iter().any(|target| target.clone == CloneKind::Ephemeral);
    let slots = if clones { config.arena.0 / u64::from(ARENA_SLOT) } else { 1 };
    let slots = u32::try_from(slots)
        .map_err(|_| Failure::Usage(anyhow!("arena: {} is too large: use at most 15T", config.arena)))?;
    let Some(file) = file(config, clones)? else { return in_process(slots, records) };
    let golden = |(id, file): &(_, usize)| Some((*id, images.files().get(*file)?));
    let known = Known {
        records,
        targets: &plan.targets,
        goldens: plan.goldens.iter().filter_map(golden).map(|(id, file)| (id, identity(file))).collect(),
        scratch,
    };
    let arena = KeptArena::open(&file, slots, &known).map_err(Failure::usage)?;
    arena.pool.prefer_huge_pages();
    if arena.pool.slots() > slots {
        tracing::warn!(
            slots = arena.pool.slots(),
            "the arena stays as large as it was: clones of the run before have something behind the end of --arena"
        );
    }
    tell(&arena, records);
    let KeptArena { pool, keeper, survivors, .. } = arena;
    Ok(Arena { pool, kept: Some((keeper, survivors)) })
}

fn identity(file: &OpenedFile) -> stampede_ring::file::Identity {
    file.traits().identity
}

/// Memory that ends with the process.
fn in_process(slots: u32, records: &[EpochRecord]) -> Result<Arena, Failure> {
    let pool = Pool::new(PoolConfig { slot_len: ARENA_SLOT, slots })
        .context("cannot reserve the arena: give a smaller --arena")
        .map_err(Failure::Runtime)?;
    pool.prefer_huge_pages();
    if !records.is_empty() {
        tracing::warn!(
            epochs = records.len(),
            "the clones of an earlier run are gone: machines that still run on them are refused until they reboot. With \
             --arena-dir, or systemd's unit, clones outlive the process"
        );
    }
    Ok(Arena { pool, kept: None })
}

/// The recovery report.
fn tell(arena: &KeptArena, records: &[EpochRecord]) {
    let found = arena.survivors.len();
    let luns = arena.survivors.iter().flat_map(|survivor| survivor.luns.values());
    let slots: usize = luns.map(|lun| lun.slots.len()).sum();
    let without = records.len().saturating_sub(found);
    if found > 0 || arena.lost > 0 {
        tracing::info!(
            clones = found,
            held_bytes = slots as u64 * u64::from(ARENA_SLOT),
            freed = arena.lost,
            "clones of the run before go on; those freed had ended, or lack their golden, scratch space or epoch"
        );
    }
    if without > 0 {
        tracing::warn!(
            epochs = without,
            "machines of earlier epochs have no clone any more: those that still run are refused until they reboot"
        );
    }
}

/// The file that outlives the process, if there is to be one.
fn file(config: &Config, clones: bool) -> Result<Option<KeptFile>, Failure> {
    // Taken from the environment in any case, so that nobody else takes them for theirs.
    let inherited = inherited();
    if !clones {
        return Ok(None);
    }
    if let Some(folder) = &config.arena_dir {
        let open = || KeptFile::in_folder(folder);
        return super::patiently(open, |error| error.is_in_use()).map(Some).map_err(Failure::usage);
    }
    if std::env::var_os("NOTIFY_SOCKET").is_none() || config.state_dir.is_none() {
        return Ok(None);
    }
    if let Some(descriptor) = inherited {
        let open = || KeptFile::inherited(descriptor);
        return super::patiently(open, |error| error.is_in_use()).map(Some).map_err(Failure::runtime);
    }
    let file = KeptFile::unnamed().map_err(Failure::runtime)?;
    let state = [NotifyState::FdStore, NotifyState::FdName(FILE_NAME)];
    match sd_notify::notify_with_fds(&state, &[file.file().descriptor()]) {
        Ok(()) => tracing::info!("the clones' memory is in the service manager's descriptor store"),
        Err(error) => {
            tracing::warn!(%error, "the service manager does not take the clones' memory: clones end with the process");
            return Ok(None);
        }
    }
    Ok(Some(file))
}

/// The descriptor that the service manager has kept for us.
fn inherited() -> Option<i32> {
    let mut found = None;
    for (descriptor, name) in sd_notify::listen_fds_with_names().ok()? {
        if name == FILE_NAME && found.is_none() {
            found = Some(descriptor);
        } else {
            tracing::warn!(
                descriptor,
                name,
                "a descriptor of the service manager that means nothing to stampede"
            );
        }
    }
    found
}
