//! Tells the program which burn it is built with, for the report.

use std::fs;

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = fs::read_to_string("Cargo.lock").unwrap_or_default();
    let after = lock.split("name = \"burn\"\nversion = \"").nth(1).unwrap_or("unknown\"");
    let version = after.split('"').next().unwrap_or_default();
    println!("cargo::rustc-env=BURN_VERSION={version}");
}
