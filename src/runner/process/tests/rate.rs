//! Measures how many vessels start in a second.

use std::process::Command;

use super::*;

/// Run by hand: `cargo test --release launch_rate -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn launch_rate() {
    const THREADS: u64 = 8;
    const LAUNCHES: u64 = 1_000;
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let defaults = Settings::defaults(root.path().to_owned());
    let settings = Settings { kill_grace: GRACE, max_output_bytes: 1 << 20, ..defaults };
    let output_dir = root.path().join("output");
    let launcher = ProcessLauncher::new(Arc::new(settings), output_dir, VesselLimits::default());
    let launcher = launcher.unwrap();
    let environment: Environment = (0..50)
        .map(|index| (format!("SHIPYARD_VARIABLE_{index}"), "a value of usual length".to_owned()))
        .chain([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())])
        .collect();
    let program = Program::command(["/bin/true"]);
    let request = Request { headers: Some(vec![b'h'; 300]), body: vec![b'b'; 500] };
    let each = |act: &(dyn Fn(u64) + Sync)| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || (0..LAUNCHES).for_each(|n| act(thread * LAUNCHES + n)));
            }
        });
        (THREADS * LAUNCHES) as f64 / start.elapsed().as_secs_f64()
    };
    for _ in 0..4 {
        let bare = each(&|_| {
            assert!(Command::new("/bin/true").status().unwrap().success());
        });
        let launched = each(&|n| {
            let run = RunIds::after(None).next(Timestamp::from_millis(n as i64), n);
            let launch = Launch {
                run,
                vessel_run: run.vessel_run(0),
                attempt: 1,
                program: &program,
                working_directory: None,
                runner: None,
                cleans_first: false,
                user: None,
                confinement: &Confinement::default(),
                environment: &environment,
                references: &[],
                secrets: &[],
                payload: &request,
                runtime_cutoff: Duration::ZERO,
                may_answer: false,
                expects_directory: false,
                notices: &[],
            };
            let stop = StopSignal::new().unwrap();
            let ended = launcher.launch(&launch, &stop, &LiveOutput::default());
            assert_eq!(ended.how, HowEnded::Exited(0));
            launcher.wipe_directory(run);
        });
        println!("bare {bare:.0}/s, launched {launched:.0}/s, ratio {:.2}", launched / bare);
    }
}
