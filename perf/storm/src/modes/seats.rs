//! A shard's sessions: logging in, a few at a time, until each one's unit is ready; again when one is lost.

use super::record::{Errors, Figures};
use crate::endpoint::Endpoint;
use crate::failure::{Failure, advice};
use stampede_initiator::{
    Client, ClientConfig, Command, Completed, Ending, Event, Sense, SessionId, Transfer, cdb,
};
use std::collections::VecDeque;

/// Logins at once.
const LOGINS_MAX: usize = 64;
/// After a lost session, before the next try.
const RETRY_NS: u64 = 500_000_000;
/// Unit attentions and busy answers before a unit counts as not ready.
const TRIES_MAX: u32 = 50;
/// How long a target may keep a window closed after the login.
const CLOSED_NS: u64 = 10_000_000_000;
/// The tag of TEST UNIT READY; no operation of a mode has it.
const READY_TAG: u64 = u64::MAX;

/// Where a seat's session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Waits for its turn, at this time at the earliest.
    Waiting {
        from_ns: u64,
    },
    LoggingIn,
    /// TEST UNIT READY is under way, for the nth time.
    Testing {
        tries: u32,
    },
    /// The target's command window has been closed since.
    Closed {
        since_ns: u64,
        tries: u32,
    },
    Ready,
    /// It shall not come back.
    Gone,
}

/// One session's place, which outlives the session.
#[derive(Debug)]
struct Seat {
    /// The session's number in the whole run.
    number: u32,
    state: State,
    id: Option<SessionId>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Seats {
    pub(crate) client: Client,
    endpoint: Endpoint,
    depth: u16,
    seats: Vec<Seat>,
    /// Seat by the session's place in the client.
    by_place: Vec<u32>,
    waiting: VecDeque<u32>,
    /// Seats whose window is closed.
    closed: Vec<usize>,
    logging_in: usize,
    ready: usize,
    /// Lost sessions log in again; before that, in the beginning, one is a failure.
    keeps_going: bool,
    /// Lost sessions are no errors.
    forgives: bool,
    /// Lost sessions so far.
    pub(crate) lost: u64,
}

/// What an event means to a mode.
#[derive(Debug)]
pub(crate) enum News {
    /// This seat's unit is ready: commands may go.
    Ready { seat: usize },
    /// A command of the mode's own is over.
    Completed { seat: usize, completed: Completed },
    /// Nothing for a mode.
    None,
}

impl Seats {
    /// Seats for sessions `numbers`, none of which has begun to log in.
    pub(crate) fn new(
        endpoint: &Endpoint,
        numbers: std::ops::Range<u32>,
        depth: u16,
    ) -> Result<Self, Failure> {
        let count = numbers.len();
        // Closing sessions keep their sockets for a moment while new ones log in.
        let sessions_max = u32::try_from(count * 2).map_err(Failure::runtime)?;
        let client = Client::new(&ClientConfig::new(sessions_max)).map_err(Failure::runtime)?;
        let seat = |number| Seat { number, state: State::Waiting { from_ns: 0 }, id: None };
        Ok(Self {
            client,
            endpoint: endpoint.clone(),
            depth,
            seats: numbers.map(seat).collect(),
            by_place: Vec::new(),
            waiting: (0..count as u32).collect(),
            closed: Vec::new(),
            logging_in: 0,
            ready: 0,
            keeps_going: false,
            forgives: false,
            lost: 0,
        })
    }

    /// The session's number of a seat.
    pub(crate) fn number(&self, seat: usize) -> u32 {
        self.seats[seat].number
    }

    /// The session of a seat whose unit is ready.
    #[inline]
    pub(crate) fn session(&self, seat: usize) -> Option<SessionId> {
        let seat = &self.seats[seat];
        if seat.state == State::Ready { seat.id } else { None }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready == self.seats.len()
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready
    }

    /// Pings of the target that the present sessions have answered.
    pub(crate) fn pings_answered(&self) -> u64 {
        self.seats.iter().filter_map(|seat| seat.id).map(|id| self.client.pings_answered(id)).sum()
    }

    /// From now on a lost session logs in again.
    pub(crate) fn keep_going(&mut self) {
        self.keeps_going = true;
    }

    /// From now on a lost session is no error either.
    pub(crate) fn forgive(&mut self) {
        self.forgives = true;
    }

    /// Begins logins that are due.
    ///
    /// # Errors
    /// No sockets to be had, or a target that takes no command after the login.
    pub(crate) fn log_in(&mut self) -> Result<(), Failure> {
        self.test_closed()?;
        let now_ns = self.client.now_ns();
        while self.logging_in < LOGINS_MAX {
            let Some(&seat) = self.waiting.front() else { return Ok(()) };
            let index = seat as usize;
            if matches!(self.seats[index].state, State::Waiting { from_ns } if from_ns > now_ns) {
                return Ok(());
            }
            self.waiting.pop_front();
            let config = self.endpoint.session(self.seats[index].number, self.depth);
            let id = self.client.connect(self.endpoint.portal, config).map_err(Failure::runtime)?;
            self.seats[index].id = Some(id);
            self.seats[index].state = State::LoggingIn;
            self.logging_in += 1;
            if self.by_place.len() <= id.index() {
                self.by_place.resize(id.index() + 1, u32::MAX);
            }
            self.by_place[id.index()] = seat;
        }
        Ok(())
    }

