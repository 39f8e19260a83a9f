//! A backup of everything, as a stream.

use super::{AdminHandler, Call, Outcome, Reply};

/// About how many bytes the backup will have, for the progress.
const ESTIMATE: &str = "X-Estimated-Bytes";

/// Makes a backup, whose end says whether it is whole.
pub(super) fn make(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    call.query.allow_only(&[])?;
    let backup = admin.engine.begin_backup()?;
    let estimate = backup.estimate().to_string();
    let answer = Reply::stream("application/octet-stream", None, move |out| backup.write(out));
    let name = "attachment; filename=\"boathook.backup\"";
    let answer = answer.with_header("Content-Disposition", name);
    Ok(Reply::Plain(answer.with_header(ESTIMATE, estimate)))
}
