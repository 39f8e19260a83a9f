//! A backup of everything, as a stream.

use super::{AdminHandler, Call, Outcome, Reply};

/// Makes a backup, whose end says whether it is whole.
pub(super) fn make(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    call.query.allow_only(&[])?;
    let backup = admin.engine.begin_backup()?;
    let answer = Reply::stream("application/octet-stream", None, move |out| backup.write(out));
    let name = "attachment; filename=\"boathook.backup\"";
    Ok(Reply::Plain(answer.with_header("Content-Disposition", name)))
}