    /// Tries those again whose window was closed.
    fn test_closed(&mut self) -> Result<(), Failure> {
        for seat in std::mem::take(&mut self.closed) {
            let Seat { number, state: State::Closed { since_ns, tries }, id: Some(id) } = self.seats[seat]
            else {
                continue;
            };
            if self.client.now_ns().saturating_sub(since_ns) > CLOSED_NS {
                return Err(Failure::Runtime(format!(
                    "session {number}: the target lets it in and then keeps its command window closed: fewer \
                     --sessions may help"
                )));
            }
            self.test(seat, id, tries);
        }
        Ok(())
    }

    /// Takes an event in. Losses that are not forgiven yet are failures.
    ///
    /// # Errors
    /// A session cannot be had, and what to do.
    #[inline]
    pub(crate) fn hear(&mut self, event: Event, figures: &mut Figures) -> Result<News, Failure> {
        match event {
            Event::Completed(completed) => {
                let Some(seat) = self.seat_of(completed.session) else { return Ok(News::None) };
                if completed.tag == READY_TAG {
                    return self.tested(seat, &completed);
                }
                Ok(News::Completed { seat, completed })
            }
            Event::LoggedIn { session, times } => {
                figures.logins.record(&times, None);
                self.logging_in -= 1;
                if let Some(seat) = self.seat_of(session) {
                    self.test(seat, session, 0);
                }
                Ok(News::None)
            }
            Event::LogoutRequested { session } => {
                self.client.logout(session);
                Ok(News::None)
            }
            Event::Ended { session, ending } => self.ended(session, &ending, &mut figures.errors),
        }
    }

    #[inline]
    fn seat_of(&self, session: SessionId) -> Option<usize> {
        let seat = *self.by_place.get(session.index())? as usize;
        (self.seats.get(seat)?.id == Some(session)).then_some(seat)
    }

    fn test(&mut self, seat: usize, session: SessionId, tries: u32) {
        let before = self.seats[seat].state;
        self.seats[seat].state = State::Testing { tries };
        let command = Command {
            lun: self.endpoint.lun,
            cdb: cdb::test_unit_ready(),
            transfer: Transfer::None,
            tag: READY_TAG,
        };
        if self.client.submit(session, command).is_err() {
            let since_ns = match before {
                State::Closed { since_ns, .. } => since_ns,
                _ => self.client.now_ns(),
            };
            self.seats[seat].state = State::Closed { since_ns, tries };
            self.closed.push(seat);
        }
    }

    fn tested(&mut self, seat: usize, completed: &Completed) -> Result<News, Failure> {
        let State::Testing { tries } = self.seats[seat].state else { return Ok(News::None) };
        if completed.outcome.is_good() {
            self.seats[seat].state = State::Ready;
            self.ready += 1;
            return Ok(News::Ready { seat });
        }
        let is_attention = completed.outcome.sense().is_some_and(|sense| sense.key == Sense::UNIT_ATTENTION);
        if completed.outcome == stampede_initiator::Outcome::Lost {
            // The session's end follows.
            return Ok(News::None);
        }
        if tries >= TRIES_MAX || !(is_attention || self.keeps_going) {
            return Err(Failure::Runtime(format!(
                "session {}: the unit is not ready: {}",
                self.seats[seat].number, completed.outcome
            )));
        }
        self.test(seat, completed.session, tries + 1);
        Ok(News::None)
    }

    fn ended(&mut self, session: SessionId, ending: &Ending, errors: &mut Errors) -> Result<News, Failure> {
        let Some(seat) = self.seat_of(session) else { return Ok(News::None) };
        let number = self.seats[seat].number;
        match self.seats[seat].state {
            State::LoggingIn => self.logging_in -= 1,
            State::Ready => self.ready -= 1,
            _ => {}
        }
        self.seats[seat].id = None;
        if let Ending::Lost(_) = ending {
            let Endpoint { portal, target, .. } = &self.endpoint;
            let why = advice(ending, *portal, target, &self.endpoint.initiator_name(number));
            if !self.keeps_going {
                return Err(Failure::Runtime(format!("session {number}: {why}")));
            }
            self.lost += 1;
            if !self.forgives {
                errors.add(|| format!("session {number}: {why}"));
            }
        }
        if self.seats[seat].state != State::Gone {
            let from_ns = self.client.now_ns() + RETRY_NS;
            self.seats[seat].state = State::Waiting { from_ns };
            self.waiting.push_back(seat as u32);
        }
        Ok(News::None)
    }

    /// Logs all sessions out and waits for their ends. A target that closes the connection instead of answering the
    /// Logout is remarked on, and no more: every command was answered before, so nothing failed.
    ///
    /// # Errors
    /// The ring is broken.
    pub(crate) fn log_out(&mut self, figures: &mut Figures) -> Result<(), Failure> {
        self.waiting.clear();
        let mut events = Vec::new();
        for seat in &mut self.seats {
            if let Some(id) = seat.id {
                match seat.state {
                    State::Ready | State::Testing { .. } | State::Closed { .. } => self.client.logout(id),
                    _ => self.client.close(id, &mut events),
                }
            }
            seat.state = State::Gone;
        }
        let begun_ns = self.client.now_ns();
        let mut rude = 0_u32;
        loop {
            for event in events.drain(..) {
                if let Event::Ended { ending, .. } = event {
                    let took_ns = self.client.now_ns().saturating_sub(begun_ns);
                    match ending {
                        Ending::LoggedOut => figures.logins.logout.record_ns(took_ns),
                        Ending::Closed => {}
                        Ending::Lost(reason) => {
                            rude += 1;
                            if rude == 1 {
                                eprintln!("storm: a Logout was not answered: {reason}");
                            }
                        }
                    }
                }
            }
            if self.client.sessions() == 0 {
                return Ok(());
            }
            self.client.turn(self.client.now_ns() + RETRY_NS, &mut events)?;
        }
    }
}
