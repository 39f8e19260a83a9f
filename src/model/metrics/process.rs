//! Metrics of this process from proc(5), with the names that Prometheus's own libraries use.

use std::fs;

use super::text::Text;

/// The fields of `/proc/self/stat` that become metrics.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Clock ticks, in user and in kernel mode.
    cpu_ticks: u64,
    threads: u64,
    /// Clock ticks since the machine was booted.
    started_at: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// Writes the metrics that the system gives; the others are left out.
pub fn write(text: &mut Text) {
    if let Some(stat) = read("/proc/self/stat").as_deref().and_then(parse_stat) {
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
        let page = rustix::param::page_size() as u64;
        let (cpu, resident) = (seconds(stat.cpu_ticks), stat.resident_pages.saturating_mul(page));
        text.counter("process_cpu_seconds_total", "Processor time used, in seconds.", cpu);
        text.gauge("process_resident_memory_bytes", "Memory in use.", resident);
        text.gauge("process_virtual_memory_bytes", "Address space in use.", stat.virtual_bytes);
        text.gauge("process_threads", "Threads.", stat.threads);
        if let Some(booted_at) = read("/proc/stat").as_deref().and_then(parse_boot_time) {
            let started_at = booted_at as f64 + seconds(stat.started_at);
            let help = "When the process started, in seconds since the Unix epoch.";
            text.gauge("process_start_time_seconds", help, started_at);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Without the descriptor of the listing itself.
        let open = open.count().saturating_sub(1);
        text.gauge("process_open_fds", "File descriptors in use.", open);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if let Some(max) = limit.current {
        text.gauge("process_max_fds", "File descriptors there may be.", max);
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Reads a line of proc_pid_stat(5).
fn parse_stat(line: &str) -> Option<Stat> {
    // The second field is the program's name, which may hold spaces and parentheses.
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Numbered from 1 in the manual; the first two are gone.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)?.saturating_add(field(15)?),
        threads: field(20)?,
        started_at: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

/// When the machine was booted, in seconds since the epoch, from proc_stat(5).
fn parse_boot_time(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_does_not_matter() {
        let line = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 250 13 14 15 16 9 18 4000 8192 77 21";
        let expected = Stat {
            cpu_ticks: 400,
            threads: 9,
            started_at: 4000,
            virtual_bytes: 8192,
            resident_pages: 77,
        };
        assert_eq!(parse_stat(line), Some(expected));
        assert_eq!(parse_stat("12 (a) S 1"), None);
        assert_eq!(parse_boot_time("cpu 1\nbtime 1700000000\n"), Some(1_700_000_000));
    }

    #[test]
    fn this_process_has_all_of_it() {
        let mut text = Text::default();
        write(&mut text);
        assert_eq!(text.into_string().matches("# TYPE process_").count(), 7);
    }
}
