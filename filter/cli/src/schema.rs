//! Which fields are there?

mod reference;

use crate::End;
use crate::arguments::Arguments;
use crate::paint::print;
use tollgate::config;

/// Prints the schema for editors, or the reference for readers.
pub(crate) fn schema(arguments: &Arguments) -> Result<End, String> {
    if !arguments.files.is_empty() {
        return Err("the schema is of no file".to_owned());
    }
    let schema = config::schema();
    let text =
        if arguments.is_set("markdown") { reference::markdown(&schema) } else { format!("{schema:#}\n") };
    print(&text);
    Ok(End::Well)
}
