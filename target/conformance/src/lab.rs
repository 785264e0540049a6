//! What a test gets: a target, and connections to it.

use crate::conn::{Conn, LoginText};
use crate::failure::{Failure, Outcome};
use crate::mutation::Mutation;
use crate::run::Side;
use crate::site::Target;
use crate::stream::{Stream, Transcript};
use std::path::PathBuf;

/// One test's target, and the way to it.
pub struct Lab {
    target: Box<dyn Target>,
    side: Side,
    mutation: Option<Mutation>,
    transcript: Transcript,
    connections: usize,
}

impl Lab {
    /// A target whose connections lead through a man in the middle, if one is given.
    pub fn new(target: Box<dyn Target>, side: Side, mutation: Option<Mutation>) -> Self {
        Self { target, side, mutation, transcript: Transcript::default(), connections: 0 }
    }

    /// What was said so far.
    pub fn transcript(&self) -> Vec<String> {
        self.transcript.lines()
    }

    /// Which side this is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The portal, as TargetAddress writes it.
    pub fn portal(&self) -> String {
        self.target.portal()
    }

    /// A file below the target's folder.
    ///
    /// # Errors
    /// This target has no files.
    pub fn path(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.target.folder().ok_or_else(|| Failure("the twin has no files".to_owned()))?;
        Ok(folder.join(name))
    }

    /// Runs `stampede` with these arguments as the operator would.
    ///
    /// # Errors
    /// It fails.
    pub fn operate(&mut self, arguments: &[&str]) -> Outcome {
        self.target.operate(arguments)
    }

    /// Begins to shut the target down.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn drain(&mut self) -> Outcome {
        self.target.drain()
    }

    /// A connection that has said nothing yet.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&mut self) -> Outcome<Conn> {
        self.connections += 1;
        let link = self.target.connect()?;
        Ok(Conn::new(Stream::new(link, self.mutation, self.transcript.clone(), self.connections)))
    }

    /// A session that has logged in with this text.
    ///
    /// # Errors
    /// The login fails.
    pub fn session(&mut self, text: &LoginText) -> Outcome<Conn> {
        let mut conn = self.connect()?;
        conn.log_in(text).map_err(|Failure(why)| Failure(format!("login: {why}")))?;
        Ok(conn)
    }

    /// A session with the ordinary disk, whose unit attentions are cleared.
    ///
    /// # Errors
    /// It does not get there.
    pub fn ready(&mut self, text: &LoginText) -> Outcome<Conn> {
        let mut conn = self.session(text)?;
        conn.clear_attentions(0)?;
        Ok(conn)
    }

    /// The same with the ordinary text.
    ///
    /// # Errors
    /// It does not get there.
    pub fn plain(&mut self) -> Outcome<Conn> {
        self.ready(&LoginText::plain())
    }
}
