//! The device server of one logical unit: mutable state with one owner.

use crate::alua::{AccessState, Alua};
use crate::bitmap::Generations;
use crate::cdb::{self, Access, Command, Needs};
use crate::copy::{Copies, Rods};
use crate::draft::Pending;
use crate::medium::MediumAccess;
use crate::mode::ModeState;
use crate::reservations::{Reservations, TransportId};
use crate::sanitize::Sanitization;
use crate::saved::SavedState;
use crate::sense::{self, Sense, SenseFormat};
use crate::thresholds::Told;
use crate::unit_attention::{Attentions, UnitAttention};
use crate::{DeviceConfig, Media, MediaError, NexusId, Reply, Status, Step};
use std::collections::BTreeMap;

/// What a row of the command table does.
pub(crate) type Handler = fn(&mut Device, &Request<'_>) -> Result<Step, Sense>;

/// One command on its way through its handler.
pub(crate) struct Request<'a> {
    /// Who sent it.
    pub(crate) nexus: NexusId,
    /// The command descriptor block, padded with zeroes.
    pub(crate) cdb: &'a [u8; 16],
    /// Its row in the table.
    pub(crate) command: &'static Command,
    /// Bytes of data-out the initiator gives.
    pub(crate) data_out_len: u32,
    /// The gathered parameter list.
    pub(crate) param: &'a [u8],
}

/// One I_T nexus as the unit sees it.
#[derive(Debug)]
pub(crate) struct Nexus {
    /// Who the initiator port is.
    pub(crate) transport: TransportId,
    /// What it must hear about.
    pub(crate) attentions: Attentions,
    /// It has prevented the removal of the medium.
    pub(crate) prevents_removal: bool,
    /// Its transport carries the functions of RFC 7144.
    pub(crate) queries: bool,
}

/// The device server of one logical unit. One owner: every command, reset and change of the unit goes through it.
///
/// Memory: one small record for each attached nexus and for each persistent registration (both bounded: the first by
/// the engine's sessions, the second by [`REGISTRATIONS_MAX`](crate::REGISTRATIONS_MAX)).
#[derive(Debug)]
pub struct Device {
    pub(crate) config: DeviceConfig,
    pub(crate) mode: ModeState,
    pub(crate) saved_mode: ModeState,
    pub(crate) access: AccessState,
    pub(crate) nexuses: BTreeMap<NexusId, Nexus>,
    pub(crate) reservations: Reservations,
    /// A change on its way to the store.
    pub(crate) pending: Option<Box<Pending>>,
    /// What the store has.
    pub(crate) durable_state: Vec<u8>,
    pub(crate) medium: MediumAccess,
    /// What is remembered of sanitize operations; `medium` follows it.
    pub(crate) sanitization: Sanitization,
    /// What third-party copies have done.
    pub(crate) copies: Copies,
    /// Tokens that stand for blocks of the unit.
    pub(crate) rods: Rods,
    /// The generations of its bitmaps.
    pub(crate) generations: Generations,
    /// What was told of thresholds on its space.
    pub(crate) told: Told,
}

impl Device {
    /// A logical unit that has just been powered on, with no nexus attached.
    pub fn new(config: DeviceConfig) -> Self {
        Self::restored(config, SavedState::default())
    }

    /// A logical unit that has just been powered on, with what it had saved before: registrations and reservation
    /// with APTPL, mode pages, the asymmetric access state, a sanitize operation under way
    /// ([`Device::sanitizing`]) or failed.
    pub fn restored(config: DeviceConfig, saved: SavedState) -> Self {
        let mode = saved.pages.state(&config);
        // Where initiators may not change it, none may have left it so that nobody can.
        let access = saved.access.filter(|_| config.alua == Alua::Explicit).unwrap_or_default();
        Self {
            config,
            mode,
            saved_mode: mode,
            access,
            nexuses: BTreeMap::new(),
            reservations: Reservations::restored(saved.persistent),
            pending: None,
            durable_state: saved.bytes,
            medium: saved.sanitization.access(),
            sanitization: saved.sanitization,
            copies: Copies::default(),
            rods: Rods::default(),
            generations: Generations::default(),
            told: Told::default(),
        }
    }

    /// What the unit was made from; `blocks` follows [`Device::resize`].
    pub fn config(&self) -> &DeviceConfig {
        &self.config
    }

    /// Adds an I_T nexus (a session that has logged in) and establishes 29h/00h for it. A nexus that is attached
    /// already starts anew. `transport_id` ties it to its persistent registration.
    pub fn attach(&mut self, nexus: NexusId, transport_id: TransportId) {
        self.detach(nexus);
        let mut attentions = Attentions::default();
        attentions.raise(UnitAttention::PowerOnOrReset);
        self.nexuses.insert(
            nexus,
            Nexus { transport: transport_id, attentions, prevents_removal: false, queries: false },
        );
        self.tell_thresholds_to(nexus);
    }

