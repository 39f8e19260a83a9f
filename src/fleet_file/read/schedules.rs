//! The schedules of a fleet: our own form and that of the hosted system.

use crate::fleet_file::cursor::Cursor;
use crate::fleet_file::{FleetFileError, keys};
use crate::model::schedule::{HOW_OFTEN, Hosted, SCHEDULES_PER_FLEET_MAX, Schedule};

const HOSTED_KEYS: &[&str] = &["how_often", "at", "when"];

/// The entries of `schedules`, then those of `triggers.schedules`.
pub fn schedules(
    own: Option<&Cursor<'_>>,
    triggers: Option<&Cursor<'_>>,
) -> Result<Vec<Schedule>, FleetFileError> {
    let mut schedules = Vec::new();
    if let Some(list) = own.filter(|list| !list.is_null()) {
        read(list, entry, &mut schedules)?;
    }
    if let Some(triggers) = triggers.filter(|triggers| !triggers.is_null()) {
        let fields = triggers.fields(&["schedules"])?;
        if let Some(list) = fields.get("schedules").filter(|list| !list.is_null()) {
            read(list, hosted, &mut schedules)?;
        }
    }
    Ok(schedules)
}

fn read(
    list: &Cursor<'_>,
    entry: impl Fn(&Cursor<'_>) -> Result<Schedule, FleetFileError>,
    schedules: &mut Vec<Schedule>,
) -> Result<(), FleetFileError> {
    for item in list.sequence()? {
        if schedules.len() == SCHEDULES_PER_FLEET_MAX {
            let message = format!(
                "more than {SCHEDULES_PER_FLEET_MAX} schedules; let one cron expression have several \
                 times, as in \"0 8,12,18 * * *\""
            );
            return Err(item.invalid(message));
        }
        schedules.push(entry(&item)?);
    }
    Ok(())
}

fn entry(cursor: &Cursor<'_>) -> Result<Schedule, FleetFileError> {
    const MISSING: &str = "missing; write the times, as in {cron: \"30 2 * * *\"}";
    if cursor.is_mapping()
        && let Some(key) = HOSTED_KEYS.iter().find_map(|key| cursor.entry(key))
    {
        return Err(key.invalid_key(
            "belongs to a schedule below `triggers`: write `triggers: {schedules: [...]}`, or `cron` here",
        ));
    }
    let fields = cursor.fields(&keys::names(keys::SCHEDULE))?;
    if fields.get("cron").is_none() {
        return Err(cursor.missing("cron", MISSING));
    }
    let mut schedule = Schedule::default();
    keys::read(keys::SCHEDULE, &fields, &mut schedule)?;
    Ok(schedule)
}

fn hosted(cursor: &Cursor<'_>) -> Result<Schedule, FleetFileError> {
    if let Some(cron) = cursor.entry("cron") {
        return Err(cron.invalid_key(
            "belongs to a schedule of its own: write `schedules: [...]` beside `vessels`",
        ));
    }
    let fields = cursor.fields(HOSTED_KEYS)?;
    let missing = |key: &str, message: &str| cursor.missing(key, message);
    let how_often = match fields.get("how_often") {
        Some(word) => keys::word(word, &HOW_OFTEN)?,
        None => {
            return Err(missing("how_often", "missing; write HOURLY, DAILY, WEEKLY or MONTHLY"));
        }
    };
    let at =
        fields.get("at").ok_or_else(|| missing("at", "missing; write when, as in \"2:00\""))?;
    how_often.time(at.text()?).map_err(|message| at.invalid(message))?;
    let when = fields.get("when").filter(|when| !when.is_null());
    let day = when.map(Cursor::text).transpose()?;
    how_often.days(day).map_err(|message| match when {
        Some(when) => when.invalid(message),
        None => missing("when", &message),
    })?;
    let (at, when) = (at.text()?.to_owned(), day.map(str::to_owned));
    let hosted = Hosted { how_often, at, when };
    let cron = hosted.cron().map_err(|message| cursor.invalid(message))?;
    Ok(Schedule { cron, hosted: Some(hosted), ..Schedule::default() })
}
