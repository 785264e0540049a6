//! One thread of logins.
//!
//! With a rate, logins are due at fixed times whatever became of earlier ones; one that finds no free place waits, and
//! its wait counts, so that a slow target cannot slow its own measurement down.

use crate::endpoint::Endpoint;
use crate::failure::{Failure, advice};
use crate::modes::record::Figures;
use crate::run::{Control, Times};
use stampede_initiator::{Client, ClientConfig, Ending, Event, LoginTimes, SessionId};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// How long a turn may wait when nothing else is due.
const TURN_NS: u64 = 20_000_000;
/// The same until the run begins.
const SHORT_TURN_NS: u64 = 1_000_000;
/// A place whose login failed is used again after this time.
const RETRY_NS: u64 = 100_000_000;

/// What a shard is to do.
#[derive(Debug)]
pub(crate) struct LoginPlan {
    pub(crate) endpoint: Endpoint,
    /// Numbers of its sessions: its places.
    pub(crate) numbers: Range<u32>,
    /// Logins to begin; `u64::MAX` for as many as there are.
    pub(crate) budget: u64,
    /// Between the beginnings of two logins.
    pub(crate) interval_ns: Option<u64>,
    /// Between login and logout.
    pub(crate) hold_ns: u64,
}

/// A place with a session.
#[derive(Clone, Copy, Debug)]
struct Login {
    place: usize,
    id: SessionId,
    /// From when it was due to when it began.
    waited_ns: u64,
    /// When its logout was sent.
    logout_ns: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LoginShard<'a> {
    control: &'a Control,
    plan: LoginPlan,
    client: Client,
    /// By the session's place in the client.
    logins: Vec<Option<Login>>,
    /// Free places, and when each may be used.
    free: VecDeque<(u64, usize)>,
    /// Sessions to log out, and when.
    holding: VecDeque<(u64, SessionId)>,
    /// When the next login is due.
    due_ns: Option<u64>,
    begun: u64,
    times: Times,
    is_done: bool,
    figures: Figures,
}

impl<'a> LoginShard<'a> {
    /// Sets the shard up on this thread.
    ///
    /// # Errors
    /// No ring or no memory.
    pub(crate) fn new(plan: LoginPlan, control: &'a Control) -> Result<Self, Failure> {
        // Sessions that end keep their sockets for a moment while new ones log in.
        let sessions_max = u32::try_from(plan.numbers.len() * 2).map_err(Failure::runtime)?;
        let client = Client::new(&ClientConfig::new(sessions_max)).map_err(Failure::runtime)?;
        let free = (0..plan.numbers.len()).map(|place| (0, place)).collect();
        Ok(Self {
            control,
            plan,
            client,
            logins: Vec::new(),
            free,
            holding: VecDeque::new(),
            due_ns: None,
            begun: 0,
            times: control.times(),
            is_done: false,
            figures: Figures::default(),
        })
    }

    /// The whole run of this shard.
    ///
    /// # Errors
    /// No sockets to be had, or the ring is broken.
    pub(crate) fn run(mut self) -> Result<Figures, Failure> {
        let mut events = Vec::with_capacity(256);
        self.control.shard_ready();
        loop {
            self.client.turn(self.deadline(), &mut events)?;
            let now_ns = self.client.now_ns();
            self.times = self.control.times();
            for event in events.drain(..) {
                self.hear(event, now_ns);
            }
            while let Some((_, session)) = self.holding.pop_front_if(|(due_ns, _)| *due_ns <= now_ns) {
                self.log_out(session, now_ns);
            }
            if self.control.is_cancelled() || now_ns >= self.times.until_ns {
                break;
            }
            if now_ns >= self.times.begin_ns {
                self.begin(now_ns)?;
                if !self.is_done && self.begun == self.plan.budget && self.client.sessions() == 0 {
                    self.is_done = true;
                    self.control.shard_done();
                }
            }
        }
        self.end(&mut events)?;
        Ok(self.figures)
    }

    fn deadline(&self) -> u64 {
        let now_ns = self.client.now_ns();
        if self.times.begin_ns > now_ns || self.is_done {
            return now_ns + SHORT_TURN_NS;
        }
        let next_logout = self.holding.front().map_or(u64::MAX, |(due_ns, _)| *due_ns);
        let next_login = self.due_ns.filter(|_| !self.free.is_empty()).unwrap_or(u64::MAX);
        let next_free = self.free.front().map_or(u64::MAX, |(from_ns, _)| *from_ns).max(now_ns);
        let next_login = if self.due_ns.is_some() { next_login } else { next_free };
        (now_ns + TURN_NS).min(next_logout).min(next_login).min(self.times.until_ns)
    }

