//! How does V8 tell the names of the code that it makes?
//!
//! With its flag `perf_basic_prof` it writes them to `/tmp/perf-PID.map`, where Linux' `perf` looks for them. Envoy passes no
//! flags to V8, so this one is set in the memory of the new process. V8 has a table of its flags in its program, each with its
//! name and the place of its value: <https://github.com/v8/v8/blob/main/src/flags/flags.cc>. In a position-independent
//! program both are relocations without a symbol.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// As V8's table has it.
const FLAG: &[u8] = b"perf_basic_prof\0";

/// Of the table's rows, the value's place stands behind the name's.
const VALUE_BEHIND_NAME: u64 = 8;

/// `R_X86_64_RELATIVE` and `R_AARCH64_RELATIVE`: a place in the program, wherever it was loaded.
const RELATIVE: [u64; 2] = [8, 1027];

/// ELF's word for relocations with addends, and the sizes of its records.
const SHT_RELA: u32 = 4;
const SECTION_BYTES: usize = 64;
const RELOCATION_BYTES: usize = 24;

/// Makes V8 in a process that has just been started tell the names. It has to be done before Envoy loads a module, some tens
/// of milliseconds later.
pub(super) fn tell_names(pid: u32, program: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let place = place_of_flag(&bytes)
        .context("this Envoy's V8 has no flag perf_basic_prof where it is looked for")?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("where Envoy is in memory")?;
    let base = base(&maps, program).context("Envoy's program is not in its own memory")?;
    let memory = OpenOptions::new().write(true).open(format!("/proc/{pid}/mem"))?;
    memory.write_all_at(&[1], base + place).context("V8's flag cannot be set in Envoy's memory")
}

/// Where the program begins in memory: the first of its mappings.
fn base(maps: &str, program: &Path) -> Option<u64> {
    let program = program.canonicalize().ok()?;
    let line = maps.lines().find(|line| line.ends_with(&*program.to_string_lossy()))?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}

/// Where the flag's value is, counted from the beginning of the program.
fn place_of_flag(program: &[u8]) -> Option<u64> {
    let name = address_of_name(program)?;
    let sections = sections(program)?;
    let relocations = sections.filter(|section| section.kind == SHT_RELA);
    let mut places = Vec::new();
    let mut rows = Vec::new();
    for section in relocations {
        let table = program.get(section.offset..)?.get(..section.bytes)?;
        for record in table.chunks_exact(RELOCATION_BYTES) {
            let (at, kind, addend) = (number(record, 0)?, number(record, 8)?, number(record, 16)?);
            if RELATIVE.contains(&kind) {
                if addend == name {
                    rows.push(at + VALUE_BEHIND_NAME);
                }
                places.push((at, addend));
            }
        }
    }
    let row = *rows.first().filter(|_| rows.len() == 1)?;
    places.iter().find(|(at, _)| *at == row).map(|(_, place)| *place)
}

/// The flag's name in the program: what is read only is loaded where it stands in the file.
fn address_of_name(program: &[u8]) -> Option<u64> {
    let at = program
        .windows(FLAG.len() + 1)
        .position(|window| window.first() == Some(&0) && window.ends_with(FLAG))?;
    u64::try_from(at + 1).ok()
}

struct Section {
    kind: u32,
    offset: usize,
    bytes: usize,
}

/// The sections of a 64-bit little-endian ELF file.
fn sections(program: &[u8]) -> Option<impl Iterator<Item = Section>> {
    let table = program.get(usize::try_from(number(program, 40)?).ok()?..)?;
    let count = u16::from_le_bytes(program.get(60..62)?.try_into().ok()?);
    Some(table.chunks_exact(SECTION_BYTES).take(count.into()).filter_map(|header| {
        Some(Section {
            kind: u32::from_le_bytes(header.get(4..8)?.try_into().ok()?),
            offset: usize::try_from(number(header, 24)?).ok()?,
            bytes: usize::try_from(number(header, 32)?).ok()?,
        })
    }))
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
    fn the_flag_is_found_by_its_name_and_its_relocation() {
        let mut program = vec![0; 64];
        let name = program.len() as u64 + 1;
        program.push(0);
        program.extend_from_slice(FLAG);
        let relocations = program.len();
        for (at, kind, addend) in [(100, 1, name), (104, 8, 7), (200, 8, name), (208, 8, 4711), (216, 8, 1)] {
            for word in [at, kind, addend] {
                program.extend_from_slice(&u64::to_le_bytes(word));
            }
        }
        let table = program.len();
        let mut section = vec![0; SECTION_BYTES];
        section[4] = 4;
        section[24..32].copy_from_slice(&(relocations as u64).to_le_bytes());
        section[32..40].copy_from_slice(&((table - relocations) as u64).to_le_bytes());
        program.extend_from_slice(&section);
        program[40..48].copy_from_slice(&(table as u64).to_le_bytes());
        program[60] = 1;
        assert_eq!(place_of_flag(&program), Some(4711));
        program[64] = b'x';
        assert_eq!(place_of_flag(&program), None, "another flag's end is no name");
    }
}
