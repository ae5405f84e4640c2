//! Where does a request's CPU time go? Linux' `perf` looks at the worker some thousand times a second, from the functions of
//! the module, whose names V8 tells, down to the kernel.
//!
//! Every function of Envoy and of V8 keeps its frame pointer, so each look shows all callers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tollgate_tests::harness::leash::Leashed;

/// Looks at a thread in each second. Not a round number, which would be in step with timers.
const LOOKS_PER_SECOND: &str = "1999";

/// The functions that are shown.
const SHOWN: usize = 40;

/// Looks at one thread, for a while.
pub(crate) struct Looking(Leashed);

/// What was seen.
#[derive(Default)]
pub(crate) struct Profile {
    looks: u64,
    /// In the module's own code.
    in_module: u64,
    /// In what the module has called: Envoy, V8 and the kernel.
    in_calls: u64,
    /// By what Envoy has called in the module: all, and in its own code.
    entries: BTreeMap<String, (u64, u64)>,
    /// By function of the module: in itself, in its calls of Envoy, and with all that it has called.
    functions: BTreeMap<String, Function>,
}

#[derive(Clone, Copy, Default)]
struct Function {
    itself: u64,
    calls: u64,
    all: u64,
}

impl Looking {
    /// Begins. It ends by itself.
    pub(crate) fn at(thread: u32, lasts: Duration, data: &Path) -> Result<Self> {
        let mut perf = Command::new("perf");
        perf.args([
            "record",
            "-q",
            "-F",
            LOOKS_PER_SECOND,
            "-e",
            "cpu-clock",
            "-g",
            "-t",
            &thread.to_string(),
        ]);
        perf.arg("-o").arg(data).args(["--", "sleep", &lasts.as_secs_f64().to_string()]);
        perf.stdin(Stdio::null()).stdout(Stdio::null());
        let perf = Leashed::spawn(&mut perf);
        perf.map(Self).context("`perf` does not run: Debian and Ubuntu have it as linux-perf or linux-tools")
    }

    /// Waits for the end, and reads what was seen.
    pub(crate) fn end(self, data: &Path) -> Result<Profile> {
        let status = self.0.wait()?;
        ensure!(status.success(), "perf record: {status}: may you look at other processes?");
        let mut perf = Command::new("perf");
        perf.args(["script", "-F", "ip,sym,dso", "-i"]).arg(data).stderr(Stdio::null());
        let output = perf.output().context("perf script")?;
        ensure!(output.status.success(), "perf script: {}", output.status);
        Ok(Profile::read(&String::from_utf8_lossy(&output.stdout)))
    }
}

impl Profile {
    /// Reads what `perf script` writes: a paragraph for each look, a line for each frame, the innermost first.
    fn read(text: &str) -> Self {
        let mut profile = Self::default();
        for look in text.split("\n\n").filter(|look| !look.trim().is_empty()) {
            profile.add(&look.lines().filter_map(Frame::read).collect::<Vec<_>>());
        }
        profile
    }

