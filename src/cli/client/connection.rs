//! Connections to an admin listener. The server proves that it holds the token before ureq gets the
//! connection, so no request of a client goes over a connection without that proof.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ureq::unversioned::transport::time::Duration as Limit;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Error, Timeout};

use super::proof::Question;
use crate::cli::locate::{Located, Outlook};

/// How long connecting may take: the server is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens connections to the server that holds a token.
#[derive(Debug)]
pub(super) struct ProvenConnector {
    question: Question,
    outlook: Outlook,
}

impl ProvenConnector {
    pub(super) fn new(located: &Located) -> Self {
        let question = Question {
            url: located.url.clone(),
            token: located.token.clone(),
            is_address_known: located.is_recorded,
        };
        Self { question, outlook: located.outlook() }
    }

    fn open(&self, address: SocketAddr) -> Result<TcpStream, Error> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        match self.question.ask(&stream, &|| self.outlook.is_stopped()) {
            Ok(()) => Ok(stream),
            Err(unproved) => Err(Error::Other(Box::new(unproved))),
        }
    }
}

impl Connector<()> for ProvenConnector {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Connection>, Error> {
        let mut problem = None;
        for address in &details.addrs {
            match self.open(*address) {
                Ok(stream) => {
                    let (input, output) =
                        (details.config.input_buffer_size(), details.config.output_buffer_size());
                    let buffers = LazyBuffers::new(input, output);
                    return Ok(Some(Connection { stream, buffers }));
                }
                // A listener without proof is the better explanation than a refused connection.
                Err(_) if matches!(problem, Some(Error::Other(_))) => {}
                Err(error) => problem = Some(error),
            }
        }
        Err(problem.unwrap_or(Error::HostNotFound))
    }
}

/// A connection that has proved itself.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(limit(&timeout)?)?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| timed_out(error, timeout.reason))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(limit(&timeout)?)?;
        loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(count) => {
                    self.buffers.input_appended(count);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error, timeout.reason)),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        let Ok(()) = self.stream.set_nonblocking(true) else { return false };
        let seen = self.stream.peek(&mut [0]);
        let is_idle = seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        is_idle && self.stream.set_nonblocking(false).is_ok()
    }
}

/// The time limit of one call; `None`: no limit.
fn limit(timeout: &NextTimeout) -> Result<Option<Duration>, Error> {
    match timeout.after {
        Limit::NotHappening => Ok(None),
        Limit::Exact(Duration::ZERO) => Err(Error::Timeout(timeout.reason)),
        Limit::Exact(left) => Ok(Some(left)),
    }
}

fn timed_out(error: io::Error, reason: Timeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(reason),
        _ => error.into(),
    }
}
