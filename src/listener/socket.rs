//! A client's socket with deadlines. They bound every read above it, TLS included.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connections::ConnectionHandle;

/// Timeouts are rounded up to this, so that most requests of a connection find the one they need
/// set already, which saves a system call.
const TIMEOUT_STEP: Duration = Duration::from_millis(20);
/// The kernel takes a timeout of less than its tick for none.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// Lets as many connections wait to be accepted at `listener` as the system allows
/// (net.core.somaxconn). The standard library asks for 128, beyond which the kernel drops the first
/// packet of a connection and its client stalls for a second.
///
/// # Errors
/// When `listener` is not bound.
pub fn widen_backlog(listener: &impl AsFd) -> io::Result<()> {
    // The kernel takes its maximum for what exceeds that.
    Ok(rustix::net::listen(listener, i32::MAX)?)
}

/// The byte stream of a connection: the socket itself, or TLS over it.
pub trait Transport: Read + Write + Send {
    /// The socket below.
    fn socket(&mut self) -> &mut Socket;

    /// Whether what is written to it reaches the socket as it is.
    fn is_plain(&self) -> bool;

    /// Ends the stream to the client. Arriving bytes can still be read.
    ///
    /// # Errors
    /// When the connection is gone already.
    fn finish(&mut self) -> io::Result<()>;
}

/// See the module. Reads and writes fail with [`io::ErrorKind::TimedOut`] when time is up.
#[derive(Debug)]
pub struct Socket {
    stream: Arc<TcpStream>,
    /// When reading is given up, however much has come by then.
    read_by: Instant,
    /// What SO_RCVTIMEO is.
    timeout: Duration,
    /// Told when bytes arrive.
    waiting: Option<ConnectionHandle>,
}

impl Socket {
    /// Over `stream`. A write fails when nothing of it can be sent for `write_timeout`; reads must
    /// be given a deadline first.
    ///
    /// # Errors
    /// When the socket is unusable.
    pub fn new(stream: Arc<TcpStream>, write_timeout: Duration) -> io::Result<Self> {
        stream.set_write_timeout(Some(write_timeout.max(TIMEOUT_MIN)))?;
        let (read_by, timeout) = (Instant::now(), Duration::ZERO);
        Ok(Self { stream, read_by, timeout, waiting: None })
    }

    /// Reads fail from `deadline` on.
    pub fn read_until(&mut self, deadline: Instant) {
        self.read_by = deadline;
    }

    /// The next read tells `handle` of arriving bytes before it consumes them: a connection that seems
    /// idle can be given up, and bytes read by then would be lost.
    pub(super) fn tell_of_bytes(&mut self, handle: ConnectionHandle) {
        self.waiting = Some(handle);
    }

    /// Makes a close of the socket reset the connection, so that the client takes no part for the whole.
    pub fn reset_on_close(&mut self) {
        let _ = rustix::net::sockopt::set_socket_linger(&*self.stream, Some(Duration::ZERO));
    }

    /// The next byte, left where it is; `None` when nothing more will come.
    ///
    /// # Errors
    /// As reading.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let read = self.in_time(|stream| stream.peek(&mut first))?;
        Ok((read > 0).then_some(first[0]))
    }

    /// Does `read` until the deadline.
    fn in_time(
        &mut self,
        mut read: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let left = self.read_by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.set_timeout(left)?;
            match read(&self.stream) {
                Err(error) if is_transient(&error) => {}
                read => return read,
            }
        }
    }

    /// Makes the kernel wait for at least `left`, and not for much longer.
    fn set_timeout(&mut self, left: Duration) -> io::Result<()> {
        if self.timeout < left || self.timeout > left + 2 * TIMEOUT_STEP {
            let steps = left.as_nanos().div_ceil(TIMEOUT_STEP.as_nanos());
            let timeout = TIMEOUT_STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
            self.stream.set_read_timeout(Some(timeout))?;
            self.timeout = timeout;
        }
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(handle) = self.waiting.take()
            && self.peek()?.is_some()
        {
            handle.note_bytes();
        }
        self.in_time(|mut stream| stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.stream).write(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Socket {
    fn socket(&mut self) -> &mut Socket {
        self
    }

    fn is_plain(&self) -> bool {
        true
    }

    fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Whether reading again may do.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        (client, Socket::new(Arc::new(stream), Duration::from_millis(50)).unwrap())
    }

    #[test]
    fn a_trickle_does_not_move_the_deadline() {
        let (client, mut socket) = pair();
        let trickle = thread::spawn(move || {
            for _ in 0..1000 {
                if (&client).write_all(b"x").is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        socket.read_until(Instant::now() + Duration::from_millis(100));
        let error = loop {
            match socket.read(&mut [0]) {
                Ok(0) => panic!("the trickle was read to its end"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(socket);
        trickle.join().unwrap();
    }

    #[test]
    fn a_write_to_a_client_that_never_reads_times_out() {
        let (_client, mut socket) = pair();
        let error = socket.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
