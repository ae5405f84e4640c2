//! How does V8 compile the module, and does it tell the names of the code that it makes?
//!
//! Envoy passes no flags to V8, so those that are wanted are set in the memory of the new process. V8 has a table of its flags
//! in its program, each with its name and the place of its value: <https://github.com/v8/v8/blob/main/src/flags/flags.cc>. In a
//! position-independent program both are relocations without a symbol.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// What V8 is to do with the module of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compile {
    /// In a third of the time, because V8 does not inline and unroll anew what the compiler has. For tests: the module and what
    /// it does are the same, only its speed is not.
    #[default]
    Briefly,
    /// As everywhere else.
    AsShipped,
    /// As everywhere else, and the names of its functions are written to `/tmp/perf-PID.map`, where Linux' `perf` looks for them.
    WithNames,
}

impl Compile {
    /// Flags of V8, and their values.
    #[must_use]
    pub fn flags(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Briefly => {
                &[("wasm_inlining", false), ("wasm_loop_unrolling", false), ("wasm_loop_peeling", false)]
            }
            Self::AsShipped => &[],
            Self::WithNames => &[("perf_basic_prof", true)],
        }
    }
}

/// Of the table's rows, the value's place stands behind the name's.
const VALUE_BEHIND_NAME: u64 = 8;

/// `R_X86_64_RELATIVE` and `R_AARCH64_RELATIVE`: a place in the program, wherever it was loaded.
const RELATIVE: [u64; 2] = [8, 1027];

/// ELF's word for relocations with addends.
const SHT_RELA: u32 = 4;
/// ELF's word for a section that is written when the program runs.
const SHF_WRITE: u64 = 1;
/// The sizes of ELF's records.
const SECTION_BYTES: usize = 64;
const RELOCATION_BYTES: usize = 24;

/// Where the values of flags are, counted from the beginning of the program.
#[derive(Debug, Default)]
pub struct Places {
    /// Of those that are set, in their order.
    pub flags: Vec<u64>,
    untouched: u64,
}

/// Those in programs that were read before.
static PLACES: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
type Known = HashMap<(PathBuf, Compile), Arc<Places>>;

/// V8 has this from its beginning, until Envoy turns it off before it loads its first module.
const UNTOUCHED: &str = "liftoff";

/// How long a process may take to stand still.
const STILL_WITHIN: Duration = Duration::from_secs(60);

/// Sets the flags in a process that has just been started. Tests that only take longer without them go on.
///
/// # Errors
/// The names are not told.
pub fn set(compile: Compile, places: Result<Arc<Places>>, pid: u32, program: &Path) -> Result<()> {
    let set = places.and_then(|places| halt_and_set(compile, &places, pid, program));
    if let Err(why) = set {
        ensure!(compile == Compile::Briefly, why);
        eprintln!("tollgate: V8 compiles as always, which takes longer: {why:#}");
    }
    Ok(())
}

/// All of the flags, or none where V8 has begun to compile: it ends a process whose flags change under its work.
fn halt_and_set(compile: Compile, places: &Places, pid: u32, program: &Path) -> Result<()> {
    let flags = compile.flags();
    if flags.is_empty() {
        return Ok(());
    }
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("this is no process")?;
    kill_process(process, Signal::STOP).context("Envoy cannot be halted")?;
    let set = stands_still(pid).and_then(|()| write(flags, places, pid, program));
    kill_process(process, Signal::CONT).context("Envoy cannot go on")?;
    set
}

fn stands_still(pid: u32) -> Result<()> {
    let since = Instant::now();
    loop {
        let about = fs::read_to_string(format!("/proc/{pid}/stat")).context("Envoy has ended")?;
        // Its name before that may have anything in it.
        let state = about.rsplit_once(") ").and_then(|(_, state)| state.chars().next());
        match state {
            Some('T') => return Ok(()),
            Some('Z' | 'X') | None => bail!("Envoy has ended"),
            Some(_) => {}
        }
        ensure!(since.elapsed() < STILL_WITHIN, "Envoy did not halt");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn write(flags: &[(&str, bool)], places: &Places, pid: u32, program: &Path) -> Result<()> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("where Envoy is in memory")?;
    let base = base(&maps, program).context("Envoy's program is not in its own memory")?;
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
    let mut untouched = [0];
    memory.read_exact_at(&mut untouched, base + places.untouched)?;
    ensure!(untouched == [1], "V8 has begun before its flags could be set");
    for ((name, value), place) in flags.iter().zip(&places.flags) {
        let written = memory.write_all_at(&[u8::from(*value)], base + place);
        written.with_context(|| format!("V8's flag {name} cannot be set in Envoy's memory"))?;
    }
    Ok(())
}

/// Where the flags are: to be looked for before there is a process that would not wait for it.
///
/// # Errors
/// The program cannot be read, or has no such flag.
pub fn places(compile: Compile, program: &Path) -> Result<Arc<Places>> {
    if compile.flags().is_empty() {
        return Ok(Arc::default());
    }
    let mut known = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    let of = (program.to_owned(), compile);
    if let Some(places) = known.get(&of) {
        return Ok(places.clone());
    }
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let elf = Program::read(&bytes).context("Envoy's program is no ELF file of 64 bits")?;
    let place = |name| {
        elf.place_of(name)
            .with_context(|| format!("this Envoy's V8 has no flag {name} where it is looked for"))
    };
    let flags = compile.flags().iter().map(|(name, _)| place(name)).collect::<Result<_>>()?;
    let places = Arc::new(Places { flags, untouched: place(UNTOUCHED)? });
    known.insert(of, places.clone());
    Ok(places)
}

/// Where the program begins in memory: the first of its mappings.
fn base(maps: &str, program: &Path) -> Option<u64> {
    let program = program.canonicalize().ok()?;
    let line = maps.lines().find(|line| line.ends_with(&*program.to_string_lossy()))?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}

/// What of a program is read here.
struct Program<'a> {
    bytes: &'a [u8],
    sections: Vec<Section>,
    /// Each place that has the address of another, and that one.
    relocations: HashMap<u64, u64>,
}