    /// Begins logins that are due, as long as there are free places.
    fn begin(&mut self, now_ns: u64) -> Result<(), Failure> {
        while self.begun < self.plan.budget {
            let due_ns = match self.plan.interval_ns {
                Some(_) => *self.due_ns.get_or_insert(self.times.begin_ns),
                None => now_ns,
            };
            if due_ns > now_ns {
                return Ok(());
            }
            let Some((_, place)) = self.free.pop_front_if(|(from_ns, _)| *from_ns <= now_ns) else {
                return Ok(());
            };
            // Below the end of `numbers`.
            let number = self.plan.numbers.start + place as u32;
            let config = self.plan.endpoint.session(number, 1);
            let id = self.client.connect(self.plan.endpoint.portal, config).map_err(Failure::runtime)?;
            if self.logins.len() <= id.index() {
                self.logins.resize(id.index() + 1, None);
            }
            let waited_ns = self.client.now_ns().saturating_sub(due_ns);
            self.logins[id.index()] = Some(Login { place, id, waited_ns, logout_ns: None });
            self.begun += 1;
            self.due_ns = self.plan.interval_ns.map(|interval_ns| due_ns + interval_ns);
        }
        Ok(())
    }

    fn hear(&mut self, event: Event, now_ns: u64) {
        match event {
            Event::LoggedIn { session, times } => self.logged_in(session, &times, now_ns),
            Event::LogoutRequested { session } => self.log_out(session, now_ns),
            Event::Ended { session, ending } => self.ended(session, &ending, now_ns),
            Event::Completed(_) => {}
        }
    }

    fn login(&mut self, session: SessionId) -> Option<&mut Login> {
        self.logins.get_mut(session.index())?.as_mut().filter(|login| login.id == session)
    }

    fn logged_in(&mut self, session: SessionId, times: &LoginTimes, now_ns: u64) {
        let Some(&mut Login { waited_ns, .. }) = self.login(session) else { return };
        if now_ns < self.times.until_ns {
            let by_rate = self.plan.interval_ns.is_some();
            self.figures.logins.record(times, by_rate.then_some(waited_ns));
            self.figures.second(now_ns.saturating_sub(self.times.from_ns), 0);
            self.control.publish(1, 0);
        }
        self.control.logged_in.fetch_add(1, Ordering::Relaxed);
        if self.plan.hold_ns == 0 {
            self.log_out(session, now_ns);
        } else {
            self.holding.push_back((now_ns + self.plan.hold_ns, session));
        }
    }

    fn log_out(&mut self, session: SessionId, now_ns: u64) {
        if let Some(login) = self.login(session)
            && login.logout_ns.is_none()
        {
            login.logout_ns = Some(now_ns);
            self.client.logout(session);
        }
    }

    fn ended(&mut self, session: SessionId, ending: &Ending, now_ns: u64) {
        let Some(Login { place, logout_ns, .. }) = self.login(session).copied() else { return };
        self.logins[session.index()] = None;
        let number = self.plan.numbers.start + place as u32;
        let mut from_ns = now_ns;
        match (ending, logout_ns) {
            (Ending::LoggedOut, Some(sent_ns)) => {
                self.figures.logins.logout.record_ns(now_ns.saturating_sub(sent_ns));
            }
            (Ending::Closed, _) => {}
            _ => {
                let Endpoint { portal, target, .. } = &self.plan.endpoint;
                let name = self.plan.endpoint.initiator_name(number);
                self.figures.errors.add(|| advice(ending, *portal, target, &name));
                from_ns += RETRY_NS;
            }
        }
        self.free.push_back((from_ns, place));
    }

    /// Logs everybody out who is in, and closes what is still logging in.
    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), Failure> {
        for Login { id, logout_ns, .. } in self.logins.clone().into_iter().flatten() {
            if self.client.is_logged_in(id) {
                self.log_out(id, self.client.now_ns());
            } else if logout_ns.is_none() {
                self.client.close(id, events);
            }
        }
        while self.client.sessions() > 0 {
            self.client.turn(self.client.now_ns() + TURN_NS, events)?;
            let now_ns = self.client.now_ns();
            for event in events.drain(..) {
                if let Event::Ended { session, ending } = event {
                    self.ended(session, &ending, now_ns);
                }
            }
        }
        Ok(())
    }
}
