//! One request and its answer: claims what waits under an announced id, has it answered, and sees to
//! it that the answer is written.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use super::Shared;
use super::output;
use crate::listener::message::{Body, Outcome, Request, Response};
use crate::listener::reply::{self, Persistence};
use crate::listener::{GREETING, Line, Parcel, Reply, Shortcut, Waiting};
use crate::model::limits;

/// An answer that is to be waited for, and where it goes.
pub(super) struct Due {
    answer: Box<dyn FnOnce() -> Response + Send>,
    way: Way,
}

/// Leads to the gate, which relays what is written.
type Writer = Box<dyn Write + Send>;

/// Where an answer goes.
struct Way {
    /// Leads to the gate, which relays what is written; `None` when the request has come over the lane.
    writer: Option<Writer>,
    /// Leads to the client.
    shortcut: Option<Arc<Shortcut>>,
    is_head: bool,
    /// Whatever happens to the answer, nobody waits for it in vain.
    cutter: Cutter,
}

/// Answers `exchange`, or leaves it to whoever receives what is `due`.
pub(super) fn serve(shared: &Arc<Shared>, exchange: tiny_http::Request, due: &Sender<Due>) {
    let waiting = shared.passage.claim(exchange.url());
    let is_greeting = exchange.url() == GREETING;
    let writer = exchange.into_writer();
    match waiting {
        Some(Waiting::Request(parcel)) => answer(shared, *parcel, writer, due),
        Some(Waiting::Response(write)) => write(writer),
        None if is_greeting => output::write_greeting(writer),
        // Whoever announced it has given it up since.
        None => {}
    }
}

fn answer(shared: &Arc<Shared>, mut parcel: Parcel, writer: Writer, due: &Sender<Due>) {
    let cutter = Cutter { line: Arc::clone(&parcel.line), is_armed: true };
    let is_head = parcel.head.method == "HEAD";
    let shortcut = parcel.shortcut.take();
    // Nothing is written to the lane: others are on it.
    let writer = (shortcut.is_none() || !shared.passage.has_lane()).then_some(writer);
    let way = Way { writer, shortcut, is_head, cutter };
    let is_large = parcel.body.length() > limits::BODY_INLINE_BYTES_MAX as u64;
    let due = due.clone();
    let decide = move |shared: &Arc<Shared>| decide(shared, parcel, way, &due);
    // A large body is read from a file, and may be stored in slices, each of which is waited for.
    let refused = if is_large { shared.spawn_lasting(decide).err() } else { Some(decide) };
    // Better here than not at all.
    if let Some(decide) = refused {
        decide(shared);
    }
}

/// Lets the handler decide on the request in `parcel`.
fn decide(shared: &Arc<Shared>, mut parcel: Parcel, way: Way, due: &Sender<Due>) {
    let outcome = handle(shared, &mut parcel);
    // The body's space is others' now.
    drop(parcel);
    match outcome {
        Outcome::Answered(answer) => deliver(shared, answer, way),
        Outcome::Later(answer) => {
            // Its receiver outlasts those who answer.
            let _ = due.send(Due { answer, way });
        }
    }
}

/// Waits for an answer, and sends it on its way.
pub(super) fn settle(shared: &Arc<Shared>, due: Due) {
    let Due { answer, way } = due;
    deliver(shared, or_failed(shared, answer), way);
}

fn deliver(shared: &Arc<Shared>, answer: Response, way: Way) {
    let Response { status, headers, body } = answer;
    match body {
        Body::Bytes(body) => send(shared, &Reply { status, headers, body }, way),
        Body::Stream(stream) => {
            let Way { writer, shortcut, is_head, cutter } = way;
            drop(shortcut);
            let is_lasting = stream.is_lasting;
            relay(shared, writer, cutter, move |shared, mut writer, cutter| {
                let write = move |shared: &Arc<Shared>| {
                    let head = reply::head(status, &headers, stream.length);
                    let is_over = || shared.stopping.load(Ordering::SeqCst) || cutter.line.is_cut();
                    let written = output::write(&mut *writer, &head, stream, is_head, &is_over);
                    cutter.finish(shared, written);
                };
                match is_lasting {
                    // Without a thread it is dropped, and the client told that the server has failed.
                    true => drop(shared.spawn_lasting(write)),
                    false => write(shared),
                }
            });
        }
    }
}

fn send(shared: &Arc<Shared>, reply: &Reply, way: Way) {
    let Way { writer, shortcut, is_head, cutter } = way;
    if let Some(entered) = shortcut.as_ref().and_then(|way| way.enter(reply)) {
        // Others may be answered over its link as soon as this is sent.
        drop(writer);
        cutter.finish(shared, Ok(()));
        entered.send(reply);
        return;
    }
    drop(shortcut);
    // What becomes of the client's connection, the gate adds.
    let bytes = reply.to_bytes(Persistence::Kept, is_head);
    relay(shared, writer, cutter, move |shared, mut writer, cutter| {
        let written = writer.write_all(&bytes).and_then(|()| writer.flush());
        cutter.finish(shared, written);
    });
}

/// Lets `write` write an answer to the link: at once, or when that was announced over it.
fn relay(
    shared: &Arc<Shared>,
    writer: Option<Writer>,
    cutter: Cutter,
    write: impl FnOnce(&Arc<Shared>, Writer, Cutter) + Send + 'static,
) {
    let Some(writer) = writer else {
        let (line, of_claimer) = (Arc::clone(&cutter.line), Arc::clone(shared));
        let write = Box::new(move |writer: Writer| write(&of_claimer, writer, cutter));
        // When the line is cut, nobody waits for the answer any more.
        let _ = shared.passage.bring(&line, write);
        return;
    };
    write(shared, writer, cutter);
}

/// Lets the handler answer.
fn handle(shared: &Shared, parcel: &mut Parcel) -> Outcome {
    let head = &mut parcel.head;
    let mut request = Request {
        method: std::mem::take(&mut head.method),
        path: std::mem::take(&mut head.path),
        query: std::mem::take(&mut head.query),
        headers: std::mem::take(&mut head.headers),
        remote_addr: parcel.remote_addr,
        received_at: parcel.received_at,
        length: parcel.body.length(),
        body: &mut parcel.body,
    };
    or_failed(shared, || shared.handler.handle(&mut request))
}

/// What `answer` returns; its panic becomes a 500.
fn or_failed<T: From<Response>>(shared: &Shared, answer: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(answer)).unwrap_or_else(|_| {
        log::error!(listener = shared.name; "a request's handler panicked");
        shared.handler.refuse(500, "the server failed at this request; its log says more").into()
    })
}

/// Cuts the line of an answer, unless it came to its end.
struct Cutter {
    line: Arc<Line>,
    is_armed: bool,
}

impl Cutter {
    fn finish(mut self, shared: &Shared, written: io::Result<()>) {
        self.is_armed = written.is_err();
        if let Err(error) = written {
            log::debug!(listener = shared.name, error:% = error; "an answer ended early");
        }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        if self.is_armed {
            self.line.cut();
        }
    }
}
