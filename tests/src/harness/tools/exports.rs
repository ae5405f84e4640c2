//! Which of the module's exports is Envoy to find?
//!
//! The SDK exports a function for every callback that there is, and Envoy calls each that it finds, whether anything is done
//! there or not. What does nothing here is not exported. Not decided here: what the functions do.

use anyhow::{Context, Result, bail, ensure};

/// Envoy asks by it whether a stream may go, and takes it for granted where there is no such function. Nobody here says no.
/// <https://github.com/proxy-wasm/proxy-wasm-cpp-host/blob/main/src/context.cc> (`ContextBase::onDone`)
const UNCALLED: [&str; 1] = ["proxy_on_done"];

/// The section that lists them. <https://webassembly.github.io/spec/core/binary/modules.html#export-section>
const EXPORTS: u8 = 7;

/// What every module begins with: its magic number and its version.
const PREAMBLE_BYTES: usize = 8;

/// A number of 32 bits in LEB128 has no more.
const LEB128_BYTES_MAX: usize = 5;

/// The module without the exports that do nothing.
///
/// # Errors
/// It is no module, or does not export what is to be taken out.
pub(super) fn without_uncalled(module: &[u8]) -> Result<Vec<u8>> {
    let (preamble, mut rest) = module.split_at_checked(PREAMBLE_BYTES).context("the module is empty")?;
    let mut written = preamble.to_vec();
    while let Some((&section, content)) = rest.split_first() {
        let (bytes, content) = number(content)?;
        let (content, after) =
            content.split_at_checked(bytes).context("a section of the module is cut off")?;
        let content = if section == EXPORTS { called(content)? } else { content.to_vec() };
        written.push(section);
        write(content.len(), &mut written);
        written.extend(content);
        rest = after;
    }
    Ok(written)
}

fn called(exports: &[u8]) -> Result<Vec<u8>> {
    let (count, mut rest) = number(exports)?;
    let (mut kept, mut entries) = (0, Vec::<u8>::new());
    for _ in 0..count {
        let (name_bytes, after) = number(rest)?;
        let (name, after) = after.split_at_checked(name_bytes).context("an export's name is cut off")?;
        // Which kind of thing it is, and which of them.
        let (_, after) = number(after.get(1..).context("an export is cut off")?)?;
        let entry = rest.get(..rest.len() - after.len()).unwrap_or_default();
        if !UNCALLED.iter().any(|uncalled| uncalled.as_bytes() == name) {
            kept += 1;
            entries.extend(entry);
        }
        rest = after;
    }
    ensure!(kept + UNCALLED.len() == count, "the module does not export all of {UNCALLED:?}");
    let mut section = Vec::new();
    write(kept, &mut section);
    section.extend(entries);
    Ok(section)
}

/// Reads a number in LEB128.
fn number(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(LEB128_BYTES_MAX) {
        number |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((number, bytes.get(at + 1..).unwrap_or_default()));
        }
    }
    bail!("a number of the module is cut off")
}

fn write(mut number: usize, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}