    /// The transport of `nexus` carries QUERY TASK, QUERY TASK SET, I_T NEXUS RESET and QUERY ASYNCHRONOUS EVENT, so
    /// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS names them.
    pub fn carry_queries(&mut self, nexus: NexusId) {
        if let Some(nexus) = self.nexuses.get_mut(&nexus) {
            nexus.queries = true;
        }
    }

    /// QUERY ASYNCHRONOUS EVENT (SAM-5 7.10): the additional response information of the most urgent unit attention that
    /// is pending for `nexus`, and stays so. `None` when none is.
    pub fn pending_event(&self, nexus: NexusId) -> Option<[u8; 3]> {
        /// UADE DEPTH: there is one, or there are more.
        const DEPTH: [u8; 2] = [0x10, 0x20];
        let (attention, more) = self.nexuses.get(&nexus)?.attentions.first()?;
        let sense = attention.sense();
        Some([DEPTH[usize::from(more)] | sense.key as u8, sense.asc, sense.ascq])
    }

    /// Removes an I_T nexus (its session has ended): its RESERVE is released, its persistent registration stays.
    pub fn detach(&mut self, nexus: NexusId) {
        self.reservations.nexus_gone(nexus);
        self.copies.nexus_gone(nexus);
        self.nexuses.remove(&nexus);
    }

    /// Whether `nexus` is attached and no other is.
    pub fn is_alone(&self, nexus: NexusId) -> bool {
        self.nexuses.len() == 1 && self.nexuses.contains_key(&nexus)
    }

    /// Starts one command of `nexus`.
    ///
    /// `data_out_len` is the number of data-out bytes the initiator gives (its expected data transfer length for a
    /// write, else 0). A WRITE, WRITE AND VERIFY, ORWRITE or comparing VERIFY with less than its CDB asks for is cut
    /// to whole blocks; WRITE SAME and COMPARE AND WRITE must have exactly what they need. Of ORWRITE(32) `param` is its
    /// generations, 8 bytes ([`cdb::generations`](crate::cdb::generations)); else it is the gathered parameter list where [`cdb::takes_parameter_list`](crate::cdb::takes_parameter_list) says so, else empty.
    ///
    /// The order is SAM-5 5.3.3's: unit attention, unknown operation code, reservation conflict, then the command's
    /// own checks. READ and WRITE do not allocate.
    pub fn start(&mut self, nexus: NexusId, cdb: &[u8; 16], data_out_len: u32, param: &[u8]) -> Step {
        let mut step =
            self.dispatch(nexus, cdb, data_out_len, param).unwrap_or_else(|sense| Step::Done(sense.into()));
        if let Step::Done(Reply { sense: Some(sense), .. }) = &mut step {
            sense.format = self.mode.sense_format();
        }
        step
    }

    fn dispatch(
        &mut self,
        nexus: NexusId,
        cdb: &[u8; 16],
        data_out_len: u32,
        param: &[u8],
    ) -> Result<Step, Sense> {
        let found = cdb::find(cdb).filter(|command| self.offers(command));
        if !found.is_some_and(|command| ignores_attention(command.opcode())) {
            self.report_attention(nexus)?;
        }
        let Some(command) = found else { return Err(self.unknown(cdb)) };
        self.perform(command, nexus, cdb, data_out_len, param)
    }

    /// Starts a command that asks for no parameter list, whatever unit attentions are pending.
    pub(crate) fn start_regardless(&mut self, nexus: NexusId, cdb: &[u8; 16], data_out_len: u32) -> Step {
        let found = cdb::find(cdb).filter(|command| self.offers(command));
        let step = match found {
            Some(command) => self.perform(command, nexus, cdb, data_out_len, &[]),
            None => Err(self.unknown(cdb)),
        };
        match step.unwrap_or_else(|sense| Step::Done(sense.into())) {
            Step::Done(reply) => Step::Done(self.formatted(reply)),
            step => step,
        }
    }

    #[inline(always)]
    fn perform(
        &mut self,
        command: &'static Command,
        nexus: NexusId,
        cdb: &[u8; 16],
        data_out_len: u32,
        param: &[u8],
    ) -> Result<Step, Sense> {
        if naca(command, cdb) {
            return Err(Sense::invalid_cdb(command.control_byte(), Some(2)));
        }
        if self.access.restricts() {
            self.access.check(command)?;
        }
        let access = access_of(command, cdb);
        if self.conflicts(nexus, access) {
            return Ok(Step::Done(Reply::status(Status::ReservationConflict)));
        }
        if self.medium != MediumAccess::Ready {
            self.medium.check(command, cdb)?;
        }
        if access == Access::WriteMedium {
            self.check_writable()?;
        }
        let step = (command.run)(self, &Request { nexus, cdb, command, data_out_len, param })
            .map_err(|sense| command.point_at_length(sense))?;
        if self.rods.any_live()
            && let Step::Media(media) = &step
            && media.writes()
        {
            self.revoke_tokens(media);
        }
        Ok(step)
    }

