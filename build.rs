//! Rebuilds when a definition appears: `include_dir!` notices changed files, not new ones.

fn main() {
    println!("cargo::rerun-if-changed=checks");
}
