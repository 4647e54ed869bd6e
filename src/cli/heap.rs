//! How much memory the C library keeps for itself.
//!
//! glibc gives every thread a heap of its own, and keeps more of what is given back to it the larger that was. For an agent that
//! fills a page now and then this is more than all it remembers. It can be told otherwise by variables that glibc reads
//! before `main`, so the agent begins twice.

/// One heap for all threads, of which what is free at its end goes back to the system above 512 kB; a page of a few MB comes from
/// there too, because what is taken from the system for each page would be cleared for each.
#[cfg(target_env = "gnu")]
const FRUGAL: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "4194304"), ("MALLOC_TRIM_THRESHOLD_", "524288")];

/// Starts this program anew, as the same process, with the variables by which glibc is frugal. Where one of them or
/// `GLIBC_TUNABLES` is set, somebody knows better; where the program cannot be started anew, it goes on as it is.
#[cfg(target_env = "gnu")]
pub(super) fn be_frugal() {
    use std::os::unix::process::CommandExt as _;

    let is_told = FRUGAL.iter().map(|(name, _)| *name).chain(["GLIBC_TUNABLES"]);
    if is_told.into_iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
        // It comes back only where it failed.
        let _ = std::process::Command::new(program).arg0(name).args(arguments).envs(FRUGAL).exec();
    }
}

/// Other C libraries keep little.
#[cfg(not(target_env = "gnu"))]
pub(super) fn be_frugal() {}