    /// Whether the unit has the ability the command belongs to.
    pub(crate) fn offers(&self, command: &Command) -> bool {
        match command.needs {
            Needs::Nothing => true,
            Needs::Thin => self.config.thin,
            Needs::Encryption => self.config.encrypted,
            Needs::Alua => self.config.alua != Alua::Off,
            Needs::ExplicitAlua => self.config.alua == Alua::Explicit,
            Needs::CompareWrite => self.config.max_compare_write_blocks > 0,
            Needs::Atomic => self.config.max_atomic_blocks > 0,
        }
    }

    /// Takes the most urgent unit attention of `nexus`, if there is one, as an error.
    fn report_attention(&mut self, nexus: NexusId) -> Result<(), Sense> {
        let attention = self.nexuses.get_mut(&nexus).and_then(|nexus| nexus.attentions.take());
        let Some(attention) = attention else { return Ok(()) };
        self.threshold_heard(attention);
        Err(attention.sense())
    }

    /// An operation code or a service action that is not ours.
    fn unknown(&self, cdb: &[u8; 16]) -> Sense {
        if cdb[0] == cdb::LONG {
            return match cdb::unknown(cdb) {
                cdb::Unknown::TypeTwoOnly => sense::INVALID_OPERATION_CODE.with_cdb_field(0, Some(7)),
                cdb::Unknown::Action => Sense::invalid_cdb(8, Some(7)),
                cdb::Unknown::Length => Sense::invalid_cdb(7, Some(7)),
            };
        }
        let opcode_offered =
            cdb::COMMANDS.iter().any(|command| command.opcode() == cdb[0] && self.offers(command));
        if cdb::opcode_is_known(cdb[0]) && opcode_offered {
            Sense::invalid_cdb(1, Some(4))
        } else {
            sense::INVALID_OPERATION_CODE.with_cdb_field(0, Some(7))
        }
    }

    /// From now on nothing may be written: the engine could not keep what it promises.
    pub fn write_protect(&mut self) {
        self.config.read_only = true;
    }

    fn conflicts(&self, nexus: NexusId, access: Access) -> bool {
        if access == Access::Always || self.reservations.are_none() {
            return false;
        }
        let transport = self.nexuses.get(&nexus).map(|nexus| &nexus.transport);
        self.reservations.conflict(nexus, transport, access)
    }

    fn check_writable(&self) -> Result<(), Sense> {
        if self.config.read_only {
            Err(sense::WRITE_PROTECTED)
        } else if self.mode.software_write_protect() {
            Err(sense::SOFTWARE_WRITE_PROTECTED)
        } else {
            Ok(())
        }
    }

    /// The reply of medium work that failed, in the sense data format that D_SENSE selects.
    pub fn media_failed(&self, error: &MediaError, media: &Media) -> Reply {
        self.formatted(crate::media_failed(error, media))
    }

    /// The sense data format that D_SENSE selects.
    pub fn sense_format(&self) -> SenseFormat {
        self.mode.sense_format()
    }

    /// Whether there is a volatile write cache in use (WCE).
    pub fn write_cache_enabled(&self) -> bool {
        self.mode.write_cache()
    }

    /// Whether the unit answers writes with DATA PROTECT: it is read-only or SWP is one.
    pub fn write_protected(&self) -> bool {
        self.check_writable().is_err()
    }

    /// Hard reset or target reset (SAM-5 6.3.2): mode parameters return to their saved values, RESERVE is
    /// released, every nexus gets 29h/02h.
    pub fn reset(&mut self) {
        self.reset_with(UnitAttention::BusReset);
    }

    /// LOGICAL UNIT RESET asked for by `nexus` (SAM-5 6.3.3): as [`Device::reset`], but with 29h/03h, for every
    /// nexus including the asking one.
    pub fn reset_by(&mut self, nexus: NexusId) {
        let _ = nexus;
        self.reset_with(UnitAttention::DeviceReset);
    }

    /// A power on event that cost nothing but the sessions (TARGET COLD RESET): as [`Device::reset`], but with 29h/01h.
    /// Nothing has lost power, so persistent reservations without APTPL stay too: no initiator can lift a fence by it.
    pub fn power_on_reset(&mut self) {
        self.reset_with(UnitAttention::PowerOn);
    }

