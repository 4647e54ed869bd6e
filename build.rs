//! Rebuilds when a definition appears: `include_dir!` notices changed files, not new ones. And when functions are to lie in another
//! order, of which only the linker knows.

fn main() {
    for input in ["checks", "packaging/functions", "packaging/link-in-order", "packaging/list-functions"] {
        println!("cargo::rerun-if-changed={input}");
    }
}
