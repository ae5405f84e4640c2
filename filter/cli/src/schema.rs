//! Which fields are there?

mod reference;

use crate::End;
use crate::arguments::Schema;
use crate::paint::print;
use tollgate::config;

/// Prints the schema for editors, or the reference for readers.
pub(crate) fn schema(arguments: &Schema) -> End {
    let schema = config::schema();
    let text = if arguments.markdown { reference::markdown(&schema) } else { format!("{schema:#}\n") };
    print(&text);
    End::Well
}