struct Section {
    kind: u32,
    is_writable: bool,
    address: u64,
    offset: u64,
    bytes: u64,
}

impl<'a> Program<'a> {
    /// A 64-bit little-endian ELF file.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let table = bytes.get(usize::try_from(number(bytes, 40)?).ok()?..)?;
        let count = u16::from_le_bytes(bytes.get(60..62)?.try_into().ok()?);
        let section = |header: &[u8]| {
            Some(Section {
                kind: u32::from_le_bytes(header.get(4..8)?.try_into().ok()?),
                is_writable: number(header, 8)? & SHF_WRITE != 0,
                address: number(header, 16)?,
                offset: number(header, 24)?,
                bytes: number(header, 32)?,
            })
        };
        let sections: Option<Vec<_>> =
            table.chunks_exact(SECTION_BYTES).take(count.into()).map(section).collect();
        let mut program = Self { bytes, sections: sections?, relocations: HashMap::new() };
        for section in program.sections.iter().filter(|section| section.kind == SHT_RELA) {
            let table = bytes.get(usize::try_from(section.offset).ok()?..)?;
            let table = table.get(..usize::try_from(section.bytes).ok()?)?;
            for record in table.chunks_exact(RELOCATION_BYTES) {
                let (at, kind, addend) = (number(record, 0)?, number(record, 8)?, number(record, 16)?);
                if RELATIVE.contains(&kind) {
                    program.relocations.insert(at, addend);
                }
            }
        }
        Some(program)
    }

    /// Where the flag's value is: in memory that is written, behind the one place that points to its name. What is read only is
    /// loaded where it stands in the file.
    fn place_of(&self, flag: &str) -> Option<u64> {
        let name = format!("{flag}\0").into_bytes();
        let is_name = |at: u64| {
            usize::try_from(at)
                .is_ok_and(|at| self.bytes.get(at..).is_some_and(|text| text.starts_with(&name)))
        };
        let is_value = |at: &u64| {
            let mut written = self.sections.iter().filter(|section| section.is_writable);
            written.any(|section| (section.address..section.address + section.bytes).contains(at))
        };
        let names = self.relocations.iter().filter(|(_, to)| is_name(**to));
        let mut values = names
            .filter_map(|(at, _)| self.relocations.get(&(at + VALUE_BEHIND_NAME)))
            .filter(|place| is_value(place));
        values.next().copied().filter(|_| values.next().is_none())
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Whether the names of this process are told.
///
/// # Errors
/// They are not.
pub fn are_told(pid: u32) -> Result<()> {
    let names = names_of(pid);
    let told = fs::read_to_string(&names).unwrap_or_default();
    ensure!(told.contains("JS:proxy_on_"), "V8 has not written the names of the module's code to {names}");
    Ok(())
}

/// Where the names of a process' code are.
#[must_use]
pub fn names_of(pid: u32) -> String {
    format!("/tmp/perf-{pid}.map")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_found_by_its_name_and_its_relocation() {
        const FLAG: &[u8] = b"perf_basic_prof\0";
        let mut program = vec![0; 64];
        let name = program.len() as u64 + 1;
        program.push(0);
        program.extend_from_slice(FLAG);
        let relocations = program.len();
        let in_list = [(300, 8, name), (308, 8, 70)];
        for (at, kind, addend) in [(100, 1, name), (104, 8, 7), (200, 8, name), (208, 8, 4711), (216, 8, 1)]
            .into_iter()
            .chain(in_list)
        {
            for word in [at, kind, addend] {
                program.extend_from_slice(&u64::to_le_bytes(word));
            }
        }
        let table = program.len();
        for (kind, flags, address, offset, bytes) in
            [(4, 2, 0, relocations, table - relocations), (1, 3, 4700, 0, 12), (1, 2, 0, 0, 100)]
        {
            let mut section = [0; SECTION_BYTES];
            section[4] = kind;
            section[8] = flags;
            section[16..24].copy_from_slice(&u64::to_le_bytes(address));
            section[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
            section[32..40].copy_from_slice(&(bytes as u64).to_le_bytes());
            program.extend_from_slice(&section);
        }
        program[40..48].copy_from_slice(&(table as u64).to_le_bytes());
        program[60] = 3;
        let found = |flag: &str| Program::read(&program).unwrap().place_of(flag);
        assert_eq!(found("perf_basic_prof"), Some(4711));
        assert_eq!(found("basic_prof"), None, "another flag's end is no name");
        assert_eq!(found("perf_basic"), None, "another flag's beginning is no name");
    }
}
