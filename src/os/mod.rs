//! What the process asks of the operating system and of its service manager, and the end of the
//! process when it cannot go on. Knows nothing of fleets and runs.

pub mod activation;
pub mod alarm;
pub mod close_on_exec;
pub mod control_groups;
pub mod core_limit;
pub mod descriptor_budget;
pub mod fatal;
pub mod hidden_input;
pub mod lock_file;
pub mod logging;
pub mod memory;
pub mod outbound;
pub mod priority;
pub mod private_file;
pub mod signals;
pub mod spawn;
pub mod systemd;
pub mod terminal;
pub mod text_file;
pub mod threads;
pub mod tls_roots;