    fn add(&mut self, frames: &[Frame<'_>]) {
        self.looks += 1;
        let named = |frame: &Frame<'_>| frame.function.map(readable);
        let Some(entry) = frames.iter().rev().filter_map(|frame| frame.function).find(|name| is_entry(name))
        else {
            return;
        };
        let is_in_module = frames.first().is_some_and(|frame| frame.is_code_of_v8);
        *if is_in_module { &mut self.in_module } else { &mut self.in_calls } += 1;
        let (all, itself) = self.entries.entry(readable(entry)).or_default();
        *all += 1;
        *itself += u64::from(is_in_module);
        let mut functions: Vec<_> = frames.iter().filter_map(named).collect();
        if let Some(innermost) = functions.first() {
            let function = self.functions.entry(innermost.clone()).or_default();
            *if is_in_module { &mut function.itself } else { &mut function.calls } += 1;
        }
        functions.sort_unstable();
        functions.dedup();
        for function in functions {
            self.functions.entry(function).or_default().all += 1;
        }
    }

    /// For the reader, in microseconds of each request.
    pub(crate) fn table(&self, per_request_us: f64, bare_us: f64) -> String {
        let us = |looks: u64| looks as f64 * per_request_us / self.looks.max(1) as f64;
        let outside = self.looks - self.in_module - self.in_calls;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{per_request_us:.1} µs a request, by {} looks; bare Envoy {bare_us:.1} µs",
            self.looks
        );
        let _ = writeln!(text, "{:8.1}  in the module's own code", us(self.in_module));
        let _ = writeln!(text, "{:8.1}  in what it calls", us(self.in_calls));
        let _ = writeln!(text, "{:8.1}  in the rest of Envoy and in the kernel", us(outside));
        let _ = writeln!(text, "\n{:>8} {:>8}  by what Envoy calls in the module", "all", "itself");
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(_, (all, _))| std::cmp::Reverse(*all));
        for (name, (all, itself)) in entries {
            let _ = writeln!(text, "{:8.1} {:8.1}  {name}", us(*all), us(*itself));
        }
        let _ = writeln!(text, "\n{:>8} {:>8} {:>8}  by function of the module", "all", "itself", "calls");
        let mut functions: Vec<_> = self.functions.iter().collect();
        functions.sort_by_key(|(_, function)| std::cmp::Reverse(function.itself + function.calls));
        for (name, Function { all, itself, calls }) in functions.into_iter().take(SHOWN) {
            let _ = writeln!(text, "{:8.1} {:8.1} {:8.1}  {name}", us(*all), us(*itself), us(*calls));
        }
        text
    }
}

/// A function on the stack.
struct Frame<'t> {
    is_code_of_v8: bool,
    /// Its name, if it is the module's.
    function: Option<&'t str>,
}

impl<'t> Frame<'t> {
    /// `ADDRESS NAME (FILE)`, where code that V8 has made is in no file, or in that of its names.
    fn read(line: &'t str) -> Option<Self> {
        let (name, file) = line.trim().split_once(' ')?.1.rsplit_once(" (")?;
        let is_code_of_v8 = file.contains("/perf-") || file.contains("anon") || file.starts_with("[JIT]");
        let function = name.strip_prefix("JS:").filter(|_| is_code_of_v8);
        Some(Self { is_code_of_v8, function })
    }
}

/// Whether Envoy calls this function of the module.
fn is_entry(name: &str) -> bool {
    name.starts_with("proxy_on_")
}

/// `NAME-INDEX-COMPILER`, without what only the compilers need.
fn readable(name: &str) -> String {
    let name = name.rsplitn(3, '-').last().unwrap_or(name);
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_folded_by_entry_and_by_function() {
        let outside =
            "\n\t  5b4e7 [unknown] (/usr/bin/envoy)\n\t  891f5 start_thread (/usr/lib/libc.so.6)\n\n";
        let entry = "\n\t  3d47 JS:proxy_on_log-687-turbofan (/tmp/perf-7.map)\n\t  12 Stub:c-wasm-entry:iii:i (/tmp/perf-7.map)";
        let inner = "\n\t  3d44 JS:_ZN4core4hash4mult17h0123456789abcdefE-9-turbofan (/tmp/perf-7.map)";
        let call = "\n\t  2c87 [unknown] (/usr/bin/envoy)\n\t  121e [unknown] (//anon)";
        let text = [outside, inner, entry, outside, call, inner, entry, outside].concat();
        let profile = Profile::read(&text);
        assert_eq!((profile.looks, profile.in_module, profile.in_calls), (3, 1, 1));
        assert_eq!(profile.entries["proxy_on_log"], (2, 1));
        let Function { itself, calls, all } = profile.functions["core::hash::mult"];
        assert_eq!((itself, calls, all), (1, 1, 2));
        let Function { itself, calls, all } = profile.functions["proxy_on_log"];
        assert_eq!((itself, calls, all), (0, 0, 2));
        let table = profile.table(300.0, 80.0);
        assert!(table.contains("   100.0  in the module's own code"), "{table}");
        assert!(table.contains("   200.0    100.0    100.0  core::hash::mult"), "{table}");
    }
}
