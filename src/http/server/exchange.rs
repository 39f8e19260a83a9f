//! One request and its answer: claims what waits under a forwarded request's id, has it answered,
//! and writes the answer.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::Shared;
use super::output;
use crate::gate::{Line, Parcel};
use crate::http::message::{Answer, Body, Outcome, Request};

/// An answer that is to be waited for, and where it goes.
pub(super) struct Due {
    answer: Box<dyn FnOnce() -> Answer + Send>,
    way: Way,
}

/// Where an answer goes.
struct Way {
    writer: Box<dyn Write + Send>,
    is_head: bool,
    /// Whatever happens to the answer, nobody waits for it in vain.
    cutter: Cutter,
}

/// Answers `exchange`, or leaves it to whoever receives what is `due`.
pub(super) fn serve(shared: &Arc<Shared>, exchange: tiny_http::Request, due: &Sender<Due>) {
    let parcel = shared.passage.claim(exchange.url());
    let writer = exchange.into_writer();
    match parcel {
        Some(parcel) => answer(shared, parcel, writer, due),
        // The first word on a new connection.
        None => output::write_greeting(writer),
    }
}

fn answer(
    shared: &Arc<Shared>,
    mut parcel: Parcel,
    writer: Box<dyn Write + Send>,
    due: &Sender<Due>,
) {
    let cutter = Cutter { line: Arc::clone(&parcel.line), is_armed: true };
    let way = Way { writer, is_head: parcel.head.method == "HEAD", cutter };
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

fn deliver(shared: &Arc<Shared>, answer: Answer, way: Way) {
    let Way { mut writer, is_head, cutter } = way;
    match answer.body {
        Body::Stream(stream) if stream.is_lasting => {
            let answer = Answer { body: Body::Stream(stream), ..answer };
            shared.spawn_lasting(move |shared| {
                let written = output::write(shared, &mut *writer, answer, is_head, &cutter.line);
                cutter.finish(shared, written);
            });
        }
        _ => {
            let written = output::write(shared, &mut *writer, answer, is_head, &cutter.line);
            cutter.finish(shared, written);
        }
    }
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
fn or_failed<T: From<Answer>>(shared: &Shared, answer: impl FnOnce() -> T) -> T {
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
