//! What the server holds at the end of each round.

use std::fmt;
use std::fs;
use std::path::Path;

use super::load::Books;
use crate::harness::processes::{Holdings, memory};
use crate::harness::{Journal, Server};

/// Descriptors of connections and vessels, which come and go.
const DESCRIPTORS_OF_LOAD: usize = 64;
/// Memory of a debug build in a round of seconds varies by so much.
const MEMORY_NOISE_BYTES: u64 = 6 << 20;

struct Sample {
    round: usize,
    accepted: usize,
    broken: usize,
    done: usize,
    memory: u64,
    descriptors: usize,
    threads: usize,
    database: u64,
    output: u64,
    data: u64,
}

/// The samples of a day.
#[derive(Default)]
pub struct Watch(Vec<Sample>);

impl Watch {
    /// Notes how things are.
    pub fn look(&mut self, round: usize, server: &Server, books: &Books, journal: &Journal) {
        let holdings = Holdings::of(server.pid());
        self.0.push(Sample {
            round,
            accepted: books.count(),
            broken: books.broken(),
            done: journal.lines().len(),
            memory: memory(server.pid()).0,
            descriptors: holdings.descriptors,
            threads: holdings.threads,
            database: size(&server.data_dir().join("db")),
            output: size(&server.data_dir().join("output")),
            data: size(server.data_dir()),
        });
    }

    /// Nothing grows from the second quarter to the last.
    pub fn check(&self) {
        let quarter = self.0.len() / 4;
        let (second, last) = (&self.0[quarter..2 * quarter], &self.0[self.0.len() - quarter..]);
        let both = |of: fn(&Sample) -> u64| (median(second, of), median(last, of));
        let (before, after) = both(|it| it.memory);
        assert!(after <= before / 10 * 11 + MEMORY_NOISE_BYTES, "memory grows: {before} {after}");
        let (before, after) = both(|it| it.descriptors as u64);
        assert!(after <= before + DESCRIPTORS_OF_LOAD as u64, "descriptors: {before} {after}");
        let (before, after) = both(|it| it.data);
        assert!(after <= before / 10 * 13, "the disk fills up: {before} {after}");
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>5} {:>8} {:>8} {:>6} {:>8} {:>4} {:>7} {:>7} {:>9} {:>8}",
            "round",
            "accepted",
            "done",
            "broken",
            "RSS MiB",
            "fds",
            "threads",
            "db MiB",
            "output",
            "data"
        )?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        for it in &self.0 {
            writeln!(
                f,
                "{:>5} {:>8} {:>8} {:>6} {:>8.1} {:>4} {:>7} {:>7.1} {:>9.1} {:>8.1}",
                it.round,
                it.accepted,
                it.done,
                it.broken,
                mib(it.memory),
                it.descriptors,
                it.threads,
                mib(it.database),
                mib(it.output),
                mib(it.data)
            )?;
        }
        Ok(())
    }
}

fn median(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// Bytes of all files below `path`; what is removed meanwhile does not count.
fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of_entry).sum()
}