    fn reset_with(&mut self, attention: UnitAttention) {
        // A reset of the unit alone leaves the generations (SBC-4 4.27.3).
        if attention != UnitAttention::DeviceReset {
            self.generations.reset();
        }
        self.mode = self.saved_mode;
        self.reservations.reset();
        self.copies.reset();
        self.rods.reset();
        for nexus in self.nexuses.values_mut() {
            nexus.prevents_removal = false;
            nexus.attentions.raise(attention);
        }
        self.tell_thresholds_anew();
    }

    /// I_T nexus loss (SAM-5 6.3.4): the nexus stays attached, its RESERVE is released, it no longer prevents the
    /// removal of the medium, it gets 29h/07h.
    pub fn nexus_lost(&mut self, nexus: NexusId) {
        self.reservations.nexus_gone(nexus);
        if let Some(nexus) = self.nexuses.get_mut(&nexus) {
            nexus.prevents_removal = false;
        }
        self.raise(nexus, UnitAttention::NexusLoss);
    }

    /// CLEAR TASK SET by `nexus` ended tasks of `victims`: each of them but `nexus` gets 2Fh/00h.
    pub fn tasks_cleared_by(&mut self, nexus: NexusId, victims: &[NexusId]) {
        for victim in victims.iter().filter(|victim| **victim != nexus) {
            self.raise(*victim, UnitAttention::CommandsCleared);
        }
    }

    /// The capacity is now `blocks` logical blocks: every nexus gets 2Ah/09h if that is a change.
    pub fn resize(&mut self, blocks: u64) {
        if self.config.blocks != blocks {
            self.config.blocks = blocks;
            self.rods.all_changed();
            self.raise_all(UnitAttention::CapacityChanged);
        }
    }

    /// What `nexus` sees of the target beside this unit has changed: it gets 3Fh/0Eh (SPC-4 6.33).
    pub fn luns_changed(&mut self, nexus: NexusId) {
        self.raise(nexus, UnitAttention::LunsChanged);
    }

    /// Whether a reservation stands, or a nexus prevents the removal of the medium: somebody counts on the unit.
    pub fn is_counted_on(&self) -> bool {
        !self.reservations.are_none() || self.removal_is_prevented()
    }

    /// `nexus` was sent the LUN list: a pending 3Fh/0Eh is dropped (SPC-4 6.33).
    pub fn luns_reported(&mut self, nexus: NexusId) {
        if let Some(nexus) = self.nexuses.get_mut(&nexus) {
            nexus.attentions.drop_one(UnitAttention::LunsChanged);
        }
    }

    /// Establishes a unit attention for one nexus.
    pub(crate) fn raise(&mut self, nexus: NexusId, attention: UnitAttention) {
        if let Some(nexus) = self.nexuses.get_mut(&nexus) {
            nexus.attentions.raise(attention);
        }
    }

    /// Establishes a unit attention for every nexus.
    pub(crate) fn raise_all(&mut self, attention: UnitAttention) {
        self.nexuses.values_mut().for_each(|nexus| nexus.attentions.raise(attention));
    }

    /// Establishes a unit attention for every nexus but `except`.
    pub(crate) fn raise_others(&mut self, except: NexusId, attention: UnitAttention) {
        for (_, nexus) in self.nexuses.iter_mut().filter(|(id, _)| **id != except) {
            nexus.attentions.raise(attention);
        }
    }

    /// Establishes a unit attention for every nexus of these initiator ports but `except`.
    pub(crate) fn raise_ports(&mut self, ports: &[TransportId], except: NexusId, attention: UnitAttention) {
        for (_, nexus) in self.nexuses.iter_mut().filter(|(id, _)| **id != except) {
            if ports.contains(&nexus.transport) {
                nexus.attentions.raise(attention);
            }
        }
    }
}

/// INQUIRY, REPORT LUNS and REQUEST SENSE are done with a unit attention pending (SAM-5 5.14.7).
fn ignores_attention(opcode: u8) -> bool {
    matches!(opcode, 0x03 | 0x12 | 0xA0)
}

/// Whether NACA is one in the CONTROL byte: auto contingent allegiance is not supported (SAM-5 5.2).
fn naca(command: &Command, cdb: &[u8; 16]) -> bool {
    // The last byte; of a long CDB, whose short form this is, too.
    cdb[(command.usage.len() - 1) % 16] & 0x04 != 0
}

/// The command's access; START STOP UNIT and PREVENT ALLOW depend on their CDB (SPC-4 table 65, SBC-3 table 13).
fn access_of(command: &Command, cdb: &[u8; 16]) -> Access {
    let harmless = match cdb[0] {
        // START is one and POWER CONDITION is zero.
        0x1B => cdb[4] & 0xF1 == 0x01,
        // PREVENT is zero.
        0x1E => cdb[4] & 0x03 == 0,
        _ => false,
    };
    if harmless { Access::Free } else { command.access }
}
