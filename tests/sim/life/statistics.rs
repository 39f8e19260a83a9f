//! Statistics: every run that ended counts once, in the hour of its acceptance, whatever crashed and
//! whatever was removed since.

use std::collections::BTreeMap;

use boathook::internals::statistics::{Hour, KEPT_FOR, Tally};
use boathook::internals::{RunRecord, Scope};

use super::Life;

/// Hours that are looked at: a month.
const HOURS: u32 = 720;

impl Life {
    /// Removes what was counted long ago.
    pub(super) fn sweep_statistics(&mut self) {
        let oldest = Hour::of(self.machine.now().minus(KEPT_FOR));
        self.counted_since = self.counted_since.max(Some(oldest));
        self.call(|engine| engine.sweep_statistics());
    }

    /// The statistics say what a list of all runs that ever ended says.
    pub(super) fn check_statistics(&self) {
        let ended: Vec<RunRecord> = self.disk.lock().rows.ended.values().cloned().collect();
        self.check_scope(Scope::Everything, &ended);
        for fleet in &self.fleets {
            let of_fleet = ended.iter().filter(|run| run.fleet_id == fleet.id);
            self.check_scope(Scope::Fleet(fleet.id), &of_fleet.cloned().collect::<Vec<_>>());
        }
    }

    fn check_scope(&self, scope: Scope, ended: &[RunRecord]) {
        let told = self.engine().statistics(scope, HOURS).hours;
        let told: Vec<(Hour, Tally)> =
            told.into_iter().filter(|(hour, _)| Some(*hour) >= self.counted_since).collect();
        let mut by_hour: BTreeMap<Hour, Vec<&RunRecord>> = BTreeMap::new();
        ended.iter().for_each(|run| by_hour.entry(Hour::of(run.queued_at)).or_default().push(run));
        for (hour, tally) in &told {
            let runs = by_hour.get(hour).map_or(&[][..], Vec::as_slice);
            for status in Tally::ENDS {
                let expected = runs.iter().filter(|run| run.status == status).count();
                assert_eq!(
                    tally.of(status) as usize,
                    expected,
                    "{status} of {scope:?} in {hour:?}"
                );
            }
            let mut waited: Vec<u128> = runs
                .iter()
                .filter_map(|run| Some(run.started_at?.since(run.queued_at).as_millis()))
                .collect();
            waited.sort_unstable();
            assert_eq!(tally.duration.count() as usize, waited.len());
            let median = tally.waiting.percentile(50).map(u128::from);
            let exact = waited.get(waited.len().saturating_sub(1) / 2).copied();
            assert_eq!(median.is_some(), exact.is_some());
            let (median, exact) = (median.unwrap_or_default(), exact.unwrap_or_default());
            assert!(median.abs_diff(exact) <= exact / 16, "{median} ms for {exact} ms");
        }
    }
}
