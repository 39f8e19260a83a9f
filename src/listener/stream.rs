//! Writes a streamed body to its client, from the connection's thread.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::response::Stream;
use super::socket::{Socket, Transport};

/// How long a client that has closed its half of the connection is taken to read on while the stream
/// has nothing to send.
const HALF_CLOSED_WAIT: Duration = Duration::from_secs(5);

/// Writes `stream` to `client`, in chunks if `is_chunked`. A flush fails once `is_stopping`.
///
/// # Errors
/// When the client does not have all of it.
pub(super) fn write(
    client: &mut dyn Transport,
    stream: Stream,
    is_chunked: bool,
    is_stopping: &dyn Fn() -> bool,
) -> io::Result<()> {
    let watch = ClientWatch::default();
    let mut sink = Sink { client, is_chunked, is_stopping, watch };
    (stream.write)(&mut sink)?;
    if is_chunked {
        client.write_all(b"0\r\n\r\n")?;
    }
    client.flush()
}

/// Sends each write as a chunk, or as it is.
struct Sink<'a> {
    client: &'a mut dyn Transport,
    is_chunked: bool,
    is_stopping: &'a dyn Fn() -> bool,
    watch: ClientWatch,
}

/// Watches whether a client that is sent nothing for a while is still there.
#[derive(Default)]
pub(super) struct ClientWatch {
    /// When the client was first seen to have closed its half, with nothing sent since.
    half_closed_since: Option<Instant>,
}

impl ClientWatch {
    /// Fails when the client has gone, or has closed its half and been sent nothing for long.
    pub(super) fn check(&mut self, socket: &Socket) -> io::Result<()> {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut socket = [PollFd::new(socket, PollFlags::RDHUP)];
        match poll(&mut socket, Some(&at_once)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        if socket[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let since = *self.half_closed_since.get_or_insert_with(Instant::now);
        match since.elapsed() < HALF_CLOSED_WAIT {
            true => Ok(()),
            false => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A chunk without bytes would be the last one.
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.is_chunked {
            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunk.reserve(bytes.len() + 2);
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(b"\r\n");
            self.client.write_all(&chunk)?;
        } else {
            self.client.write_all(bytes)?;
        }
        self.watch = ClientWatch::default();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if (self.is_stopping)() {
            return Err(io::Error::other("the server is stopping"));
        }
        self.client.flush()?;
        self.watch.check(self.client.socket())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use super::super::response::StreamWriter;
    use super::super::socket::Socket;
    use super::*;

    /// What the client reads of a stream, and whether the stream was written whole.
    fn streamed(length: Option<u64>, is_stopping: bool, write: StreamWriter) -> (String, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut socket = Socket::new(Arc::new(stream), Duration::from_secs(30)).unwrap();
        let stream = Stream { length, write };
        let whole = super::write(&mut socket, stream, length.is_none(), &|| is_stopping).is_ok();
        drop(socket);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        (text, whole)
    }

    fn two_writes() -> StreamWriter {
        Box::new(|out: &mut dyn Write| {
            out.write_all(b"one")?;
            out.write_all(b"")?;
            out.write_all(b"two")
        })
    }

    #[test]
    fn streams_are_framed() {
        let chunked = "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n".to_owned();
        assert_eq!(streamed(None, false, two_writes()), (chunked, true));
        assert_eq!(streamed(Some(6), false, two_writes()), ("onetwo".to_owned(), true));
    }

    #[test]
    fn a_stream_that_fails_does_not_look_complete() {
        let write = Box::new(|out: &mut dyn Write| {
            out.write_all(b"one")?;
            Err(io::Error::other("the disk is gone"))
        });
        assert_eq!(streamed(None, false, write), ("3\r\none\r\n".to_owned(), false));
    }

    #[test]
    fn a_flush_fails_when_the_server_stops() {
        let write = Box::new(|out: &mut dyn Write| out.flush());
        assert_eq!(streamed(None, true, write), (String::new(), false));
    }
}
