//! Makes this process hard to look into: from other programs of the same user, from crash dumps, and from code that an
//! attacker got to run in it.
//!
//! # Out of scope
//! Whoever owns the kernel or the machine. Against them stands what hardware says (the evidence), not this.

use std::fmt;

/// What was done, and what was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which it was tried.
    pub steps: Vec<Step>,
}

/// One measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is for, in words.
    pub what: &'static str,
    /// How it went.
    pub outcome: Outcome,
}

/// How a measure went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds from now on.
    Done,
    /// The system refused: its words, and what to do next.
    Refused {
        /// Why.
        cause: String,
        /// The next command or step.
        next: &'static str,
    },
}

impl Report {
    /// Whether everything holds.
    pub fn is_complete(&self) -> bool {
        self.refused().next().is_none()
    }

    /// What does not hold.
    pub fn refused(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.outcome != Outcome::Done)
    }

    fn add(&mut self, what: &'static str, result: Result<(), String>, next: &'static str) {
        let outcome = match result {
            Ok(()) => Outcome::Done,
            Err(cause) => Outcome::Refused { cause, next },
        };
        self.steps.push(Step { what, outcome });
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Done => write!(f, "{}: yes", self.what),
            Outcome::Refused { cause, next } => write!(f, "{}: no: {cause}; {next}", self.what),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// Hardens this process and every process that it starts, as far as the system lets it. To be called first of all, before
/// there are keys, prompts or threads.
pub fn process() -> Report {
    let mut report = Report::default();
    #[cfg(unix)]
    report.add(
        "no core dumps",
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).map_err(words),
        "start the provider with `ulimit -c 0`",
    );
    #[cfg(target_os = "linux")]
    linux::process(&mut report);
    #[cfg(target_os = "macos")]
    report.add(
        "debuggers cannot attach",
        crate::os::deny_attach().map_err(words),
        "end the debugger that is attached, and start the provider without one",
    );
    report.add(
        "keys in software may be locked out of the swap area",
        crate::os::lock(&[0_u8; 64]).map_err(words),
        "raise the limit: `ulimit -l`, or `LimitMEMLOCK=` in its systemd unit",
    );
    #[cfg(target_os = "linux")]
    report.add(
        "no swap area",
        linux::swap(),
        "switch it off with `swapoff -a`, or encrypt it with a key of each start (crypttab: `swap`)",
    );
    report
}

fn words(error: impl fmt::Display) -> String {
    error.to_string()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use nix::sys::prctl;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

    use super::{Report, words};

    pub(super) fn process(report: &mut Report) {
        report.add(
            "other programs of this user cannot read the memory",
            prctl::set_dumpable(false).map_err(words),
            "run the provider as a user of its own",
        );
        report.add(
            "no program it starts gains rights",
            prctl::set_no_new_privs().map_err(words),
            "use a kernel of version 3.5 or later",
        );
        report.add(
            "the system calls to read other processes, trace or change the kernel are refused",
            filter(),
            "use a kernel with CONFIG_SECCOMP_FILTER",
        );
    }

    /// Refuses calls that neither the daemon nor the runtime of models ever makes. Everything else stays allowed: a list of
    /// what is allowed would break with each version of the runtime.
    fn filter() -> Result<(), String> {
        let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(words)?;
        let rules = denied().map(|call| (call, Vec::new())).collect();
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).map_err(words)?;
        let program = BpfProgram::try_from(filter).map_err(words)?;
        // All threads: one that is there already would otherwise stay free.
        seccompiler::apply_filter_all_threads(&program).map_err(words)
    }

    fn denied() -> impl Iterator<Item = i64> {
        let all = EVERYWHERE.iter().copied();
        #[cfg(target_arch = "x86_64")]
        let all = {
            // The same calls under the numbers of the x32 interface, which passes for the same architecture.
            let x32 = EVERYWHERE.iter().map(|call| call | X32);
            all.chain(ONLY_X86_64).chain(x32).chain(ONLY_X32.map(|call| call | X32))
        };
        all
    }

    /// That no swap area is in use.
    pub(super) fn swap() -> Result<(), String> {
        let areas = fs::read_to_string("/proc/swaps").map_err(words)?;
        match areas.lines().skip(1).filter_map(|line| line.split_whitespace().next()).next() {
            None => Ok(()),
            Some(area) => Err(format!("what is in memory, prompts included, may be written to {area}")),
        }
    }

    const EVERYWHERE: [i64; 35] = [
        libc::SYS_acct,
        libc::SYS_adjtimex,
        libc::SYS_bpf,
        libc::SYS_chroot,
        libc::SYS_clock_adjtime,
        libc::SYS_clock_settime,
        libc::SYS_delete_module,
        libc::SYS_finit_module,
        libc::SYS_fsmount,
        libc::SYS_fsopen,
        libc::SYS_init_module,
        libc::SYS_kcmp,
        libc::SYS_kexec_file_load,
        libc::SYS_kexec_load,
        libc::SYS_mount,
        libc::SYS_move_mount,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_perf_event_open,
        libc::SYS_personality,
        libc::SYS_pidfd_getfd,
        libc::SYS_pivot_root,
        libc::SYS_process_madvise,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_ptrace,
        libc::SYS_quotactl,
        libc::SYS_reboot,
        libc::SYS_setns,
        libc::SYS_settimeofday,
        libc::SYS_swapoff,
        libc::SYS_swapon,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_userfaultfd,
    ];

    #[cfg(target_arch = "x86_64")]
    const ONLY_X86_64: [i64; 3] = [libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt];
    #[cfg(target_arch = "x86_64")]
    const X32: i64 = 0x4000_0000;
    /// ptrace, kexec_load, process_vm_readv and process_vm_writev have numbers of their own there.
    #[cfg(target_arch = "x86_64")]
    const ONLY_X32: [i64; 4] = [521, 528, 539, 540];
}
