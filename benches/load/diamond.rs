//! What joining vessels to a graph costs: vessels finished per second while a queue of diamonds of
//! four `/bin/true` drains, against the same number of vessels as runs of their own.

use serde_json::{Value, json};

use crate::drain::{WORKERS, drained};
use crate::median;

const VESSELS: usize = 4_000;
const ROUNDS: usize = 3;

pub fn run() {
    let vessel = json!({"command": ["/bin/true"]});
    let single = json!({"name": "single", "vessels": {"main": vessel}});
    let diamond = json!({
        "name": "diamond",
        "vessels": {"top": vessel, "left": vessel, "right": vessel, "bottom": vessel},
        "connections": {
            "top": {"left": "SUCCESS", "right": "SUCCESS"},
            "left": {"bottom": "SUCCESS"},
            "right": {"bottom": "SUCCESS"},
        },
    });
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (singles, diamonds) = (drain(&single), drain(&diamond));
        let ratio = diamonds / singles;
        println!("diamonds {diamonds:>5.0} vessels/s   single runs {singles:>5.0}/s   {ratio:.2}");
        ratios.push(ratio);
    }
    println!("ratio (median of {ROUNDS})          {:.2}   (at least 0.6)", median(&mut ratios));
}

/// Vessels finished per second while runs of `fleet` drain.
fn drain(fleet: &Value) -> f64 {
    let vessels = fleet["vessels"].as_object().expect("vessels").len();
    drained("diamond", WORKERS, &[], fleet, VESSELS / vessels) * vessels as f64
}
