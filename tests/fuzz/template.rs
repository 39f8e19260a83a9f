#![no_main]

mod oracle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracle::senders::template(input));
